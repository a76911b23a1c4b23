// SPDX-License-Identifier: Apache-2.0
//! The start limiter: how many containers may start at once on a machine, in the order they came.
//!
//! ```text
//! sched/limit          how many, when nothing else is said
//! sched/mutex          held for the moment in which a ticket is drawn or the limit is set
//! sched/queue/<n>      a ticket, locked by its waiter
//! sched/slots/<i>      a place, locked by whoever starts in it
//! ```
//!
//! All that holds anything is a lock of the kernel's, so that death gives it back, and all that waits
//! sleeps in the kernel until it gets one.

mod inherited;
mod owner;
mod place;
mod queue;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::leftover::{Leftover, LeftoverKind, Removal};
use crate::{Durability, Lock, StateDir, StoreError, read_bounded, replace_file};
pub use inherited::Inherited;
pub use owner::Owner;
pub use place::{PLACE_VARIABLE, Place};
use queue::Ticket;

/// How many may start at once when nobody has said.
pub const DEFAULT_LIMIT: u32 = 10;

/// The greatest limit: a waiter at the head of the queue has a thread for each place.
pub const MAX_LIMIT: u32 = 1024;

/// The start limiter of a state directory.
#[derive(Clone, Debug)]
pub struct Scheduler {
    dir: PathBuf,
}

/// Who starts, and who waits to.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// How many may start at once when a start says nothing else.
    pub limit: u32,
    /// Who has a place, by its number.
    pub holders: Vec<Holder>,
    /// Who waits, first come first.
    pub waiters: Vec<Waiter>,
}

/// Somebody who has a place.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// The place's number.
    pub slot: u64,
    /// Absent for a moment after the place was taken.
    #[serde(flatten)]
    pub owner: Option<Owner>,
}

/// Somebody in the queue.
#[derive(Clone, Debug, Serialize)]
pub struct Waiter {
    /// The ticket's number.
    pub ticket: u64,
    /// Absent for a moment after the ticket was drawn.
    #[serde(flatten)]
    pub owner: Option<Owner>,
}

impl Scheduler {
    /// Opens the limiter and makes its directories when they are missing.
    pub fn open(state: &StateDir) -> Result<Self, StoreError> {
        let scheduler = Self { dir: state.sched() };
        state.make(&scheduler.queue())?;
        state.make(&scheduler.slots())?;
        Ok(scheduler)
    }

    /// How many may start at once when a start says nothing else.
    pub fn limit(&self) -> Result<u32, StoreError> {
        match read_bounded(&self.limit_file(), 32) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|source| StoreError::Damaged { path: self.limit_file(), source })
            }
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(DEFAULT_LIMIT),
            Err(error) => Err(error),
        }
    }

    /// Sets that number, for starts to come.
    pub fn set_limit(&self, limit: u32) -> Result<(), StoreError> {
        let _mutex = Lock::exclusive(&self.dir.join("mutex"))?;
        replace_file(&self.limit_file(), format!("{limit}\n").as_bytes(), Durability::PowerCut)
    }

    /// Waits for a place among the first `limit`, behind everybody who came before.
    ///
    /// The process must run its command (exec) or end soon after: until then it may sleep on in threads
    /// of its own on the other places.
    pub fn acquire(&self, limit: u32, command: &[String]) -> Result<Place, StoreError> {
        let ticket = Ticket::draw(&self.queue(), &self.dir.join("mutex"), &Owner::this(command))?;
        ticket.wait_until_first()?;
        let place = Place::take(&self.slots(), limit)?;
        place.inscribe(&Owner::this(command));
        Ok(place)
    }

    /// Who starts and who waits at this moment.
    pub fn status(&self) -> Result<Status, StoreError> {
        let holders = held(&self.slots())?.into_iter().map(|(slot, owner)| Holder { slot, owner });
        let waiters = held(&self.queue())?.into_iter().map(|(ticket, owner)| Waiter { ticket, owner });
        Ok(Status { limit: self.limit()?, holders: holders.collect(), waiters: waiters.collect() })
    }

    fn queue(&self) -> PathBuf {
        self.dir.join("queue")
    }

    fn slots(&self) -> PathBuf {
        self.dir.join("slots")
    }

    fn limit_file(&self) -> PathBuf {
        self.dir.join("limit")
    }
}

/// The tickets of those who died waiting, and that nobody behind them has removed.
pub(crate) fn abandoned(state: &StateDir) -> Result<impl Iterator<Item = Leftover> + use<>, StoreError> {
    let scheduler = Scheduler { dir: state.sched() };
    let (queue, mutex) = (scheduler.queue(), scheduler.dir.join("mutex"));
    let mut dead = Vec::new();
    if queue.exists() {
        // One that is being drawn looks dead, too, but not with the mutex held.
        let waiting: Vec<u64> = held(&queue)?.into_iter().map(|(number, _)| number).collect();
        dead.extend(numbered(&queue)?.into_iter().filter(|number| !waiting.contains(number)));
    }
    let leftover = move |number: u64| {
        Leftover::new(LeftoverKind::Ticket, queue.join(number.to_string()), Removal::Under(mutex.clone()), None)
    };
    Ok(dead.into_iter().map(leftover))
}

/// The files of a directory that are named by a number, in order.
fn numbered(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let name = entry.map_err(StoreError::io("list", dir))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The numbered files that somebody holds locked, and who says to be it.
fn held(dir: &Path) -> Result<Vec<(u64, Option<Owner>)>, StoreError> {
    let mut held = Vec::new();
    for number in numbered(dir)? {
        let path = dir.join(number.to_string());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        // A shared lock, for no longer than it takes to drop it. One who wanted the file at this very
        // moment sleeps on it instead, and is woken at once.
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => held.push((number, Owner::read(&file))),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
    }
    Ok(held)
}
