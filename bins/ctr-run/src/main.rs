// SPDX-License-Identifier: Apache-2.0
//! `ctr-run`: an OCI runtime with runc's command line, and the end of the pipeline.
//!
//! Without a command it reads a record and runs its bundle in the foreground; with one it is a runtime.
//! What both do is ctr-runtime's; this is what callers see of it.

mod args;
mod default_spec;
mod exec;
mod features;
mod golang;
mod guard;
mod log;
mod output;
mod pipeline;
mod verbs;

use std::process::ExitCode;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = golang::normalise(std::env::args_os());
    ctr_cli::run_with(args, |args: Args| {
        let executes = matches!(args.command, None | Some(Command::Create(_) | Command::Run(_) | Command::Exec(_)));
        if executes {
            guard::protect_executable()?;
        }
        match args.command {
            None => pipeline::run(&args.pipeline),
            Some(_) => Ok(verbs::perform(&args)),
        }
    })
}
