// SPDX-License-Identifier: Apache-2.0
//! `get`: all that is known of a container, as one JSON object.

use std::path::PathBuf;
use std::process::ExitCode;

use ctr_cli::{Context, Error};
use ctr_record::{TaskStatus, Timestamp};
use ctr_store::task::LogFile;
use nix::unistd::Pid;
use serde::Serialize;

use crate::list::Listed;
use crate::machine::Machine;
use crate::processes::{self, ProcessInfo};
use crate::store::{Store, for_each};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Containers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    #[serde(flatten)]
    listed: Listed,
    namespace: &'a str,
    bundle: &'a PathBuf,
    runtime: &'a PathBuf,
    runtime_root: &'a PathBuf,
    log: &'a LogFile,
    terminal: bool,
    created_at: Timestamp,
    processes: Vec<ProcessInfo>,
    machine: Machine,
}

pub(crate) fn get(store: &Store, args: &Args) -> Result<ExitCode, Error> {
    Ok(for_each(&args.ids, |id| {
        let task = store.tasks.open(id)?;
        let listed = Listed::of(&task, task.state()?);
        let processes = match listed.status {
            TaskStatus::Running | TaskStatus::Paused => processes::describe(Pid::from_raw(listed.pid)),
            _ => Ok(Vec::new()),
        };
        // A container that has just ended has no processes; anything else is worth telling.
        let processes = match processes {
            Err(_) if task.process()?.is_none() => Vec::new(),
            processes => processes.unable_to(|| format!("find the processes of {id}"))?,
        };
        let file = task.file();
        ctr_cli::emit(&Container {
            listed,
            namespace: &store.namespace,
            bundle: &file.bundle,
            runtime: &file.runtime,
            runtime_root: &file.runtime_root,
            log: &file.log,
            terminal: file.terminal,
            created_at: file.created_at,
            processes,
            machine: Machine::look(),
        })
    }))
}
