// SPDX-License-Identifier: Apache-2.0
//! A process named so that another one with its number is not mistaken for it.

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process of one boot: its number and when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
}

impl Process {
    /// Names a process that exists; a zombie does.
    pub fn of(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid: pid.as_raw(), start_time: ctr_sys::stat::start_time(pid)? })
    }

    /// Refers to the process itself; `None` when it is gone.
    pub fn open(self) -> io::Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid);
        let pidfd = match ctr_sys::process::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Looked at after the descriptor was opened: if the number is still the process' own, the
        // descriptor is the process' own too.
        match ctr_sys::stat::start_time(pid) {
            Ok(start_time) if start_time == self.start_time => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

// A process that ends while its stat is being read makes it ESRCH.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_with_the_number_is_not_the_one_meant() {
        let this = Process::of(Pid::this()).unwrap();
        assert!(this.open().unwrap().is_some());
        let earlier = Process { start_time: this.start_time - 1, ..this };
        assert!(earlier.open().unwrap().is_none());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::of(Pid::from_raw(child.id() as i32)).unwrap();
        child.wait().unwrap();
        assert!(process.open().unwrap().is_none());
    }
}
