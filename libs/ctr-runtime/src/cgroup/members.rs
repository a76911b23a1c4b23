// SPDX-License-Identifier: Apache-2.0
//! The processes in a cgroup: who they are, a signal to all of them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ctr_sys::process::{pidfd_open, pidfd_send_signal};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::control::{open_directory, read_file_at, write_file};
use super::tree::{vanished, walk};
use super::{Cgroup, CgroupError};

impl Cgroup {
    /// The processes in the cgroup and below it, in ascending order; none when it is gone.
    pub fn pids(&self) -> Result<Vec<Pid>, CgroupError> {
        match self.directories().next() {
            Some((_, path)) => pids_in(path),
            None => Ok(Vec::new()),
        }
    }

    /// Sends a signal to every process in the cgroup and below it, new ones included.
    ///
    /// `SIGKILL` is sent by the kernel where it can (v2 since Linux 5.14). Otherwise the cgroup is frozen
    /// for the time, if that is possible: nothing forks away meanwhile.
    pub fn signal_all(&self, signal: i32) -> Result<(), CgroupError> {
        if signal == libc::SIGKILL && self.kill_by_kernel() {
            return Ok(());
        }
        let was_frozen = self.is_frozen()?;
        // A process that is stuck in the kernel may keep the cgroup from freezing: the others get the signal.
        let froze = !was_frozen && self.freeze_within(Duration::from_secs(1)).is_ok();
        let result = self.signal_each(signal);
        // v1 lets no frozen process die
        if froze || (was_frozen && signal == libc::SIGKILL) {
            self.thaw()?;
        }
        result
    }

    fn kill_by_kernel(&self) -> bool {
        self.v2_path().is_some_and(|path| write_file(&path.join("cgroup.kill"), "1").is_ok())
    }

    /// Signals the processes that are there, and those that were forked meanwhile.
    fn signal_each(&self, signal: i32) -> Result<(), CgroupError> {
        let mut done = BTreeSet::new();
        loop {
            let mut open = Vec::new();
            for pid in self.pids()?.into_iter().filter(|pid| !done.contains(pid)) {
                match pidfd_open(pid) {
                    Ok(fd) => open.push((pid, fd)),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(source) => return Err(CgroupError::Signal { pid: pid.as_raw(), source }),
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            // The number may have passed to a stranger before it was opened. If it is a member's still, then
            // what was opened is that member, or is dead.
            let members: BTreeSet<Pid> = self.pids()?.into_iter().collect();
            for (pid, fd) in open.into_iter().filter(|(pid, _)| members.contains(pid)) {
                match pidfd_send_signal(fd.as_fd(), signal) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                        return Err(CgroupError::Signal { pid: pid.as_raw(), source: error });
                    }
                    _ => done.insert(pid),
                };
            }
        }
    }
}

/// The processes in one directory's cgroup and below it.
pub(super) fn pids_in(path: &Path) -> Result<Vec<Pid>, CgroupError> {
    let mut pids = BTreeSet::new();
    visit(path, |directory| {
        pids.extend(members(directory)?);
        Ok(())
    })?;
    Ok(pids.into_iter().collect())
}

/// The cgroup at or below `path` that a process is in.
pub(super) fn directory_of(path: &Path, pid: Pid) -> Result<OwnedFd, CgroupError> {
    let mut found = None;
    visit(path, |directory| {
        if members(directory)?.contains(&pid) {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            found = Some(openat(directory, ".", flags, Mode::empty())?);
        }
        Ok(())
    })?;
    found.ok_or_else(|| CgroupError::Join { path: path.to_owned(), source: Errno::ESRCH.into() })
}

/// A walk that begins again when the container took a directory away from under it.
fn visit(path: &Path, mut enter: impl FnMut(BorrowedFd<'_>) -> io::Result<()>) -> Result<(), CgroupError> {
    let read = |source| CgroupError::Read { path: path.to_owned(), source };
    let mut tries = 0;
    loop {
        let top = match open_directory(path) {
            Ok(top) => top,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(read(errno.into())),
        };
        match walk(top, &mut enter, |_, _| Ok(())) {
            Err(error) if error.raw_os_error() == Some(libc::ESTALE) && tries < 10 => tries += 1,
            result => return result.map_err(read),
        }
    }
}

fn members(directory: BorrowedFd<'_>) -> io::Result<Vec<Pid>> {
    let text = match vanished(read_file_at(directory, "cgroup.procs")) {
        // a threaded cgroup: its processes are listed by the domain that it belongs to
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        result => result?,
    };
    // 0 is a process of another pid namespace, which has no number here
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw).collect())
}
