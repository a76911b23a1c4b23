// SPDX-License-Identifier: Apache-2.0
//! `ctr-run`: an OCI runtime with runc's command line, and the end of the pipeline.
//!
//! Without a command it reads a record and runs its bundle in the foreground; with one it is a runtime.
//! What both do is ctr-runtime's; this is what callers see of it.
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod args;
mod called;
mod criu;
mod default_spec;
mod events;
mod exec;
mod features;
mod golang;
mod guard;
mod log;
mod output;
mod pipeline;
mod quantity;
mod update;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use ctr_cli::{Error, Stop};
use ctr_runtime::timing;

use crate::args::{Args, Command};

ctr_sys::bare_main!(main);

/// What every start takes of memory at the least, in bytes.
const USUAL_START: usize = 192 << 10;

#[global_allocator]
static ARENA: ctr_sys::arena::Arena = ctr_sys::arena::Arena::new();

fn main() -> ExitCode {
    ctr_cli::begin();
    ctr_sys::early::hold_view();
    // Only what makes a process has been protected.
    if ctr_sys::early::is_protected() {
        ARENA.populate(USUAL_START);
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    match golang::parse(words.clone()) {
        Ok(args) => ctr_cli::finish::<Args>(perform(&args)),
        Err(Stop::Done(code)) => code,
        Err(Stop::Misuse(error)) => match golang::command_of(&words) {
            Some(_) => verbs::fail(&log::Log::among(&words), &error, 1),
            None => ctr_cli::finish::<Args>(Err(error)),
        },
    }
}

fn perform(args: &Args) -> Result<ExitCode, Error> {
    if args.global.timing {
        timing::begin();
    }
    let executes = matches!(args.command, None | Some(Command::Create(_) | Command::Run(_) | Command::Exec(_)));
    if executes {
        guard::protect_executable()?;
    }
    let result = match args.command {
        None => pipeline::run(&args.pipeline, args.global.manager()),
        Some(_) => Ok(verbs::perform(args)),
    };
    if let Some(report) = timing::report() {
        ctr_cli::tell(&serde_json::json!({ "timing": report }).to_string());
    }
    result
}
