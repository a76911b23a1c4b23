// SPDX-License-Identifier: Apache-2.0
//! The container's root file system, put together inside its mount namespace.
//!
//! All of it runs in the container's process before it becomes the container: first the root itself,
//! then the mounts in the config's order, then what must be hidden. Mounts go by descriptor.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ctr_record::Mount;
use ctr_sys::mount::{
    self, Attributes, FsContext, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
};
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{fchdir, pivot_root, symlinkat};

use crate::beneath::{Root, is_dir};
use crate::cgroup::Cgroup;
use crate::copy_up;
use crate::overlay;
use crate::plan::{MountKind, MountPlan, Plan};
use crate::report::{Step, StepResult};

/// What the parent has prepared for the mounts, since the container's process may not be able to.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// The bundle's own mounts that make the root; none: the root is a directory.
    pub(crate) layers: Vec<Mount>,
    /// The root itself, where the container's process could not reach what it is made of.
    pub(crate) root: Option<OwnedFd>,
    /// Detached copies of the bind mounts' sources, one per mount of the plan that is one.
    pub(crate) binds: Vec<Option<OwnedFd>>,
    /// The container's cgroups, for mounts of type cgroup.
    pub(crate) cgroups: Vec<CgroupMount>,
}

/// One of the container's cgroups, and what it is called below a mount of type cgroup.
#[derive(Debug)]
pub(crate) struct CgroupMount {
    /// The directory there; none when there is one hierarchy, which takes the place of the whole.
    name: String,
    /// The host's directory.
    path: PathBuf,
    /// Other names of the same hierarchy: `cpu` and `cpuacct` of `cpu,cpuacct`.
    aliases: Vec<String>,
}

impl CgroupMount {
    /// How a container sees its cgroup.
    pub(crate) fn of(cgroup: &Cgroup) -> Vec<Self> {
        let mut by_path: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for (name, path) in BTreeMap::from(cgroup.clone()) {
            by_path.entry(path).or_default().push(name);
        }
        let only_v2 = by_path.len() == 1 && cgroup.v2_path().is_some();
        let mount = |(path, names): (PathBuf, Vec<String>)| match &names[..] {
            [unified] if unified.is_empty() && only_v2 => Self { name: String::new(), path, aliases: Vec::new() },
            [unified] if unified.is_empty() => Self { name: "unified".to_owned(), path, aliases: Vec::new() },
            [one] => Self { name: one.trim_start_matches("name=").to_owned(), path, aliases: Vec::new() },
            several => Self { name: several.join(","), path, aliases: names.clone() },
        };
        by_path.into_iter().map(mount).collect()
    }
}

/// Makes this process' mounts its own and mounts the root. Returns the root.
pub(crate) fn mount_root(plan: &Plan, prepared: &mut Prepared) -> StepResult<OwnedFd> {
    // pivot_root refuses shared mounts, and what happens in the container must not reach the host.
    let nothing = None::<&str>;
    nix::mount::mount(nothing, "/", nothing, host_propagation(plan) | MsFlags::MS_REC, nothing)
        .step("change the propagation of the host's mounts")?;
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

/// Performs the mounts of the config, in order.
pub(crate) fn mount_all(plan: &Plan, prepared: &mut Prepared, root: Root<'_>) -> StepResult<()> {
    for (i, planned) in plan.mounts.iter().enumerate() {
        let bind = prepared.binds.get_mut(i).and_then(Option::take);
        mount_one(planned, bind, &prepared.cgroups, root)?;
    }
    Ok(())
}

fn mount_one(planned: &MountPlan, bind: Option<OwnedFd>, cgroups: &[CgroupMount], root: Root<'_>) -> StepResult<()> {
    let options = &planned.options;
    let shown = || format!("/{}", planned.destination.display());
    let detached = match &planned.kind {
        MountKind::Bind { source, recursive } => match bind {
            Some(tree) => tree,
            None => mount::clone_tree(AT_FDCWD, source, *recursive)
                .step_with(|| format!("bind {} to {}", source.display(), shown()))?,
        },
        MountKind::Cgroup => return mount_cgroups(planned, cgroups, root),
        MountKind::New { fstype, source } if fstype == "tmpfs" => new_tmpfs(source, planned, root)?,
        MountKind::New { fstype, source } => new_file_system(fstype, source, planned)?,
    };
    let target = mount_target(planned, root, &detached)?;
    if matches!(planned.kind, MountKind::Bind { .. }) && !options.attributes.is_empty() {
        let change =
            Attributes { set: options.attributes.set, clear: options.attributes.clear, ..Attributes::default() };
        mount::set_attributes(detached.as_fd(), false, change)
            .step_with(|| format!("set the options of {}", shown()))?;
    }
    finish_mount(planned, detached.as_fd(), target.as_fd())
}

// What is common to all mounts once they are made: recursive attributes, attaching, propagation.
fn finish_mount(planned: &MountPlan, detached: BorrowedFd<'_>, target: BorrowedFd<'_>) -> StepResult<()> {
    let shown = || format!("/{}", planned.destination.display());
    let recursive = planned.options.recursive;
    if !recursive.is_empty() {
        let change = Attributes { set: recursive.set, clear: recursive.clear, ..Attributes::default() };
        mount::set_attributes(detached, true, change).step_with(|| format!("set the options of {}", shown()))?;
    }
    mount::move_mount(detached, target).step_with(|| format!("mount {}", shown()))?;
    for &(propagation, recursive) in &planned.options.propagation {
        let change = Attributes { propagation, ..Attributes::default() };
        mount::set_attributes(detached, recursive, change)
            .step_with(|| format!("set the propagation of {}", shown()))?;
    }
    Ok(())
}

fn mount_target(planned: &MountPlan, root: Root<'_>, detached: &OwnedFd) -> StepResult<OwnedFd> {
    let path = planned.destination.as_path();
    let failed = || format!("make the mount point /{}", path.display());
    // Masks and labels rely on these two being where they seem to be.
    if path == Path::new("proc") || path == Path::new("sys") {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        return match root.open_plain(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => root.make_dir(path),
            result => result,
        }
        .step_with(failed);
    }
    match is_dir(detached).step_with(failed)? {
        true => root.make_dir(path),
        false => root.make_file(path),
    }
    .step_with(failed)
}

// As runc: it has the mode of the directory that it covers, unless the config has another.
fn new_tmpfs(source: &str, planned: &MountPlan, root: Root<'_>) -> StepResult<OwnedFd> {
    let options = &planned.options;
    let failed = || format!("mount tmpfs to /{}", planned.destination.display());
    let covered = root.open(&planned.destination, OFlag::O_PATH | OFlag::O_DIRECTORY).ok();
    let mut data = options.data.clone();
    if let Some(covered) = covered.as_ref().filter(|_| !data.iter().any(|option| option.starts_with("mode="))) {
        data.push(format!("mode={:o}", fstat(covered).step_with(failed)?.st_mode & 0o7777));
    }
    let read_only = options.attributes.set & MOUNT_ATTR_RDONLY;
    let tmpfs = create_file_system("tmpfs", source, &data, options.attributes.set & !read_only);
    let tmpfs = tmpfs.map_err(|(_, error)| error).step_with(failed)?;
    if let Some(covered) = covered.filter(|_| options.copy_up) {
        let copied = copy_up::copy(covered.as_fd(), tmpfs.as_fd());
        copied.step_with(|| format!("copy /{} to its tmpfs", planned.destination.display()))?;
    }
    if read_only != 0 {
        mount::make_read_only(&tmpfs).step_with(failed)?;
    }
    Ok(tmpfs)
}

fn new_file_system(fstype: &str, source: &str, planned: &MountPlan) -> StepResult<OwnedFd> {
    match create_file_system(fstype, source, &planned.options.data, planned.options.attributes.set) {
        // Without a network or ipc namespace of its own, a user namespace may not mount these anew.
        Err((_, error)) if error.raw_os_error() == Some(libc::EPERM) && matches!(fstype, "sysfs" | "mqueue") => {
            let host = if fstype == "sysfs" { "/sys" } else { "/dev/mqueue" };
            let tree = mount::clone_tree(AT_FDCWD, Path::new(host), true).step_with(|| format!("bind {host}"))?;
            let change = Attributes { set: planned.options.attributes.set, ..Attributes::default() };
            mount::set_attributes(tree.as_fd(), false, change).step_with(|| format!("set the options of {host}"))?;
            Ok(tree)
        }
        Err((complaint, error)) => {
            let why = complaint.map(|text| format!(" ({text})")).unwrap_or_default();
            Err(error).step_with(|| format!("mount {fstype} to /{}{why}", planned.destination.display()))
        }
        Ok(mount) => Ok(mount),
    }
}

/// Makes a file system, not yet attached; what fails comes with the kernel's complaint, if it has one.
pub(crate) fn create_file_system(
    fstype: &str,
    source: &str,
    data: &[String],
    attributes: u64,
) -> Result<OwnedFd, (Option<String>, io::Error)> {
    let context = FsContext::open(fstype).map_err(|error| (None, error))?;
    let configure = || {
        context.set_string("source", source)?;
        for option in data {
            match option.split_once('=') {
                Some((key, value)) => context.set_string(key, value)?,
                None => context.set_flag(option)?,
            }
        }
        context.mount(attributes)
    };
    configure().map_err(|error| (context.complaint(), error))
}

// The container sees its own cgroups only. A bind of the directory costs a tenth of a new mount of the
// hierarchy, which waits for the cgroup lock.
fn mount_cgroups(planned: &MountPlan, cgroups: &[CgroupMount], root: Root<'_>) -> StepResult<()> {
    let failed = || format!("mount cgroup to /{}", planned.destination.display());
    let attributes = planned.options.attributes.set;
    let bind = |path: &Path| {
        let tree = mount::clone_tree(AT_FDCWD, path, false).step_with(|| format!("bind {}", path.display()))?;
        let change = Attributes { set: attributes, ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), false, change).step_with(failed)?;
        Ok(tree)
    };
    let target = root.make_dir(&planned.destination).step_with(failed)?;
    if let [unified] = cgroups
        && unified.name.is_empty()
    {
        return finish_mount(planned, bind(&unified.path)?.as_fd(), target.as_fd());
    }
    let safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let tmpfs = create_file_system("tmpfs", "tmpfs", &["mode=755".into()], safe)
        .map_err(|(_, error)| error)
        .step_with(failed)?;
    finish_mount(planned, tmpfs.as_fd(), target.as_fd())?;
    let inside = Root(tmpfs.as_fd());
    for cgroup in cgroups {
        let directory = inside.make_dir(Path::new(&cgroup.name)).step_with(failed)?;
        mount::move_mount(bind(&cgroup.path)?.as_fd(), directory.as_fd()).step_with(failed)?;
        for alias in &cgroup.aliases {
            symlinkat(cgroup.name.as_str(), &tmpfs, alias.as_str()).step_with(failed)?;
        }
    }
    let change = Attributes { set: attributes & MOUNT_ATTR_RDONLY, ..Attributes::default() };
    mount::set_attributes(tmpfs.as_fd(), false, change).step_with(failed)
}

/// Makes the root this process' root and lets go of the host's file systems.
pub(crate) fn enter(root: BorrowedFd<'_>) -> StepResult<()> {
    fchdir(root).step("change into the rootfs")?;
    // The old root ends up on top of the new one, from where it is taken away at once (pivot_root(2)).
    pivot_root(".", ".").step("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).step("unmount the old root")?;
    nix::unistd::chdir("/").step("change to /")
}

/// Takes the old root away without pivot_root, for roots on a ramdisk (`--no-pivot`): the mount is moved
/// over `/`.
pub(crate) fn enter_without_pivot(root: BorrowedFd<'_>) -> StepResult<()> {
    fchdir(root).step("change into the rootfs")?;
    let nothing = None::<&str>;
    nix::mount::mount(Some("."), "/", nothing, MsFlags::MS_MOVE, nothing).step("move the rootfs to /")?;
    nix::unistd::chroot(".").step("chroot")?;
    nix::unistd::chdir("/").step("change to /")
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
