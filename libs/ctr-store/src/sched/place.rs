// SPDX-License-Identifier: Apache-2.0
//! The places: files of which each is locked by the start that has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::{AsFd, IntoRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::StoreError;

use super::Owner;

/// The environment variable in which a command finds the descriptor of its place.
pub const PLACE_VARIABLE: &str = "CTR_SCHED_FD";

/// What a waiting thread needs: it calls flock and sends one message.
const STACK: usize = 64 << 10;

/// A held place. The kernel frees it when the last process that has its descriptor is gone, or when one
/// of them unlocks it.
#[derive(Debug)]
pub struct Place {
    pub(super) file: File,
    path: PathBuf,
}

impl Place {
    /// Takes the first of the places `0..limit` that is free or becomes free.
    pub(super) fn take(slots: &Path, limit: u32) -> Result<Self, StoreError> {
        let mut busy = Vec::new();
        for number in 0..limit {
            let path = slots.join(number.to_string());
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(StoreError::io("open", &path))?;
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, path }),
                Err(TryLockError::WouldBlock) => busy.push(Self { file, path }),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
            }
        }
        Self::wait_for_any(busy)
    }

    // The kernel has no call that waits for one of several locks, so that a thread sleeps on each. The
    // first one decides; the others sleep on until this process runs its command or ends.
    fn wait_for_any(busy: Vec<Self>) -> Result<Self, StoreError> {
        let (winner, first) = mpsc::channel();
        let mut waiting = 0;
        let mut failed = None;
        for place in busy {
            let winner = winner.clone();
            let path = place.path.clone();
            let wait = move || {
                let locked = place.file.lock().map_err(StoreError::io("wait for", &place.path)).map(|()| place);
                // Nobody listens any more when another thread was first.
                let _ = winner.send(locked);
            };
            match thread::Builder::new().stack_size(STACK).spawn(wait) {
                Ok(_) => waiting += 1,
                Err(error) => failed = Some(StoreError::io("start a thread to wait for", &path)(error)),
            }
        }
        // A few places fewer to wait for, when there are too many processes, only means a longer wait.
        match failed {
            Some(error) if waiting == 0 => Err(error),
            _ => first.recv().expect("a thread sends before it ends"),
        }
    }

    /// Says who has it now, for people.
    pub(super) fn inscribe(&self, owner: &Owner) {
        owner.inscribe(&self.file);
    }

    /// Lets the place pass through exec, and returns the number to be given in [`PLACE_VARIABLE`]. From
    /// then on the place is held by whoever has the descriptor.
    pub fn into_inheritable(self) -> Result<RawFd, StoreError> {
        fcntl(self.file.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(StoreError::errno("pass on", &self.path))?;
        Ok(self.file.into_raw_fd())
    }
}
