// SPDX-License-Identifier: Apache-2.0
//! How a process gets into the unit of a user's systemd, where the user may not move it himself.
//!
//! A process goes from one cgroup to another only by the hand of somebody who may write to a cgroup above
//! both: for a user's session and his systemd's units that is the system's systemd, whom the user's asks.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

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
    tell: RefCell<Option<OwnedFd>>,
}

impl Unit {
    /// Prepares a process to be moved to `below` the container's cgroup in the unit.
    pub(in crate::cgroup) fn attach(&self, below: &Path) -> Result<Attach, CgroupError> {
        let (moved, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| CgroupError::Holder { source: errno.into() })?;
        let names = self.subgroup.iter().flat_map(|subgroup| subgroup.components()).chain(below.components());
        let below = names.map(|name| format!("/{}", Path::new(&name).display())).collect();
        Ok(Attach { unit: self.clone(), below, moved, tell: RefCell::new(Some(tell)) })
    }
}

impl Attach {
    /// In the process: waits until it has been moved.
    pub(in crate::cgroup) fn wait(&self) -> Result<(), Errno> {
        // its own copy, with which it would never read the end
        drop(self.tell.take());
        match read(&self.moved, &mut [0])? {
            0 => Err(Errno::ECANCELED),
            _ => Ok(()),
        }
    }

    /// In its parent: has it moved, and tells it.
    pub(in crate::cgroup) fn admit(&self, pid: Pid) -> Result<(), CgroupError> {
        self.unit.admit(&self.below, pid)?;
        if let Some(tell) = &*self.tell.borrow() {
            // one that has ended meanwhile says so itself
            let _ = nix::unistd::write(tell.as_fd(), b"0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_is_so_of_the_containers_cgroup() {
        let unit = |subgroup: Option<&str>| Unit {
            name: "a.scope".to_owned(),
            user: true,
            subgroup: subgroup.map(Into::into),
        };
        for (subgroup, below, path) in
            [(None, "", ""), (None, "x", "/x"), (Some("a/b"), "", "/a/b"), (Some("a"), "x/y", "/a/x/y")]
        {
            assert_eq!(unit(subgroup).attach(Path::new(below)).unwrap().below, path);
        }
    }
}
