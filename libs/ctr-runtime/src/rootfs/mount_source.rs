// SPDX-License-Identifier: Apache-2.0
//! What mounts are made of, prepared by the parent: it can reach the host's files and map ids, which the
//! container's process may not be able to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use ctr_sys::mount;
use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;

use crate::plan::{MountKind, MountPlan, Plan};
use crate::rootfs::file_system::{create_file_system, explain};
use crate::rootfs::idmap::UserNamespaces;
use crate::{RuntimeError, rootfs};

/// What a mount is made of.
#[derive(Debug)]
pub(crate) enum Source {
    /// A detached mount.
    Tree(OwnedFd),
    /// A symlink of the host to be made again, with this target (`copy-symlink`).
    Symlink(PathBuf),
}

impl Source {
    /// The descriptor that it is, if it is one.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Tree(tree) => Some(tree.as_raw_fd()),
            Self::Symlink(_) => None,
        }
    }
}

/// Opens the source of a bind mount, in the mount namespace of the caller.
pub(crate) fn open(planned: &MountPlan) -> io::Result<Source> {
    let MountKind::Bind { source, recursive } = &planned.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
    if planned.options.copy_symlink
        && let Ok(target) = std::fs::read_link(source)
    {
        return Ok(Source::Symlink(target));
    }
    let tree = match planned.options.source_nofollow {
        false => mount::clone_tree(AT_FDCWD, source, *recursive),
        true => mount::clone_unfollowed(source, *recursive),
    };
    tree.map(Source::Tree)
}

/// Prepares mounts for the container's process, one answer for each: bind mounts if this is root, who
/// reaches all of them, and whatever has its ids mapped. Else the container's process has to do it.
pub(crate) fn prepare(plan: &Plan, mounts: &[MountPlan]) -> Result<Vec<Option<Source>>, RuntimeError> {
    if !ctr_sys::process::is_root() {
        return Ok(Vec::new());
    }
    let mut namespaces = UserNamespaces::default();
    mounts.iter().map(|planned| prepare_one(plan, planned, &mut namespaces)).collect()
}

fn prepare_one(
    plan: &Plan,
    planned: &MountPlan,
    namespaces: &mut UserNamespaces,
) -> Result<Option<Source>, RuntimeError> {
    if planned.source_inside.is_some() {
        // It is what is mounted there by then.
        return Ok(None);
    }
    let source = match &planned.kind {
        MountKind::Bind { source, .. } => {
            let failed = RuntimeError::io("open the source of a bind mount", source);
            open(planned).and_then(|opened| leave_peers(plan, opened)).map_err(failed)?
        }
        MountKind::New { fstype, source } if planned.idmap.is_some() => {
            let made = create_file_system(fstype, source, &planned.options.data, planned.first_attributes());
            Source::Tree(made.map_err(|why| explain(planned, fstype, why))?)
        }
        MountKind::New { .. } | MountKind::Cgroup => return Ok(None),
    };
    if let (Some(idmap), Source::Tree(tree)) = (&planned.idmap, &source) {
        namespaces.map(planned, idmap, tree.as_fd())?;
    }
    Ok(Some(source))
}

// Unless the host is meant to see what is mounted in the container.
fn leave_peers(plan: &Plan, source: Source) -> io::Result<Source> {
    let shared = plan.rootfs.propagation.is_some_and(|(flag, _)| flag == MsFlags::MS_SHARED.bits());
    if let (Source::Tree(tree), false) = (&source, shared) {
        rootfs::leave_peers(plan, tree.as_fd())?;
    }
    Ok(source)
}
