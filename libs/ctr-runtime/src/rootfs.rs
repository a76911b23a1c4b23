// SPDX-License-Identifier: Apache-2.0
//! The container's root, made and entered inside its mount namespace. Without one it is made where the runtime
//! is, as of the runtime-spec, and stays there.
//!
//! It runs in the container's process before it becomes the container. What is mounted in the root is
//! `mounting`'s, and what is hidden of it `finalise`'s.

pub(crate) mod beneath;
pub(crate) mod cgroup_mount;
mod copy_up;
pub(crate) mod device;
mod file_system;
pub(crate) mod finalise;
pub(crate) mod idmap;
pub(crate) mod mount_source;
pub(crate) mod mounting;
pub(crate) mod overlay;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ctr_record::Mount;
use ctr_sys::mount::{self, Attributes};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{fchdir, pivot_root, symlinkat};

use self::cgroup_mount::CgroupMount;
use self::mount_source::Source;
use crate::RuntimeError;
use crate::cgroup::unescape;
use crate::plan::Plan;
use crate::process::report::{Step, StepResult};

/// What the parent has prepared for the mounts, since the container's process may not be able to.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// The bundle's own mounts that make the root; none: the root is a directory.
    pub(crate) layers: Vec<Mount>,
    /// The root itself, where the container's process could not reach what it is made of.
    pub(crate) root: Option<OwnedFd>,
    /// What the mounts of the plan are made of, as far as the parent could tell.
    pub(crate) sources: Vec<Option<Source>>,
    /// The container's cgroups, for mounts of type cgroup.
    pub(crate) cgroups: Vec<CgroupMount>,
}

/// Makes this process' mounts its own and mounts the root. Returns the root.
pub(crate) fn mount_root(plan: &Plan, prepared: &mut Prepared) -> StepResult<OwnedFd> {
    // pivot_root refuses shared mounts, and what happens in the container must not reach the host.
    let in_own_namespace = plan.namespaces.is_private(libc::CLONE_NEWNS);
    if in_own_namespace {
        let nothing = None::<&str>;
        nix::mount::mount(nothing, "/", nothing, host_propagation(plan) | MsFlags::MS_REC, nothing)
            .step("change the propagation of the host's mounts")?;
    }
    let path = &plan.rootfs.path;
    let failed = || format!("attach the rootfs {}", path.display());
    let (root, target) = match prepared.root.take() {
        // Its own directory may be out of reach: on top of `/`, which is this process' own by now, it
        // hides nothing from who looks from there.
        Some(root) => (root, open_directory(path).or_else(|_| open_directory(Path::new("/"))).step_with(failed)?),
        None => {
            let target = open_directory(path).step_with(|| format!("open the rootfs {}", path.display()))?;
            (make_root(&target, &prepared.layers, None)?, target)
        }
    };
    if !in_own_namespace {
        leave_peers(plan, root.as_fd()).step("change the propagation of the rootfs")?;
    }
    mount::move_mount(root.as_fd(), target.as_fd()).step_with(failed)?;
    Ok(root)
}

/// Makes the root as a detached mount: of a bundle's layers, or of the directory `target`.
///
/// With a user namespace the layers, which belong to the host's ids, are seen by its mappings; what the
/// container writes is stored under the ids that it really has.
pub(crate) fn make_root(
    target: &OwnedFd,
    layers: &[Mount],
    user_namespace: Option<BorrowedFd<'_>>,
) -> StepResult<OwnedFd> {
    match layers.is_empty() {
        true => mount::clone_tree(target.as_fd(), Path::new(""), true).step("bind the rootfs"),
        false => overlay::mount_layers(layers, target, user_namespace),
    }
}

/// Makes the root for a process that cannot reach what it is made of, in its user namespace: a state directory
/// is closed to everybody but its owner.
pub(crate) fn make_root_for(
    plan: &Plan,
    layers: &[Mount],
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, RuntimeError> {
    let path = &plan.rootfs.path;
    let failed = |errno: nix::errno::Errno| RuntimeError::io("open the rootfs", path)(errno.into());
    let target = open_directory(path).map_err(failed)?;
    let root = make_root(&target, layers, user_namespace)?;
    leave_peers(plan, root.as_fd()).map_err(RuntimeError::io("change the propagation of the rootfs", path))?;
    Ok(root)
}

// What the container's copies of the host's mounts become: the host's events reach them, or nothing does.
fn host_propagation(plan: &Plan) -> MsFlags {
    match plan.rootfs.propagation {
        Some((flag, _)) if flag == MsFlags::MS_PRIVATE.bits() => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_SLAVE,
    }
}

/// Takes a copy of mounts, made in the host's mount namespace, out of their peer groups: else what is mounted
/// below it in the container would appear on the host.
pub(crate) fn leave_peers(plan: &Plan, tree: BorrowedFd<'_>) -> io::Result<()> {
    let change = Attributes { propagation: host_propagation(plan).bits(), ..Attributes::default() };
    mount::set_attributes(tree, true, change)
}

pub(crate) fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Makes the root this process' root and lets go of the host's file systems.
pub(crate) fn enter(root: BorrowedFd<'_>) -> StepResult<()> {
    fchdir(root).step("change into the rootfs")?;
    // The old root ends up on top of the new one, from where it is taken away at once (pivot_root(2)).
    pivot_root(".", ".").step("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).step("unmount the old root")?;
    nix::unistd::chdir("/").step("change to /")
}

/// Makes a directory this process' root and no more: all there is to do in a mount namespace that is the
/// host's.
pub(crate) fn change_root(root: BorrowedFd<'_>) -> StepResult<()> {
    fchdir(root).step("change into the rootfs")?;
    nix::unistd::chroot(".").step("chroot")?;
    nix::unistd::chdir("/").step("change to /")
}

/// Takes the old root away without pivot_root, for roots on a ramdisk (`--no-pivot`): the mount is moved
/// over `/`.
pub(crate) fn enter_without_pivot(root: BorrowedFd<'_>, path: &Path) -> StepResult<()> {
    hide_host_proc(path)?;
    fchdir(root).step("change into the rootfs")?;
    let nothing = None::<&str>;
    nix::mount::mount(Some("."), "/", nothing, MsFlags::MS_MOVE, nothing).step("move the rootfs to /")?;
    change_root(root)
}

// The host's mounts stay in the namespace, covered. As long as a proc or sysfs without masks is among them, the
// kernel lets a user namespace of the container mount another one, without masks.
fn hide_host_proc(rootfs: &Path) -> StepResult<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").step("read the mount table")?;
    for line in table.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = mount.split(' ').collect();
        let whole =
            fields.get(3) == Some(&"/") && (file_system.starts_with("proc ") || file_system.starts_with("sysfs "));
        let Some(place) = fields.get(4).map(|place| unescape(place)).filter(|_| whole) else { continue };
        if place.starts_with(rootfs) {
            continue;
        }
        let failed = || format!("hide the host's {}", place.display());
        match umount2(&place, MntFlags::MNT_DETACH) {
            // It went with what it was mounted in.
            Ok(()) | Err(Errno::ENOENT) => {}
            // A user namespace may not take it away.
            Err(Errno::EINVAL | Errno::EPERM) => {
                let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                nix::mount::mount(Some("tmpfs"), &place, Some("tmpfs"), flags, None::<&str>).step_with(failed)?;
            }
            Err(errno) => return Err(errno).step_with(failed),
        }
    }
    Ok(())
}

/// Makes a symlink in a directory in place of whatever is there.
pub(crate) fn replace_symlink(dir: BorrowedFd<'_>, name: &str, target: &str) -> io::Result<()> {
    match symlinkat(OsStr::new(target), dir, name) {
        Err(nix::errno::Errno::EEXIST) => {
            nix::unistd::unlinkat(dir, name, nix::unistd::UnlinkatFlags::NoRemoveDir)?;
            Ok(symlinkat(OsStr::new(target), dir, name)?)
        }
        result => Ok(result?),
    }
}
