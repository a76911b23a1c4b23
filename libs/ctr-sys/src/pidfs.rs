// SPDX-License-Identifier: Apache-2.0
//! Which process a pidfd refers to, told by its inode: Linux 6.9 gives every process of a boot one of its own.
//!
//! A number may be given to another process later, and an inode is not until the next boot, which counts anew: it
//! is to be kept with [`boot_id`](crate::stat::boot_id). To ask for it takes a tenth of the time
//! that it takes to read `/proc/PID/stat`, whose start time serves where there are no inodes.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};

/// The file system of pidfds (linux/magic.h).
const PIDFS: FsType = FsType(0x5049_4446);

/// The inode of the process that a pidfd refers to; `None`: this kernel has none.
pub fn inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    // Before, all pidfds shared one of the kernel's anonymous inodes.
    let is_own = cfg!(target_pointer_width = "64") && fstatfs(pidfd).is_ok_and(|fs| fs.filesystem_type() == PIDFS);
    is_own.then(|| fstat(pidfd).ok().map(|status| status.st_ino)).flatten()
}

/// Whether a pidfd refers to the process that has this inode, and it has not ended.
pub fn is_alive(pidfd: BorrowedFd<'_>, inode: u64) -> bool {
    let is_it = fstat(pidfd).is_ok_and(|status| status.st_ino == inode);
    is_it && poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::unistd::Pid;

    use super::*;
    use crate::process::pidfd_open;

    #[test]
    fn every_process_has_its_own_inode_until_it_ends() {
        let own = pidfd_open(Pid::this()).unwrap();
        let Some(ours) = inode(own.as_fd()) else { return eprintln!("SKIP pidfs: this kernel has none") };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_raw(child.id() as i32)).unwrap();
        let its = inode(pidfd.as_fd()).unwrap();
        assert!(its != ours && is_alive(pidfd.as_fd(), its) && !is_alive(pidfd.as_fd(), ours));
        child.kill().unwrap();
        // Not only once it has been waited for.
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ended, PollTimeout::from(10_000_u16)), Ok(1));
        assert!(!is_alive(pidfd.as_fd(), its));
        child.wait().unwrap();
    }
}
