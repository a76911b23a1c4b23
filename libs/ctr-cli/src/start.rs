// SPDX-License-Identifier: Apache-2.0
//! A tool's beginning and end: arguments in, exit code out.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind as ClapKind;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use crate::{Context, Error};

/// Runs a tool: parses its arguments, calls `main`, prints the error if there is one.
///
/// Misuse is exit code 2. `--completions SHELL` as the only argument prints the shell's completions.
pub fn run<A: Parser + CommandFactory>(main: impl FnOnce(A) -> Result<ExitCode, Error>) -> ExitCode {
    begin();
    match parse::<A>(std::env::args_os().collect()) {
        Ok(args) => finish::<A>(main(args)),
        Err(Stop::Done(code)) => code,
        Err(Stop::Misuse(error)) => finish::<A>(Err(error)),
    }
}

/// Why there are no arguments to go on with.
#[derive(Debug)]
pub enum Stop {
    /// Help, the version or completions were asked for, and printed.
    Done(ExitCode),
    /// They make no sense.
    Misuse(Error),
}

/// What comes first in every tool that does not call [`run`].
pub fn begin() {
    ctr_sys::signal::restore_sigpipe();
}

/// What comes last in it: prints the error, if there is one, and says what to exit with.
pub fn finish<A: CommandFactory>(result: Result<ExitCode, Error>) -> ExitCode {
    result.unwrap_or_else(|error| render(tool_name::<A>(), &error))
}

/// Parses a tool's arguments, its name first.
pub fn parse<A: Parser + CommandFactory>(args: Vec<OsString>) -> Result<A, Stop> {
    if let [_, flag, shell] = &args[..]
        && flag == "--completions"
    {
        return Err(Stop::Done(print_completions::<A>(&shell.to_string_lossy())));
    }
    A::try_parse_from(args).map_err(|error| explain_misuse::<A>(&error))
}

/// Prints an error, as one line or as JSON with `CTR_ERRORS=json`, and returns its exit code.
pub fn render(tool: &str, error: &Error) -> ExitCode {
    let json = std::env::var_os("CTR_ERRORS").is_some_and(|value| value == "json");
    let line = if json { error.to_json(tool) } else { error.to_text(tool) };
    tell(&line);
    ExitCode::from(error.exit_code())
}

/// Writes a line to standard error. When that is full or closed nobody is left to tell, which must not end this
/// process amid its work, as `eprintln` would.
pub fn tell(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

fn tool_name<A: CommandFactory>() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| A::command().get_name().to_owned())
}

fn explain_misuse<A: CommandFactory>(error: &clap::Error) -> Stop {
    let tool = tool_name::<A>();
    let misuse = |what: &str| Stop::Misuse(Error::misuse(what).with_hint(format!("see {tool} --help")));
    match error.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => {
            let _ = std::io::stdout().lock().write_all(error.render().to_string().as_bytes());
            Stop::Done(ExitCode::SUCCESS)
        }
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => misuse("a command is missing"),
        _ => {
            // The first paragraph says what is wrong; the rest is usage, which --help has.
            let text = error.render().to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.split_whitespace().skip_while(|word| *word == "error:").collect();
            misuse(&words.join(" "))
        }
    }
}

fn print_completions<A: CommandFactory>(shell: &str) -> ExitCode {
    let tool = tool_name::<A>();
    match shell.parse::<Shell>() {
        Ok(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut A::command(), tool, &mut script);
            let mut stdout = std::io::stdout().lock();
            let printed = stdout.write_all(&script).and_then(|()| stdout.flush());
            match printed.unable_to(|| "write to standard output") {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => render(tool, &error),
            }
        }
        Err(_) => {
            render(tool, &Error::misuse(format!("no completions for {shell:?}: bash, zsh, fish and elvish have them")))
        }
    }
}
