// SPDX-License-Identifier: Apache-2.0
//! `ctr-task`: the verbs on supervised containers.
//!
//! It talks to nobody: what it knows of a container it reads from the task's files, and what it does, it
//! does to the container's processes and files itself.

mod delete;
mod get;
mod kill;
mod list;
mod logs;
mod machine;
mod processes;
mod store;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ctr_cli::{Error, StateArgs};

use crate::store::Store;

/// Lists, inspects, signals, awaits, deletes supervised containers, and prints their logs.
#[derive(Debug, Parser)]
#[command(name = "ctr-task", version)]
struct Args {
    #[command(flatten)]
    state: StateArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the containers
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Print all about containers: their processes, how they are kept, the machine
    Get(get::Args),
    /// Send a signal
    Kill(kill::Args),
    /// Wait for the end, and exit with the container's status
    Wait(wait::Args),
    /// Remove containers that have ended, with all that is left of them
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    /// Print a container's output
    Logs(logs::Args),
}

fn main() -> ExitCode {
    ctr_cli::run(|args: Args| {
        // Its exit codes are the container's, apart from its own failures.
        if let Verb::Wait(wait) = &args.verb {
            let open = Store::open(&args.state).map_err(|error| error.with_exit_code(wait::FAILED));
            return wait::wait(&open?, wait);
        }
        dispatch(&Store::open(&args.state)?, &args.verb)
    })
}

fn dispatch(store: &Store, verb: &Verb) -> Result<ExitCode, Error> {
    match verb {
        Verb::List(args) => list::list(store, args),
        Verb::Get(args) => get::get(store, args),
        Verb::Kill(args) => kill::kill(store, args),
        Verb::Wait(args) => wait::wait(store, args),
        Verb::Delete(args) => delete::delete(store, args),
        Verb::Logs(args) => logs::logs(store, args),
    }
}
