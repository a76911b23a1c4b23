// SPDX-License-Identifier: Apache-2.0
//! The command line as Go's flag packages take it, which is what runc's callers write.
//!
//! There `-root DIR` is `--root DIR`, `--detach=false` is no `--detach`, and the word after an option that
//! takes a value is that value, whatever it looks like. containerd's shim restores with `-no-subreaper`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{ArgAction, CommandFactory};
use ctr_cli::{Error, Stop};

use crate::args::{Args, with_only_command};

/// Parses the words of a command line, the program's name first.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Args, Stop> {
    if words.iter().any(|word| word == "-h" || word == "--help")
        && let Some(topic) = unknown_topic(&words)
    {
        return Err(Stop::Misuse(Error::misuse(format!("No help topic for '{}'", topic.display()))));
    }
    // -bundle would be -b with the value undle, so such words are looked at first; what else differs is an
    // error at first sight.
    let single_dashed = |word: &OsString| matches!(word.as_bytes(), [b'-', b'a'..=b'z', b'a'..=b'z', ..]);
    if !words.iter().any(single_dashed) {
        // What is asked is nearly always right, and about one command. What else is to be said takes them all.
        if !words.iter().any(|word| word == "help" || word == "-h" || word == "--help") {
            match with_only_command(&words, || ctr_cli::parse(words.clone())) {
                Err(Stop::Misuse(_)) => {}
                result => return result,
            }
        }
        match ctr_cli::parse(words.clone()) {
            Err(Stop::Misuse(error)) => {
                let adapted = adapt(words.clone()).map_err(Stop::Misuse)?;
                return if adapted == words { Err(Stop::Misuse(error)) } else { ctr_cli::parse(adapted) };
            }
            result => return result,
        }
    }
    ctr_cli::parse(adapt(words).map_err(Stop::Misuse)?)
}

/// The command among the words, if there is one.
pub(crate) fn command_of(words: &[OsString]) -> Option<String> {
    let command = Args::command();
    let name = words.iter().skip(1).find_map(|word| command.find_subcommand(word))?.get_name();
    Some(name.to_owned())
}

// What stands where a command should, and is none.
fn unknown_topic(words: &[OsString]) -> Option<OsString> {
    let program = Args::command();
    // Options have their values in the same word then.
    let first = adapt(words.to_vec()).ok()?.into_iter().skip(1).find(|word| !word.as_bytes().starts_with(b"-"))?;
    program.find_subcommand(&first).is_none().then_some(first).filter(|first| first != "help")
}

/// Writes what Go's packages take the way that is usual elsewhere. What belongs to the container is not
/// touched: what follows `--`, and what follows the id given to a command that hands words on.
fn adapt(words: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let mut program = Args::command();
    program.build();
    let mut command = &program;
    let mut result = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    result.extend(words.next());
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            result.push(word);
            break;
        }
        let Some(option) = bytes.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else {
            let hands_on = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
            if let Some(subcommand) = program.find_subcommand(&word).filter(|_| std::ptr::eq(command, &program)) {
                command = subcommand;
            } else if hands_on {
                result.push(word);
                break;
            }
            result.push(word);
            continue;
        };
        match find(command, option) {
            Some((arg, value)) => result.extend(write(arg, value, &mut words)?),
            None => result.push(word),
        }
    }
    result.extend(words);
    Ok(result)
}

// The option that a word without its first dash names, and the value in the word. A cluster of short ones
// is none: what takes a value can only be its last.
fn find<'a>(command: &'a clap::Command, option: &[u8]) -> Option<(&'a clap::Arg, Option<OsString>)> {
    let option = option.strip_prefix(b"-").unwrap_or(option);
    let (name, value) = match option.iter().position(|byte| *byte == b'=') {
        Some(at) => (&option[..at], Some(OsString::from_vec(option[at + 1..].to_vec()))),
        None => (option, None),
    };
    let name = std::str::from_utf8(name).ok()?;
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    let named = |arg: &&clap::Arg| arg.get_long() == Some(name) || letter.is_some() && arg.get_short() == letter;
    command.get_arguments().find(named).map(|arg| (arg, value))
}

fn write(
    arg: &clap::Arg,
    value: Option<OsString>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<Option<OsString>, Error> {
    let Some(long) = arg.get_long() else { return Ok(None) };
    let mut word = OsString::from(format!("--{long}"));
    let takes_value = arg.get_num_args().is_none_or(|count| count.min_values() > 0);
    match arg.get_action() {
        ArgAction::Set | ArgAction::Append if takes_value => {
            let value = value.or_else(|| rest.next());
            let value = value.ok_or_else(|| Error::misuse(format!("flag needs an argument: --{long}")))?;
            word.push("=");
            word.push(value);
            Ok(Some(word))
        }
        _ => match value.as_deref().map(OsStr::as_bytes) {
            None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(Some(word)),
            Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => match arg.get_action() {
                // Here it says more than nothing.
                ArgAction::Set => {
                    word.push("=false");
                    Ok(Some(word))
                }
                _ => Ok(None),
            },
            Some(_) => {
                let value = value.unwrap_or_default();
                Err(Error::misuse(format!("invalid boolean value {value:?} for --{long}: it is true or false")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(line: &str) -> String {
        let args = adapt(line.split(' ').map(OsString::from).collect());
        let shown = |args: Vec<OsString>| args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        args.map(shown).unwrap_or_else(|error| error.to_line())
    }

    #[test]
    fn single_dashes_become_double_ones() {
        let line = adapted("ctr-run -root /r run -bundle=/b -pid-file -p -d x");
        assert_eq!(line, "ctr-run --root=/r run --bundle=/b --pid-file=-p --detach x");
    }

    #[test]
    fn a_switch_takes_true_or_false() {
        assert_eq!(adapted("ctr-run run --detach=true -keep=0 --no-pivot=F x"), "ctr-run run --detach x");
        assert_eq!(adapted("ctr-run --debug=x list"), "invalid boolean value \"x\" for --debug: it is true or false");
        assert_eq!(adapted("ctr-run exec -no-new-privs=0 x ls"), "ctr-run exec --no-new-privs=false x ls");
        assert_eq!(adapted("ctr-run exec -no-new-privs x ls"), "ctr-run exec --no-new-privs x ls");
    }

    #[test]
    fn an_option_may_be_the_last_word_but_not_without_its_value() {
        assert_eq!(adapted("ctr-run run x --bundle /b"), "ctr-run run x --bundle=/b");
        assert_eq!(adapted("ctr-run run x --bundle"), "flag needs an argument: --bundle");
        assert_eq!(adapted("ctr-run exec -e"), "flag needs an argument: --env");
    }

    #[test]
    fn what_belongs_to_the_container_is_left_alone() {
        for line in ["ctr-run exec --detach x sh -cwd", "ctr-run exec x -e ls", "ctr-run -it", "ctr-run run -- -bundle"]
        {
            assert_eq!(adapted(line), line);
        }
        assert_eq!(adapted("ctr-run exec -e a=b x ls -user -- -cwd"), "ctr-run exec --env=a=b x ls -user -- -cwd");
        assert_eq!(adapted("ctr-run ps -format json x -ef"), "ctr-run ps --format=json x -ef");
    }

    #[test]
    fn a_command_is_found_behind_the_global_options() {
        let words = ["ctr-run", "--root", "/r", "exec", "run"].map(OsString::from);
        assert_eq!(command_of(&words).as_deref(), Some("exec"));
        assert_eq!(command_of(&["ctr-run".into(), "--record".into()]), None);
    }
}
