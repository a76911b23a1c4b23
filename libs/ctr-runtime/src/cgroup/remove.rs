// SPDX-License-Identifier: Apache-2.0
//! The end of a cgroup.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::control::{open_directory, wait_for_event};
use super::hierarchy::is_in_cgroupfs;
use super::tree::{vanished, walk};
use super::{Cgroup, CgroupError, Version};

const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Removes the cgroup and those that the container made below it, in every hierarchy.
    ///
    /// Waits up to ten seconds for processes that are on their way out; it kills none, but systemd does where
    /// the cgroup is a unit of its. What is gone already is no error, and a failure in one hierarchy does not keep the others from being cleared.
    pub fn delete(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        self.stop_unit();
        let of_unit = |path| self.unit.as_ref().map_or(path, |unit| unit.directory(path));
        // v2 first: it can wait for the processes without asking again and again
        let results: Vec<_> =
            self.directories().map(|(version, path)| self.remove(version, of_unit(path), deadline)).collect();
        results.into_iter().collect()
    }

    fn remove(&self, version: Version, path: &Path, deadline: Instant) -> Result<(), CgroupError> {
        let fail = |source| CgroupError::Remove { path: path.to_owned(), source };
        let mut pause = Duration::from_micros(100);
        loop {
            match std::fs::remove_dir(path) {
                Ok(()) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ENODEV) => return Ok(()),
                    // It has children, or processes. The path comes from a file: what is no cgroup stays as it is.
                    Some(libc::EBUSY) if is_in_cgroupfs(path) => {}
                    _ => return Err(fail(error)),
                },
            }
            if remove_children(path).map_err(fail)? {
                continue;
            }
            if Instant::now() >= deadline {
                return Err(CgroupError::Busy { path: path.to_owned(), seconds: PATIENCE.as_secs() });
            }
            // what is left over may be dead but for that
            self.thaw_v1();
            if version == Version::V2 {
                vanished(wait_for_event(path, "populated", "0", deadline)).map_err(fail)?;
            }
            // A process leaves its cgroup a little after its parent has seen it end.
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Removes the cgroups below this one that have no processes; whether there were any.
fn remove_children(path: &Path) -> io::Result<bool> {
    let top = match open_directory(path) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    let mut any = false;
    let remove = |parent: BorrowedFd<'_>, name: &OsStr| {
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => any = true,
            // it has processes still, or a child that has
            Err(Errno::EBUSY | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    };
    walk(top, |_| Ok(()), remove)?;
    Ok(any)
}
