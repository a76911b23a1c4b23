// SPDX-License-Identifier: Apache-2.0
//! Waiting for files to change, by inotify: nothing in the toolkit polls.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::StoreError;

/// Notices changes in directories and files. What happened must be looked up afterwards: a watch says
/// only that it is time to look, and it must be set up before the first look so that nothing is missed.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// A watch of nothing yet.
    pub fn open() -> Result<Self, StoreError> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify =
            Inotify::init(flags).map_err(StoreError::errno("set up inotify for", Path::new("the state directory")))?;
        Ok(Self { inotify })
    }

    /// Adds a directory: files appear in it, change, or are removed, or it goes away itself. A file may
    /// be given as well.
    pub fn add(&self, path: &Path) -> Result<(), StoreError> {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        self.inotify.add_watch(path, flags).map_err(StoreError::errno("watch", path))?;
        Ok(())
    }

    /// Forgets what has been noticed so far; to be called before each look.
    pub fn drain(&self) -> Result<(), StoreError> {
        loop {
            match self.inotify.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => {
                    return Err(StoreError::errno("read inotify of", Path::new("the state directory"))(errno));
                }
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
