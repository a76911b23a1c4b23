// SPDX-License-Identifier: Apache-2.0
//! The kernel's notice that a cgroup has run out of memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::control::{keyed, read_file, write_file};
use super::{Cgroup, CgroupError};

/// Out-of-memory notices of one cgroup; the descriptor is readable when there may be a new one.
#[derive(Debug)]
pub struct OomWatch {
    /// The control file that tells of it.
    path: PathBuf,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The kernel adds to it each time.
    V1(EventFd),
    /// The kernel tells of each change of the file, of which few are kills: how many there were so far.
    V2(Inotify, u64),
}

impl Cgroup {
    /// Begins to watch for processes that are killed because the memory is used up; `None` where no memory
    /// controller watches over it.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        match (self.v1_path("memory"), self.v2_path().map(|v2| v2.join("memory.events"))) {
            (Some(v1), _) => watch_v1(v1).map(Some),
            (None, Some(path)) if path.exists() => watch_v2(path).map(Some),
            _ => Ok(None),
        }
    }
}

fn watch_v1(cgroup: &Path) -> Result<OomWatch, CgroupError> {
    let path = cgroup.join("memory.oom_control");
    let begin = || {
        let file = File::open(&path)?;
        let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let request = format!("{} {}", eventfd.as_fd().as_raw_fd(), file.as_raw_fd());
        write_file(&cgroup.join("cgroup.event_control"), &request)?;
        Ok(Source::V1(eventfd))
    };
    match begin() {
        Ok(source) => Ok(OomWatch { path, source }),
        Err(source) => Err(CgroupError::Watch { path, source }),
    }
}

fn watch_v2(path: PathBuf) -> Result<OomWatch, CgroupError> {
    let begin = || {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(&path, AddWatchFlags::IN_MODIFY)?;
        // counted after the watch began: no change is missed in between
        let kills = read_kills(&path)?.unwrap_or_default();
        Ok(Source::V2(inotify, kills))
    };
    match begin() {
        Ok(source) => Ok(OomWatch { path, source }),
        Err(source) => Err(CgroupError::Watch { path, source }),
    }
}

impl OomWatch {
    /// Whether memory has run out since the last time it was asked. It does not wait.
    ///
    /// A cgroup that is gone says no; what happened last may be lost with it.
    pub fn take(&mut self) -> Result<bool, CgroupError> {
        let new = match &mut self.source {
            Source::V1(eventfd) => drain(|| eventfd.read()).map(|count| {
                // The end of the cgroup is told like an event.
                count.unwrap_or_default() > u64::from(!self.path.exists())
            }),
            Source::V2(inotify, kills) => {
                let drained = drain(|| inotify.read_events());
                drained.and_then(|_| read_kills(&self.path)).map(|now| {
                    let before = std::mem::replace(kills, now.unwrap_or(*kills));
                    *kills > before
                })
            }
        };
        new.map_err(|source| CgroupError::Watch { path: self.path.clone(), source })
    }
}

/// The last thing that can be read without waiting.
fn drain<T>(mut read: impl FnMut() -> nix::Result<T>) -> io::Result<Option<T>> {
    let mut last = None;
    loop {
        match read() {
            Ok(value) => last = Some(value),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(last),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How many processes were killed so far; `None` of a cgroup that is gone.
fn read_kills(path: &Path) -> io::Result<Option<u64>> {
    match read_file(path) {
        Ok(text) => Ok(keyed(&text, "oom_kill").and_then(|count| count.parse().ok())),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(eventfd) => eventfd.as_fd(),
            Source::V2(inotify, _) => inotify.as_fd(),
        }
    }
}
