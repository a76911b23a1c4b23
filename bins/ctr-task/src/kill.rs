// SPDX-License-Identifier: Apache-2.0
//! `kill`: a signal to a container's first process, or to all of them, by descriptor and never by number.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::process::ExitCode;

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use ctr_store::task::Task;
use ctr_sys::process::{parse_signal, pidfd_send_signal};
use nix::libc;
use nix::unistd::Pid;

use crate::processes;
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Send it to every process of the container
    #[arg(short, long)]
    all: bool,
    /// Container
    #[arg(value_name = "ID")]
    id: String,
    /// Signal, by name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = signal_number)]
    signal: i32,
}

fn signal_number(text: &str) -> Result<i32, String> {
    parse_signal(text).ok_or_else(|| "no signal has that name or number".to_owned())
}

pub(crate) fn kill(store: &Store, args: &Args) -> Result<ExitCode, Error> {
    let task = store.tasks.open(&args.id)?;
    match args.all {
        false => signal_first(&task, args.signal)?,
        true => signal_all(&task, args.signal)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Signals the container's first process.
pub(crate) fn signal_first(task: &Task, signal: i32) -> Result<(), Error> {
    let not_running = || -> Error {
        let status = task.state().map_or("unknown", |state| state.status.as_str());
        Error::new(ErrorKind::Conflict, format!("the container {} is not running: it is {status}", task.file().id))
    };
    if task.exit()?.is_some() {
        return Err(not_running());
    }
    let process = task.process()?.ok_or_else(not_running)?;
    match pidfd_send_signal(process.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(not_running()),
        result => result.unable_to(|| format!("send signal {signal} to {}", task.file().id)),
    }
}

fn signal_all(task: &Task, signal: i32) -> Result<(), Error> {
    let unable = || format!("send signal {signal} to the processes of {}", task.file().id);
    let first = task.file().process.map(|process| Pid::from_raw(process.pid));
    // The first process last: its end may be everybody's.
    let mut seen = BTreeSet::from_iter(first);
    if let (Some(first), Some(_)) = (first, task.process()?) {
        loop {
            let mut found_more = false;
            for (pid, process) in processes::open_all(first).unable_to(unable)? {
                if seen.insert(pid) {
                    found_more = true;
                    match pidfd_send_signal(process.as_fd(), signal) {
                        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                        result => result.unable_to(unable)?,
                    }
                }
            }
            // What is to be killed may have forked meanwhile; other signals go to those that were there.
            if !found_more || signal != libc::SIGKILL {
                break;
            }
        }
    }
    signal_first(task, signal)
}
