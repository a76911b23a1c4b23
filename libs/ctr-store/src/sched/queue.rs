// SPDX-License-Identifier: Apache-2.0
//! The queue: numbered tickets, each a file that its owner holds locked.
//!
//! A waiter sleeps in `flock` on the ticket next below its own. When the kernel gives it that lock, its
//! predecessor has gone on or has died, and the waiter looks for the next lower one. When there is none,
//! it is first. A death anywhere in the queue wakes exactly the one behind it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::{Lock, StoreError};

use super::{Owner, numbered};

/// A place in the queue. Dropping it leaves the queue.
pub(super) struct Ticket {
    queue: PathBuf,
    number: u64,
    path: PathBuf,
    file: File,
}

impl Ticket {
    /// Joins the end of the queue.
    pub(super) fn draw(queue: &Path, mutex: &Path, owner: &Owner) -> Result<Self, StoreError> {
        // A ticket is made and locked under the mutex: whoever sees one unlocked knows that its owner is dead.
        let _mutex = Lock::exclusive(mutex)?;
        let number = numbered(queue)?.last().map_or(1, |last| last + 1);
        let path = queue.join(number.to_string());
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        let ticket = Self { queue: queue.to_owned(), number, path, file };
        ticket.file.lock().map_err(StoreError::io("lock", &ticket.path))?;
        owner.inscribe(&ticket.file);
        Ok(ticket)
    }

    /// Sleeps until everybody who came before has gone on or is dead.
    pub(super) fn wait_until_first(&self) -> Result<(), StoreError> {
        while let Some(number) = numbered(&self.queue)?.into_iter().rfind(|&number| number < self.number) {
            let path = self.queue.join(number.to_string());
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("open", &path)(error)),
            };
            file.lock().map_err(StoreError::io("wait for", &path))?;
            // One that went on removed its ticket itself. The number cannot have been given out again: a
            // new one is above ours.
            remove(&path)?;
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Before the lock goes with the file: nobody is to find it unlocked. If it cannot be removed, the
        // next one tries again.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
