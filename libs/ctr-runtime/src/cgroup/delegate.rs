// SPDX-License-Identifier: Apache-2.0
//! A cgroup handed over to the container, or a cgroup below it, for cgroups of its own.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchownat, mkdir};

use super::control::{open_directory, read_file};
use super::error::is_denial;
use super::{Cgroup, CgroupError, CgroupPlan, Hierarchies, controllers};

impl Cgroup {
    /// Where the container's processes are in v2: its cgroup, or the one below that it was given.
    pub(super) fn home(&self) -> Option<PathBuf> {
        let path = self.v2_path()?;
        Some(self.inner.as_ref().map_or(path.to_owned(), |inner| path.join(inner)))
    }

    /// Makes the cgroup below, if one is planned.
    pub(super) fn make_inner(&mut self, hierarchies: &Hierarchies, plan: &CgroupPlan) -> Result<(), CgroupError> {
        let Some(inner) = &plan.inner else { return Ok(()) };
        if hierarchies.mode() != super::Mode::V2 {
            return Err(CgroupError::DelegateOnV1);
        }
        let mut path = self.v2_path().ok_or(CgroupError::NotMounted)?.to_owned();
        for name in inner.components() {
            path.push(name);
            match mkdir(&path, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(CgroupError::Create { path, source: errno.into() }),
            }
        }
        self.inner = Some(inner.clone());
        Ok(())
    }

    /// Gives the container what it is to have: all controllers in the cgroup below, and the cgroup itself.
    pub(super) fn delegate(&self, plan: &CgroupPlan) -> Result<(), CgroupError> {
        let (Some(path), Some(home)) = (self.v2_path(), self.home()) else { return Ok(()) };
        if self.inner.is_some() {
            let file = path.join("cgroup.controllers");
            let all = read_file(&file).map_err(|source| CgroupError::Read { path: file, source })?;
            let wanted: Vec<&str> = all.split_ascii_whitespace().collect();
            controllers::enable(&home, &wanted, &mut Vec::new())?;
        }
        match plan.owner {
            Some(owner) if self.only_v2() => match give(&home, owner) {
                Err(error) if plan.rootless && is_denial(&error) => Ok(()),
                result => result.map_err(|source| CgroupError::Delegate { path: home, owner, source }),
            },
            _ => Ok(()),
        }
    }
}

/// Changes the owner of a cgroup and of those of its files that the kernel says belong with it.
fn give(cgroup: &Path, owner: u32) -> io::Result<()> {
    // cgroups(7): what there is without the list, before Linux 4.15
    const FIRST: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let directory = open_directory(cgroup)?;
    let files = read_file(Path::new("/sys/kernel/cgroup/delegate")).unwrap_or(FIRST.to_owned());
    let owner = Some(Uid::from_raw(owner));
    fchownat(directory.as_fd(), "", owner, None, AtFlags::AT_EMPTY_PATH)?;
    for file in files.lines() {
        match fchownat(directory.as_fd(), file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // of a controller that is not there
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
