// SPDX-License-Identifier: Apache-2.0
//! A cgroup that has run out of memory: how many processes that has cost, and the kernel's notice of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::control::{keyed, read_file, write_file};
use super::{Cgroup, CgroupError, Version};

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
    /// How many processes the kernel has killed because the cgroup was out of memory; `None` where no memory
    /// controller counts them.
    pub fn oom_kills(&self) -> Result<Option<u64>, CgroupError> {
        let Some((_, path)) = self.oom_file() else { return Ok(None) };
        read_kills(&path).map_err(|source| CgroupError::Read { path, source })
    }

    /// Begins to watch for processes that are killed because the memory is used up; `None` where no memory
    /// controller watches over it.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        let Some((version, path)) = self.oom_file() else { return Ok(None) };
        let source = match version {
            Version::V1 => watch_v1(&path),
            Version::V2 if !path.exists() => return Ok(None),
            Version::V2 => watch_v2(&path),
        };
        match source {
            Ok(source) => Ok(Some(OomWatch { path, source })),
            Err(source) => Err(CgroupError::Watch { path, source }),
        }
    }

    /// The control file that tells of a lack of memory.
    fn oom_file(&self) -> Option<(Version, PathBuf)> {
        let v1 = self.v1_path("memory").map(|v1| (Version::V1, v1.join("memory.oom_control")));
        v1.or_else(|| Some((Version::V2, self.v2_path()?.join("memory.events"))))
    }
}

fn watch_v1(control: &Path) -> io::Result<Source> {
    let file = File::open(control)?;
    let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let request = format!("{} {}", eventfd.as_fd().as_raw_fd(), file.as_raw_fd());
    write_file(&control.with_file_name("cgroup.event_control"), &request)?;
    Ok(Source::V1(eventfd))
}

fn watch_v2(events: &Path) -> io::Result<Source> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(events, AddWatchFlags::IN_MODIFY)?;
    // counted after the watch began: no change is missed in between
    let kills = read_kills(events)?.unwrap_or_default();
    Ok(Source::V2(inotify, kills))
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
