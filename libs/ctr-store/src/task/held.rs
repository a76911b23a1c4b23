// SPDX-License-Identifier: Apache-2.0
//! A task in the hands of its one writer: the supervisor, or whoever deletes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ctr_record::{Timestamp, check_container_id};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::Pid;

use crate::bundle::{Lock, Wait, lock_directory};
use crate::leftover::{LeftoverKind, staged};
use crate::{Durability, StoreError, replace_file};

use super::{Exit, LogFile, Process, Task, TaskError, TaskFile, Tasks};

/// Room for exit.json, taken before the container starts, so that a full disk cannot lose its end.
const RESERVED: &str = "exit.reserved";
const RESERVED_SIZE: i64 = 4096;

/// How a container is to be kept.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the members are those of TaskFile
pub struct Order {
    pub id: String,
    pub bundle: PathBuf,
    pub runtime: PathBuf,
    pub runtime_root: PathBuf,
    /// The log's file; none: `log` in the task's directory.
    pub log_path: Option<PathBuf>,
    pub log_format: super::LogFormat,
    pub terminal: bool,
    pub mounted: bool,
}

/// A task that this process holds; nobody else writes to it or removes it until the process ends.
#[derive(Debug)]
pub struct HeldTask {
    pub(super) task: Task,
}

impl Tasks {
    /// Makes a task of which this process is the supervisor. It is there as a whole, and held, or not at all.
    pub fn create(&self, order: Order) -> Result<HeldTask, TaskError> {
        check_container_id(&order.id)?;
        let path = self.directory.join(&order.id);
        if path.symlink_metadata().is_ok() {
            return Err(self.in_use(&order.id));
        }
        let staging = staging_of(&path);
        let directory = self.stage(&staging, &order.id)?;
        let fill = || -> Result<Task, TaskError> {
            let file = describe(&order, &path)?;
            write_task_file(&staging, &file)?;
            reserve(&staging.join(RESERVED))?;
            match fs::rename(&staging, &path) {
                Ok(()) => Ok(Task { path: path.clone(), directory, file }),
                Err(error) if is_occupied(&error) => Err(self.in_use(&order.id)),
                Err(error) => Err(StoreError::io("rename to", &path)(error).into()),
            }
        };
        let task = fill().inspect_err(|_| {
            let _ = remove_tree(&staging);
        })?;
        Ok(HeldTask { task })
    }

    /// Removes a task whose task.json cannot be read, if nobody holds it.
    pub fn discard(&self, id: &str) -> Result<(), TaskError> {
        check_container_id(id)?;
        clear(&self.directory.join(id), id, Wait::No)
    }

    /// Removes what killed processes left half-made or half-removed.
    pub fn sweep(&self) -> Result<(), TaskError> {
        for leftover in staged(LeftoverKind::Task, self.directory.clone())? {
            leftover?.remove()?;
        }
        Ok(())
    }

    fn in_use(&self, id: &str) -> TaskError {
        let state = self.open(id).and_then(|task| Ok(task.state()?));
        let status = state.map_or("unknown", |state| state.status.as_str());
        TaskError::Exists { id: id.to_owned(), status }
    }

    /// Makes and locks a directory that nobody takes for a task. What a killed process left there goes.
    fn stage(&self, staging: &Path, id: &str) -> Result<File, TaskError> {
        loop {
            match DirBuilder::new().mode(0o700).create(staging) {
                // Between mkdir and lock it looks abandoned, and somebody may remove it: then once more.
                Ok(()) => {
                    if let Lock::Taken(directory) = lock_directory(staging, Wait::Yes)? {
                        return Ok(directory);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clear(staging, id, Wait::No)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parents = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
                    parents.map_err(StoreError::io("make directory", &self.directory))?;
                }
                Err(error) => return Err(StoreError::io("make directory", staging)(error).into()),
            }
        }
    }
}

impl HeldTask {
    pub(super) fn new(task: Task) -> Self {
        Self { task }
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Writes down that the container runs.
    pub fn record_start(&mut self, process: Process, started_at: Timestamp) -> Result<(), StoreError> {
        self.task.file.process = Some(process);
        self.task.file.started_at = Some(started_at);
        write_task_file(&self.task.path, &self.task.file)
    }

    /// Writes down how the container ended, so that it survives a power cut, in room that was taken
    /// before.
    pub fn record_exit(&self, exit: &Exit) -> Result<(), StoreError> {
        let (reserved, path) = (self.task.path.join(RESERVED), self.task.path.join("exit.json"));
        let text = serde_json::to_vec(exit).expect("an exit has only string keys");
        let file = OpenOptions::new().write(true).open(&reserved).map_err(StoreError::io("open", &reserved))?;
        let written = file.write_all_at(&text, 0).and_then(|()| file.set_len(text.len() as u64));
        written.and_then(|()| file.sync_all()).map_err(StoreError::io("write", &reserved))?;
        fs::rename(&reserved, &path).map_err(StoreError::io("rename to", &path))?;
        self.task.directory.sync_all().map_err(StoreError::io("sync", &self.task.path))
    }

    /// Removes the task's directory and all that is in it.
    pub fn remove(self) -> Result<(), TaskError> {
        let path = &self.task.path;
        let staging = staging_of(path);
        loop {
            match fs::rename(path, &staging) {
                // The lock has moved with the directory: nobody else clears it before it is gone.
                Ok(()) => return Ok(remove_tree(&staging)?),
                Err(error) if is_occupied(&error) => clear(&staging, &self.task.file.id, Wait::Yes)?,
                Err(error) => return Err(StoreError::io("rename", path)(error).into()),
            }
        }
    }
}

fn describe(order: &Order, path: &Path) -> Result<TaskFile, StoreError> {
    let proc = Path::new("/proc");
    Ok(TaskFile {
        id: order.id.clone(),
        bundle: order.bundle.clone(),
        runtime: order.runtime.clone(),
        runtime_root: order.runtime_root.clone(),
        log: LogFile { path: order.log_path.clone().unwrap_or_else(|| path.join("log")), format: order.log_format },
        terminal: order.terminal,
        mounted: order.mounted,
        supervisor: Process::of(Pid::this()).map_err(StoreError::io("read", proc))?,
        boot_id: ctr_sys::stat::boot_id().map_err(StoreError::io("read", proc))?,
        created_at: Timestamp::now(),
        process: None,
        started_at: None,
    })
}

fn write_task_file(directory: &Path, file: &TaskFile) -> Result<(), StoreError> {
    let text = serde_json::to_vec(file).expect("a task file has only string keys");
    replace_file(&directory.join("task.json"), &text, Durability::Process)
}

fn reserve(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path).map_err(StoreError::io("create", path))?;
    match fallocate(&file, FallocateFlags::empty(), 0, RESERVED_SIZE) {
        // Not every file system can promise room.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(StoreError::errno("reserve room in", path)(errno)),
    }
}

fn staging_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from("@");
    name.push(path.file_name().expect("a task's directory has a name"));
    path.with_file_name(name)
}

// Removes an abandoned directory; one that somebody is at work on is waited for or is an error.
fn clear(staging: &Path, id: &str, wait: Wait) -> Result<(), TaskError> {
    match lock_directory(staging, wait)? {
        Lock::Taken(_directory) => Ok(remove_tree(staging)?),
        Lock::Busy => Err(TaskError::Busy { id: id.to_owned() }),
        Lock::Gone => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

// What rename says when something has the new name already.
fn is_occupied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}
