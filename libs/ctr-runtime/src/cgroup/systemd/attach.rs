// SPDX-License-Identifier: Apache-2.0
//! How a process gets into the unit of a user's systemd, where the user may not move it himself.
//!
//! A process goes from one cgroup to another only by the hand of somebody who may write to a cgroup above
//! both: for a user's session and his systemd's units that is the system's systemd, whom the user's asks.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2, read};

use super::Unit;
use crate::cgroup::CgroupError;

/// A process that is to be moved waits for it as soon as it is born.
#[derive(Debug)]
pub(in crate::cgroup) struct Attach {
    unit: Unit,
    /// The cgroup below that of the unit, with a slash before it; empty for none.
    below: String,
    moved: OwnedFd,
    tell: Mutex<Option<OwnedFd>>,
}

impl Attach {
    /// Prepares one to be moved to `below` the unit's own cgroup.
    pub(in crate::cgroup) fn new(unit: &Unit, below: &Path) -> Result<Self, CgroupError> {
        let (moved, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| CgroupError::Holder { source: errno.into() })?;
        let below = if below.as_os_str().is_empty() { String::new() } else { format!("/{}", below.display()) };
        Ok(Self { unit: unit.clone(), below, moved, tell: Mutex::new(Some(tell)) })
    }

    /// In the process: waits until it has been moved.
    pub(in crate::cgroup) fn wait(&self) -> Result<(), Errno> {
        // its own copy, with which it would never read the end
        drop(self.tell.lock().map(|mut tell| tell.take()));
        match read(&self.moved, &mut [0])? {
            0 => Err(Errno::ECANCELED),
            _ => Ok(()),
        }
    }

    /// In its parent: has it moved, and tells it.
    pub(in crate::cgroup) fn admit(&self, pid: Pid) -> Result<(), CgroupError> {
        self.unit.admit(&self.below, pid)?;
        if let Some(tell) = self.tell.lock().ok().as_ref().and_then(|tell| tell.as_ref()) {
            // one that has ended meanwhile says so itself
            let _ = nix::unistd::write(tell.as_fd(), b"0");
        }
        Ok(())
    }
}
