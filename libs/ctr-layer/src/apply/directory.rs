// SPDX-License-Identifier: Apache-2.0
//! A directory that is worked in, and whose time of modification the work does not change.
//!
//! A layer says when its directories were modified, but filling them modifies them. Putting each time
//! back when the work moves on to another directory needs no list of directories to the end, which a
//! hostile layer could make as long as it likes, and no second look-up of names that may have become
//! something else by then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::stat::{FileStat, fstat, futimens};
use nix::sys::time::TimeSpec;

pub(super) struct Directory {
    fd: OwnedFd,
    inode: u64,
    mtime: TimeSpec,
    changed: bool,
}

impl Directory {
    pub(super) fn open(fd: OwnedFd) -> nix::Result<Self> {
        let stat = fstat(&fd)?;
        Ok(Self { fd, inode: stat.st_ino, mtime: mtime(&stat), changed: false })
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// The descriptor, for a call that changes what is in the directory.
    pub(super) fn change(&mut self) -> BorrowedFd<'_> {
        self.changed = true;
        self.fd.as_fd()
    }

    /// Puts the time back.
    pub(super) fn close(self) -> nix::Result<()> {
        match self.changed {
            true => futimens(&self.fd, &TimeSpec::UTIME_OMIT, &self.mtime),
            false => Ok(()),
        }
    }
}

/// The descriptor, for a call that only looks.
impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn mtime(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}
