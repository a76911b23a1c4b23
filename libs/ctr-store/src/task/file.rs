// SPDX-License-Identifier: Apache-2.0
//! What the files of a task hold.

use std::path::PathBuf;

use ctr_record::{Mount, Payload, TaskIo, Timestamp};
use serde::{Deserialize, Serialize};

use super::{LogFormat, Process};

/// task.json: how a container is kept. Its one writer is the supervisor: before it does anything, and
/// once more when the container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFile {
    /// The container's id.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// The directory that the runtime keeps its state in (`--root`).
    pub runtime_root: PathBuf,
    /// Where the output goes.
    pub log: LogFile,
    /// Whether the container has a terminal.
    pub terminal: bool,
    /// Whether the supervisor mounted the root file system on the host.
    pub mounted: bool,
    /// The supervisor.
    pub supervisor: Process,
    /// The boot that the processes are of.
    pub boot_id: String,
    /// When the supervisor began.
    pub created_at: Timestamp,
    /// The container's first process; absent until it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
}

impl TaskFile {
    /// What is told when the container has been created; nothing before it has a process.
    pub fn create_event(&self, rootfs: Vec<Mount>) -> Option<Payload> {
        let log = self.log.path.display().to_string();
        let io = TaskIo {
            stdin: String::new(),
            stderr: if self.terminal { String::new() } else { log.clone() },
            stdout: log,
            terminal: self.terminal,
        };
        let (container_id, bundle) = (self.id.clone(), self.bundle.display().to_string());
        Some(Payload::TaskCreate { container_id, bundle, rootfs, io, pid: self.process?.pid })
    }
}

/// Where a container's output goes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// How it is written.
    pub format: LogFormat,
}

/// exit.json: how a container ended. It is there before anybody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit status, `128+n` for a signal.
    pub exit_status: u32,
    /// When it ended.
    pub exited_at: Timestamp,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// How many bytes of output could not be written to the log.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
