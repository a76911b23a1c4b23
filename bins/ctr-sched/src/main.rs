// SPDX-License-Identifier: Apache-2.0
//! `ctr-sched`: runs a command when one of the machine's few places to start in is free.
//!
//! It knows nothing of containers. It waits its turn, becomes the command, and leaves it the place as an
//! inherited lock; `ctr-run` and `ctr-shim` give that back once they have started, any other program when
//! it ends.

mod each;
mod lines;
mod records;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;
use ctr_cli::{Context, Error, StateArgs};
use ctr_record::ErrorKind;
use ctr_store::StateDir;
use ctr_store::sched::{Inherited, MAX_LIMIT, PLACE_VARIABLE, Scheduler};

/// Limits how many containers start at once on this machine, first come first served.
#[derive(Debug, Parser)]
#[command(name = "ctr-sched", version)]
struct Args {
    /// Start when fewer than this many are starting [default: the limit set with --set-limit, 10]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIMIT)))]
    limit: Option<u32>,
    /// Run the command once for each record on standard input, whatever it is
    #[arg(long, conflicts_with = "once")]
    each: bool,
    /// Run the command once and leave standard input to it, whatever it is
    #[arg(long)]
    once: bool,
    /// Print the limit, who is starting and who waits
    #[arg(long, conflicts_with_all = ["limit", "each", "once", "command"])]
    status: bool,
    /// Set the limit for starts that give none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIMIT)))]
    #[arg(conflicts_with_all = ["limit", "each", "once", "status", "command"])]
    set_limit: Option<u32>,
    #[command(flatten)]
    state: StateArgs,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required_unless_present_any = ["status", "set_limit"])]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    ctr_cli::run(schedule)
}

fn schedule(args: Args) -> Result<ExitCode, Error> {
    // The command's own options may begin with a dash, the command may not.
    if let Some(option) = args.command.first().filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        let message = format!("unexpected argument {:?} found", option.to_string_lossy());
        return Err(Error::misuse(message).with_hint("see ctr-sched --help"));
    }
    if args.status {
        ctr_cli::emit(&open(&args.state)?.status()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(limit) = args.set_limit {
        open(&args.state)?.set_limit(limit)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Under another ctr-sched: starting is this one's business from here on. To keep the outer place while
    // waiting for an inner one would be a deadlock as soon as every place is an outer one.
    if let Some(outer) = Inherited::take() {
        outer.release();
    }
    let each = args.each || (!args.once && !io::stdin().is_terminal() && records::are_read_by(&args.command));
    match each {
        true => each::run(&args),
        false => {
            let scheduler = open(&args.state)?;
            let turn = wait_turn(&scheduler, args.limit, &args.command);
            let place = turn.unable_to(|| "wait for a place to start in").map_err(|error| error.with_exit_code(125))?;
            Err(become_command(&args.command, place))
        }
    }
}

fn open(state: &StateArgs) -> Result<Scheduler, Error> {
    Ok(Scheduler::open(&StateDir::open(&state.dir()?)?)?)
}

/// Waits for a place, which is then the command's: the number of its descriptor.
fn wait_turn(scheduler: &Scheduler, limit: Option<u32>, command: &[OsString]) -> Result<RawFd, Error> {
    let limit = limit.map_or_else(|| scheduler.limit(), Ok)?;
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    Ok(scheduler.acquire(limit, &words)?.into_inheritable()?)
}

/// Becomes the command; returns only when that fails.
fn become_command(command: &[OsString], place: RawFd) -> Error {
    let (program, arguments) = command.split_first().expect("clap requires a command");
    let error = Command::new(program).args(arguments).env(PLACE_VARIABLE, place.to_string()).exec();
    let (kind, code) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, 127),
        other => (ErrorKind::of_io(&io::Error::from(other)), 126),
    };
    let failed: Result<(), Error> = Err(Error::new(kind, error));
    failed.unable_to(|| format!("run {}", program.to_string_lossy())).unwrap_err().with_exit_code(code)
}
