// SPDX-License-Identifier: Apache-2.0
//! The mounts of the config, made one after the other in the container's mount namespace.
//!
//! Each is complete before it is attached, and is attached to a descriptor of its mount point, or made on the
//! directory that this refers to: no path crosses a system call, so there is nothing that a symlink in the image
//! could redirect.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ctr_sys::mount::{self, Attributes, MOUNT_ATTR_RDONLY};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::symlinkat;

use crate::plan::{Change, MountKind, MountOptions, MountPlan};
use crate::process::report::{Channel, InitFailure, Step, StepResult};
use crate::rootfs::beneath::{Leaf, Root, is_dir};
use crate::rootfs::cgroup_mount::{self, CgroupMount};
use crate::rootfs::copy_up;
use crate::rootfs::file_system::{create_file_system, explain, mount_at_once, new_file_system, open_root};
use crate::rootfs::mount_source::{self, Source};

/// Makes mounts in a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mounter<'a> {
    /// The container's root.
    pub(crate) root: Root<'a>,
    /// The container's cgroups, for mounts of type cgroup.
    pub(crate) cgroups: &'a [CgroupMount],
    /// Whether a user namespace other than the sources' own limits what may be changed of them.
    pub(crate) in_user_namespace: bool,
    /// Who maps the ids of what is found in the container's root only.
    pub(crate) parent: Option<&'a Channel>,
    /// Whether every mount is wanted back, and not only those with which something is left to do.
    pub(crate) wants_all: bool,
}

impl Mounter<'_> {
    /// Makes a mount, of what the parent has prepared of it if that is anything. Returns the mount, unless
    /// it was to be a symlink or is not wanted back; what is left to do is to [`settle`] and to [`complete`] it.
    pub(crate) fn mount(&self, planned: &MountPlan, prepared: Option<Source>) -> StepResult<Option<OwnedFd>> {
        let prepared = match (prepared, &planned.source_inside) {
            (None, Some(inside)) => Some(self.open_inside(planned, inside)?),
            (prepared, _) => prepared,
        };
        match (prepared, &planned.kind) {
            (Some(Source::Symlink(target)), _) => self.make_symlink(planned, &target).map(|()| None),
            (Some(Source::Tree(tree)), MountKind::Bind { .. }) => self.bind(planned, tree).map(Some),
            (None, _) if planned.idmap.is_some() => {
                let why = "an idmapped mount cannot be made in a mount namespace that is joined";
                Err(InitFailure::finding(format!("{}: {why}", failed_at(planned))))
            }
            (None, MountKind::Bind { .. }) => match mount_source::open(planned).step_with(|| failed_at(planned))? {
                Source::Symlink(target) => self.make_symlink(planned, &target).map(|()| None),
                Source::Tree(tree) => self.bind(planned, tree).map(Some),
            },
            (_, MountKind::Cgroup) => cgroup_mount::mount_cgroups(self, planned).map(Some),
            (Some(Source::Tree(tree)), MountKind::New { .. }) if planned.kind.is_new("tmpfs") => {
                self.mount_tmpfs(planned, Some(tree))
            }
            (Some(Source::Tree(tree)), MountKind::New { .. }) => self.attach(planned, tree, true).map(Some),
            (None, MountKind::New { .. }) if planned.kind.is_new("tmpfs") => self.mount_tmpfs(planned, None),
            (None, MountKind::New { fstype, source }) => {
                if self.can_be_made_at_once(planned) {
                    let target = self.target(planned, true)?;
                    if mount_at_once(planned, fstype, source, &planned.options.data, target.as_fd()) {
                        return Ok(None);
                    }
                }
                let tree = new_file_system(fstype, source, planned)?;
                self.attach(planned, tree, true).map(Some)
            }
        }
    }

    fn open_inside(&self, planned: &MountPlan, inside: &Path) -> StepResult<Source> {
        let failed = || failed_at(planned);
        let MountOptions { copy_symlink, source_nofollow, .. } = planned.options;
        let nofollow = if copy_symlink || source_nofollow { OFlag::O_NOFOLLOW } else { OFlag::empty() };
        let found = self.root.open(inside, OFlag::O_PATH | nofollow).step_with(failed)?;
        if copy_symlink && let Ok(target) = readlinkat(&found, "") {
            return Ok(Source::Symlink(target.into()));
        }
        let recursive = matches!(planned.kind, MountKind::Bind { recursive: true, .. });
        let tree = mount::clone_tree(found.as_fd(), Path::new(""), recursive).step_with(failed)?;
        if planned.idmap.is_some() {
            let mapped = self.parent.map_or(Ok(false), |parent| parent.map_ids(&tree)).step_with(failed)?;
            if !mapped {
                let why = "what is mounted in the container is idmapped only while the container is made";
                return Err(InitFailure::finding(format!("{}: {why}", failed())));
            }
        }
        Ok(Source::Tree(tree))
    }

    fn bind(&self, planned: &MountPlan, tree: OwnedFd) -> StepResult<OwnedFd> {
        let failed = || failed_at(planned);
        if planned.destination == Path::new("proc") && !mount::is_on_proc(&tree).step_with(failed)? {
            return Err(InitFailure::finding(format!("{}: only proc can be mounted on /proc", failed())));
        }
        self.set_bind_attributes(planned, tree.as_fd())?;
        let directory = is_dir(&tree).step_with(failed)?;
        self.attach(planned, tree, directory)
    }

    fn attach(&self, planned: &MountPlan, tree: OwnedFd, directory: bool) -> StepResult<OwnedFd> {
        let target = self.target(planned, directory)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).step_with(|| failed_at(planned))?;
        Ok(tree)
    }

    // Opens the mount point, or makes it.
    fn target(&self, planned: &MountPlan, directory: bool) -> StepResult<OwnedFd> {
        match self.existing_target(planned, directory)? {
            Some(target) => Ok(target),
            None => self.new_target(planned, directory),
        }
    }

    fn can_be_made_at_once(&self, planned: &MountPlan) -> bool {
        !self.wants_all
            && !planned.options.copy_up
            && !planned.options.is_settled_later()
            && !planned.is_read_only_at_last()
    }

    fn make_symlink(&self, planned: &MountPlan, target: &Path) -> StepResult<()> {
        let path = planned.destination.as_path();
        let failed = || format!("make the symlink /{} to {}", path.display(), target.display());
        let parent = self.root.make_dir(path.parent().unwrap_or(Path::new(""))).step_with(failed)?;
        self.refuse_proc(planned, &parent)?;
        let name = path.file_name().unwrap_or_default();
        match symlinkat(target, &parent, name) {
            Err(Errno::EEXIST) if readlinkat(&parent, name).is_ok_and(|there| there == *target) => Ok(()),
            result => result.step_with(failed),
        }
    }

    /// Opens the mount point, if it is there.
    pub(crate) fn existing_target(&self, planned: &MountPlan, directory: bool) -> StepResult<Option<OwnedFd>> {
        let path = planned.destination.as_path();
        let failed = || format!("open the mount point /{}", path.display());
        let flags = if directory { OFlag::O_PATH | OFlag::O_DIRECTORY } else { OFlag::O_PATH };
        if planned.options.destination_nofollow {
            return self.unfollowed_target(planned);
        }
        let found = match self.root.open_plain(path, flags) {
            // Masks, labels and sysctls rely on these two being where they seem to be.
            Err(error) if is_vital(path) && is(&error, [Errno::ELOOP, Errno::ENOTDIR]) => {
                let what = match &planned.kind {
                    MountKind::New { fstype, .. } => format!("filesystem {fstype:?} must"),
                    _ => format!("a mount on /{} must", path.display()),
                };
                return Err(InitFailure::finding(format!("{what} be mounted on ordinary directory: {}", failed())));
            }
            Err(error) if is(&error, [Errno::ELOOP]) => {
                let found = self.root.open(path, flags);
                if let Ok(found) = &found {
                    self.refuse_proc(planned, found)?;
                }
                found
            }
            // The plan knows what it allows in /proc when no symlink leads there.
            result => result,
        };
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(Some).step_with(failed),
        }
    }

    fn unfollowed_target(&self, planned: &MountPlan) -> StepResult<Option<OwnedFd>> {
        let path = planned.destination.as_path();
        let failed = || format!("open the mount point /{}", path.display());
        let parent = self.root.make_dir(path.parent().unwrap_or(Path::new(""))).step_with(failed)?;
        self.refuse_proc(planned, &parent)?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&parent, path.file_name().unwrap_or_default(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            result => result.map(Some).step_with(failed),
        }
    }

    /// Makes the mount point.
    pub(crate) fn new_target(&self, planned: &MountPlan, directory: bool) -> StepResult<OwnedFd> {
        let path = planned.destination.as_path();
        let leaf = if directory { Leaf::Directory } else { Leaf::File };
        let target = self.root.make(path, leaf).step_with(|| format!("make the mount point /{}", path.display()))?;
        self.refuse_proc(planned, &target)?;
        Ok(target)
    }

    // What something else would stand in for there is written to by name, and trusted (CVE-2019-19921).
    fn refuse_proc(&self, planned: &MountPlan, place: &OwnedFd) -> StepResult<()> {
        match mount::is_on_proc(place).step_with(|| failed_at(planned))? {
            true => Err(InitFailure::finding(format!("{}: a symlink leads into /proc", failed_at(planned)))),
            false => Ok(()),
        }
    }

    fn set_bind_attributes(&self, planned: &MountPlan, tree: BorrowedFd<'_>) -> StepResult<()> {
        let failed = || format!("{}: set its options", failed_at(planned));
        let wanted = planned.options.attributes;
        if !planned.options.names_attributes {
            return Ok(());
        }
        if !self.in_user_namespace {
            match change(tree, false, wanted.exactly()) {
                // The runtime itself is in a user namespace.
                Err(error) if is(&error, [Errno::EPERM]) => {}
                result => return result.step_with(failed),
            }
        }
        let mut present = mount::attributes_of(tree).step_with(failed)?;
        if wanted.clear & present & MOUNT_ATTR_RDONLY != 0 && is_read_only_itself(tree).step_with(failed)? {
            present &= !MOUNT_ATTR_RDONLY;
        }
        match wanted.with_locked(present) {
            Ok(possible) => change(tree, false, possible).step_with(failed),
            Err(locked) => {
                let step = format!("{}: {locked}", failed());
                Err(InitFailure { step, errno: Some(libc::EPERM), exec_status: 0 })
            }
        }
    }

    // As runc: it has the mode of the directory that it covers, unless the config has another.
    fn mount_tmpfs(&self, planned: &MountPlan, prepared: Option<OwnedFd>) -> StepResult<Option<OwnedFd>> {
        let options = &planned.options;
        let failed = || failed_at(planned);
        let covered = self.existing_target(planned, true)?;
        let inherits = !options.data.iter().any(|option| option.starts_with("mode="));
        let mode = match &covered {
            Some(covered) if inherits => Some(fstat(covered).step_with(failed)?.st_mode & 0o7777),
            _ => None,
        };
        let is_covering = covered.is_some();
        let target = covered.map_or_else(|| self.new_target(planned, true), Ok)?;
        let tmpfs = match prepared {
            Some(tmpfs) => {
                if let Some(mode) = mode {
                    let root = open_root(tmpfs.as_fd()).step_with(failed)?;
                    fchmod(root, Mode::from_bits_truncate(mode)).step_with(failed)?;
                }
                tmpfs
            }
            None => {
                let mut data = options.data.clone();
                data.extend(mode.map(|mode| format!("mode={mode:o}")));
                let MountKind::New { fstype, source } = &planned.kind else { unreachable!("it is a tmpfs") };
                if self.can_be_made_at_once(planned) && mount_at_once(planned, fstype, source, &data, target.as_fd()) {
                    return Ok(None);
                }
                create_file_system(fstype, source, &data, planned.first_attributes())
                    .map_err(|why| explain(planned, fstype, why))?
            }
        };
        if is_covering && options.copy_up {
            let copied = copy_up::copy(target.as_fd(), tmpfs.as_fd());
            copied.step_with(|| format!("copy /{} to its tmpfs", planned.destination.display()))?;
        }
        mount::move_mount(tmpfs.as_fd(), target.as_fd()).step_with(failed)?;
        Ok(Some(tmpfs))
    }
}

fn failed_at(planned: &MountPlan) -> String {
    match &planned.kind {
        MountKind::Bind { source, .. } => {
            format!("error mounting {:?} to rootfs at \"/{}\"", source, planned.destination.display())
        }
        MountKind::Cgroup => format!("mount cgroup to /{}", planned.destination.display()),
        MountKind::New { fstype, .. } => format!("mount {fstype} to /{}", planned.destination.display()),
    }
}

fn is_vital(path: &Path) -> bool {
    path == Path::new("proc") || path == Path::new("sys")
}

fn is<const N: usize>(error: &io::Error, errnos: [Errno; N]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn change(mount: BorrowedFd<'_>, recursive: bool, change: Change) -> io::Result<()> {
    let attributes = Attributes { set: change.set, clear: change.clear, ..Attributes::default() };
    mount::set_attributes(mount, recursive, attributes)
}

// Whether it is the file system that is read-only: the mount of it can then be as writable as it likes.
fn is_read_only_itself(tree: BorrowedFd<'_>) -> io::Result<bool> {
    match change(tree, false, Change { set: 0, clear: MOUNT_ATTR_RDONLY }) {
        Err(error) if is(&error, [Errno::EPERM]) => return Ok(false),
        result => result?,
    }
    let itself = mount::attributes_of(tree)? & MOUNT_ATTR_RDONLY != 0;
    if !itself {
        mount::make_read_only(tree)?;
    }
    Ok(itself)
}

/// What is done to a mount once it is attached, with what is mounted below it by then: the recursive
/// attributes, and each propagation in a call of its own.
pub(crate) fn settle(planned: &MountPlan, mount: BorrowedFd<'_>) -> StepResult<()> {
    let shown = || format!("/{}", planned.destination.display());
    if !planned.options.recursive.is_empty() {
        change(mount, true, planned.options.recursive).step_with(|| format!("set the options of {}", shown()))?;
    }
    for &(propagation, recursive) in &planned.options.propagation {
        let change = Attributes { propagation, ..Attributes::default() };
        mount::set_attributes(mount, recursive, change).step_with(|| format!("set the propagation of {}", shown()))?;
    }
    Ok(())
}

/// Makes a mount read-only that had to be writable until all is in it: nodes in /dev, mount points in a
/// tmpfs.
pub(crate) fn complete(planned: &MountPlan, mounted: &OwnedFd) -> StepResult<()> {
    match planned.is_read_only_at_last() {
        true => mount::make_read_only(mounted).step_with(|| failed_at(planned)),
        false => Ok(()),
    }
}
