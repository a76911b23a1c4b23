// SPDX-License-Identifier: Apache-2.0
//! Supervised containers: `tasks/<ns>/<id>/`, one directory each.
//!
//! ```text
//! tasks/<ns>/<id>/task.json    how the container is kept; before anything is done for it
//! tasks/<ns>/<id>/exit.json    how it ended; before anybody is told
//! tasks/<ns>/<id>/log          its output, unless it goes elsewhere
//! tasks/<ns>/<id>/init.pid     its first process, until all that is to be done at its end is done
//! tasks/<ns>/<id>/runtime.log  what the runtime had to say
//! tasks/<ns>/<id>/warnings     what the supervisor had to say, when it had
//! tasks/<ns>/@<id>/            a task that is being made or removed
//! ```
//!
//! The directory itself is locked (`flock`) by the supervisor for as long as it lives, and by whoever
//! deletes the task after that. The lock is all that tells whether there is a supervisor.

mod cgroup;
mod error;
mod file;
mod held;
mod log;
mod process;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ctr_record::{TaskStatus, check_container_id};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::de::DeserializeOwned;

use crate::bundle::{Lock, Wait, lock_directory};
use crate::file::list_names;
use crate::{StateDir, StoreError};

pub use cgroup::{Cgroup, cgroups_of, remove_abandoned_cgroups};
pub use error::TaskError;
pub use file::{Exit, LogFile, TaskFile};
pub use held::{HeldTask, Order};
pub use log::{Decoder, Encoder, LogEntry, LogFormat, Stream};
pub use process::Process;

/// task.json and exit.json are smaller than this.
const MAX_FILE: u64 = 64 << 10;

/// The tasks of one namespace.
#[derive(Clone, Debug)]
pub struct Tasks {
    directory: PathBuf,
}

/// A task as its files say.
#[derive(Debug)]
pub struct Task {
    path: PathBuf,
    directory: File,
    file: TaskFile,
}

/// What a task does at the moment it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// What the container does.
    pub status: TaskStatus,
    /// Whether its supervisor lives.
    pub supervised: bool,
    /// How it ended.
    pub exit: Option<Exit>,
}

impl Tasks {
    /// The tasks of a namespace of a state directory.
    pub fn of(state: &StateDir, namespace: &str) -> Self {
        Self { directory: state.tasks(namespace) }
    }

    /// Finds a task.
    pub fn open(&self, id: &str) -> Result<Task, TaskError> {
        check_container_id(id)?;
        let not_found = || TaskError::NotFound { id: id.to_owned() };
        let path = self.directory.join(id);
        let directory = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            opened => opened.map_err(StoreError::io("open", &path))?,
        };
        let file = read_json(&directory, &path, "task.json")?.ok_or_else(not_found)?;
        Ok(Task { path, directory, file })
    }

    /// The ids of all tasks, in order.
    pub fn ids(&self) -> Result<Vec<String>, TaskError> {
        let mut ids: Vec<String> =
            list_names(&self.directory)?.into_iter().filter(|name| check_container_id(name).is_ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

impl Task {
    /// What task.json says.
    pub fn file(&self) -> &TaskFile {
        &self.file
    }

    /// The task's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the runtime writes the number of the container's first process. The supervisor removes it when
    /// it has told and removed everything: while it is there, something may be left to do.
    pub fn pid_file(&self) -> PathBuf {
        self.path.join("init.pid")
    }

    /// How the container ended; `None` while it has not, or when nobody lived to write it down.
    pub fn exit(&self) -> Result<Option<Exit>, StoreError> {
        read_json(&self.directory, &self.path, "exit.json")
    }

    /// What the container does now.
    pub fn state(&self) -> Result<TaskState, StoreError> {
        let stopped = |exit| TaskState { status: TaskStatus::Stopped, supervised: false, exit: Some(exit) };
        if let Some(exit) = self.exit()? {
            return Ok(stopped(exit));
        }
        let supervised = self.is_held()?;
        if !supervised && let Some(exit) = self.exit()? {
            return Ok(stopped(exit)); // it ended between the two looks
        }
        let status = match (supervised, self.file.process) {
            (true, None) => TaskStatus::Creating,
            (true, Some(_)) => TaskStatus::Running,
            (false, _) if self.process()?.is_some() => TaskStatus::Running,
            (false, _) => TaskStatus::Unknown,
        };
        Ok(TaskState { status, supervised, exit: None })
    }

    /// The container's first process; `None` when it is gone, or has not been started.
    pub fn process(&self) -> Result<Option<OwnedFd>, StoreError> {
        self.open_process(self.file.process)
    }

    /// The supervisor's process; `None` when it is gone.
    pub fn supervisor(&self) -> Result<Option<OwnedFd>, StoreError> {
        self.open_process(Some(self.file.supervisor))
    }

    fn open_process(&self, process: Option<Process>) -> Result<Option<OwnedFd>, StoreError> {
        let proc = Path::new("/proc");
        // After a reboot, a number and a time since boot may by chance be another process'.
        match process {
            Some(process) if ctr_sys::stat::boot_id().map_err(StoreError::io("read", proc))? == self.file.boot_id => {
                process.open().map_err(StoreError::io("read", proc))
            }
            _ => Ok(None),
        }
    }

    /// Waits until nobody else holds the task, which is until its supervisor ends, and then holds it.
    pub fn hold(self) -> Result<HeldTask, TaskError> {
        let id = self.file.id;
        match lock_directory(&self.path, Wait::Yes)? {
            Lock::Taken(directory) => {
                let file = read_json(&directory, &self.path, "task.json")?;
                let file = file.ok_or_else(|| TaskError::NotFound { id: id.clone() })?;
                Ok(HeldTask::new(Self { path: self.path, directory, file }))
            }
            Lock::Busy | Lock::Gone => Err(TaskError::NotFound { id }),
        }
    }

    /// Whether the supervisor, or whoever deletes the task, holds it.
    fn is_held(&self) -> Result<bool, StoreError> {
        match self.directory.try_lock_shared() {
            Ok(()) => {
                self.directory.unlock().map_err(StoreError::io("unlock", &self.path))?;
                Ok(false)
            }
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &self.path)(error)),
        }
    }
}

/// Reads a file of a directory that may have been renamed meanwhile; `None` when it is not there.
fn read_json<T: DeserializeOwned>(directory: &File, path: &Path, name: &str) -> Result<Option<T>, StoreError> {
    let shown = || path.join(name);
    let file = match openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(nix::errno::Errno::ENOENT) => return Ok(None),
        opened => File::from(opened.map_err(|errno| StoreError::errno("open", &shown())(errno))?),
    };
    let mut text = Vec::with_capacity(1024);
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| StoreError::io("read", &shown())(error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(StoreError::TooLarge { path: shown(), limit: MAX_FILE });
    }
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| StoreError::Damaged { path: shown(), source })
}
