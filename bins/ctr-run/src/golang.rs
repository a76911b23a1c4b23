// SPDX-License-Identifier: Apache-2.0
//! The command line as Go's flag packages take it, which is what runc's callers write.
//!
//! There `-root DIR` is `--root DIR`. containerd's shim restores with `-no-subreaper`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;

use crate::args::Args;

/// Doubles the dash of single-dashed words that are the names of long options.
///
/// What follows `--` is the container's, and so is what follows the first plain words of `exec`: neither
/// is touched.
pub(crate) fn normalise(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> = args.collect();
    let suspicious = |arg: &OsString| matches!(arg.as_bytes(), [b'-', b'a'..=b'z', b'a'..=b'z', ..]);
    if !args.iter().any(suspicious) {
        return args; // and no list of options is made
    }
    let command = Args::command();
    let of = |command: &clap::Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect()
    };
    let mut known = of(&command);
    let mut result = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    result.extend(args.next());
    let mut in_exec = None; // how many plain words exec has had
    while let Some(arg) = args.next() {
        if arg == "--" || in_exec == Some(1) && !arg.as_bytes().starts_with(b"-") {
            result.push(arg);
            result.extend(args);
            return result;
        }
        if !arg.as_bytes().starts_with(b"-") {
            match command.find_subcommand(&arg) {
                Some(subcommand) if in_exec.is_none() => {
                    known.extend(of(subcommand));
                    in_exec = (subcommand.get_name() == "exec").then_some(0);
                }
                _ => in_exec = in_exec.map(|words| words + 1),
            }
        }
        result.push(if is_single_dashed(&arg, &known) { double(&arg) } else { arg });
    }
    result
}

fn is_single_dashed(arg: &OsStr, known: &[String]) -> bool {
    let Some(word) = arg.as_bytes().strip_prefix(b"-") else { return false };
    let name = word.split(|b| *b == b'=').next().unwrap_or_default();
    name.len() > 1 && known.iter().any(|long| long.as_bytes() == name)
}

fn double(arg: &OsStr) -> OsString {
    let mut doubled = OsString::from("-");
    doubled.push(arg);
    doubled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(line: &str) -> String {
        let args = normalise(line.split(' ').map(OsString::from));
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn single_dashes_become_double_ones() {
        assert_eq!(normalised("ctr-run -root /r run -bundle=/b -d x"), "ctr-run --root /r run --bundle=/b -d x");
    }

    #[test]
    fn what_belongs_to_the_container_is_left_alone() {
        for line in ["ctr-run exec -d x sh -cwd", "ctr-run exec x ls -user", "ctr-run -it", "ctr-run run -- -bundle"] {
            assert_eq!(normalised(line), line);
        }
    }
}
