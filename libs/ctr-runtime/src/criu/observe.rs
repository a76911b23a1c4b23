// SPDX-License-Identifier: Apache-2.0
//! What a container that runs is like, as far as its checkpoint depends on it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::descriptors::Descriptors;
use super::request::{self, Running};
use crate::RuntimeError;
use crate::container::Container;
use crate::plan::Plan;
use crate::rootfs;
use crate::rootfs::beneath::{Root, is_dir};
use crate::rootfs::cgroup_mount::CgroupMount;

/// Looks at a container that runs, and at the caller's terminal in it if `terminals` says so.
pub(super) fn observe(
    container: &Container,
    plan: &Plan,
    terminals: bool,
) -> Result<(Running, Descriptors), RuntimeError> {
    let pid = container.state().pid;
    let mut pids = container.pids()?;
    pids.retain(|other| *other != pid);
    pids.insert(0, pid);
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let descriptors =
        Descriptors::of(&pids, terminals).map_err(RuntimeError::io("look at the open files of", &proc))?;
    let path = proc.join("root");
    let root = rootfs::open_directory(&path).map_err(|errno| RuntimeError::io("open", &path)(errno.into()))?;
    let root = Root(root.as_fd());
    let mounts = request::external_mounts(plan, &cgroup_binds(&CgroupMount::of(container.cgroup(), &plan.namespaces)));
    let mut joined = Vec::new();
    for (kind, _) in &plan.namespaces.join {
        let path = proc.join("ns").join(file_of_namespace(*kind));
        joined.push((*kind, fs::metadata(&path).map_err(RuntimeError::io("look at", &path))?.ino()));
    }
    let running = Running {
        pid,
        freezer: container.cgroup().path_of("freezer").map(Path::to_owned),
        external_mounts: mounts.iter().map(|(place, _)| resolve(root, place)).collect(),
        masked_files: plan.masked_paths.iter().filter_map(|path| masked_file(root, path)).collect(),
        external_files: descriptors.external.keys().cloned().collect(),
        joined,
    };
    Ok((running, descriptors))
}

/// The parts of a mount of all v1 hierarchies, each of which is a bind of the container's cgroup: the name
/// below the mount, and the directory.
pub(super) fn cgroup_binds(cgroups: &[CgroupMount]) -> Vec<(PathBuf, PathBuf)> {
    // The one of v2 is as a mount of its own for criu, which makes it anew.
    let parts = cgroups.iter().map(CgroupMount::place).filter(|(name, _)| !name.is_empty());
    parts.map(|(name, path)| (PathBuf::from(name), path.to_owned())).collect()
}

/// Where a place in a container is once its symlinks are followed, as an absolute path there.
pub(super) fn resolve(root: Root<'_>, place: &Path) -> PathBuf {
    let opened = root.open(place, OFlag::O_PATH).ok();
    opened.and_then(|fd| path_of(&fd)).unwrap_or_else(|| Path::new("/").join(place))
}

/// What the kernel calls an open file, from the root of its mounts.
pub(super) fn path_of(fd: &OwnedFd) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    path.is_absolute().then_some(path)
}

// Directories are hidden behind file systems of their own, which are restored like any other.
fn masked_file(root: Root<'_>, path: &Path) -> Option<PathBuf> {
    let fd = root.open(path, OFlag::O_PATH).ok()?;
    match is_dir(&fd) {
        Ok(false) => path_of(&fd),
        _ => None,
    }
}

fn file_of_namespace(kind: i32) -> &'static str {
    match kind {
        libc::CLONE_NEWNET => "net",
        kind => crate::plan::words::namespace(kind),
    }
}
