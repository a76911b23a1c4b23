// SPDX-License-Identifier: Apache-2.0
//! Mounts that a running container gets, or loses.
//!
//! What they are made of is opened on the host. A process that joins the container's namespaces then makes
//! them as those of the config are made, attached to descriptors of their mount points; where one fails,
//! those before it are taken away again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use ctr_record::TaskStatus;
use ctr_sys::process as sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use oci_spec::runtime::Mount;

use crate::cgroup::JoinFds;
use crate::container::Container;
use crate::error::MAKE_PROCESS;
use crate::plan::{MountContext, MountKind, MountPlan, Plan};
use crate::process::init::become_root_of_user_namespace;
use crate::process::report::{Channel, InitFailure, Message, Step, StepResult};
use crate::process::{fate, spawn};
use crate::rootfs::beneath::Root;
use crate::rootfs::cgroup_mount::CgroupMount;
use crate::rootfs::mount_source;
use crate::rootfs::mount_source::Source;
use crate::rootfs::mounting::{Mounter, complete, settle};
use crate::{RuntimeError, rootfs, spec};

/// Makes the mounts of a file in a running container, all or none. The file has what `mounts` of a
/// config.json has.
pub fn add_mounts(container: &Container, file: &Path) -> Result<(), RuntimeError> {
    let (_lock, container) = container.locked()?;
    let (plan, mounts) = plan(&container, &spec::load_mounts(file)?)?;
    let bind = mounts.iter().position(|planned| matches!(planned.kind, MountKind::Bind { .. }));
    if let Some(index) = bind.filter(|_| !sys::is_root()) {
        return Err(RuntimeError::config(format!("mounts[{index}]"), "a bind mount takes a runtime that is root"));
    }
    let sources = mount_source::prepare(&plan, &mounts)?;
    let cgroups = CgroupMount::of(container.cgroup(), &plan.namespaces);
    let keep: Vec<RawFd> = sources.iter().flatten().filter_map(Source::descriptor).collect();
    let in_user_namespace = plan.namespaces.is_private(libc::CLONE_NEWUSER);
    perform(&container, &plan, keep, |root, own_fds| {
        let mounter = Mounter { root, cgroups: &cgroups, in_user_namespace, parent: None, wants_all: true };
        let mut made = Vec::new();
        let mut sources = sources.into_iter();
        let mut make_all = || {
            for planned in &mounts {
                let Some(mounted) = mounter.mount(planned, sources.next().flatten())? else { continue };
                made.push(mounted);
                let mounted = made.last().expect("pushed above");
                settle(planned, mounted.as_fd())?;
                complete(planned, mounted)?;
            }
            Ok(())
        };
        let result = make_all();
        if result.is_err() {
            for mounted in made.iter().rev() {
                let _ = unmount(own_fds, mounted);
            }
        }
        result
    })
}

/// Takes mounts of a running container away, the last of a file first. Of each only the destination counts.
pub fn remove_mounts(container: &Container, file: &Path) -> Result<(), RuntimeError> {
    let (_lock, container) = container.locked()?;
    let (plan, mounts) = plan(&container, &spec::load_destinations(file)?)?;
    let hidden = plan.masked_paths.iter().chain(&plan.readonly_paths);
    let hidden: Vec<&Path> = hidden.filter_map(|path| path.strip_prefix("/").ok()).collect();
    for (index, planned) in mounts.iter().enumerate() {
        if hidden.contains(&planned.destination.as_path()) {
            let reason = "the config masks it, or makes it read-only";
            return Err(RuntimeError::config(format!("mounts[{index}]"), reason));
        }
    }
    perform(&container, &plan, Vec::new(), |root, own_fds| {
        let mut opened = Vec::new();
        for planned in &mounts {
            // Through a symlink the container could have another of its mounts taken away than was meant.
            let target = root.open_plain(&planned.destination, OFlag::O_PATH);
            opened.push((planned, target.step_with(|| format!("open /{}", planned.destination.display()))?));
        }
        for (planned, target) in opened.iter().rev() {
            let shown = planned.destination.display();
            match unmount(own_fds, target) {
                Err(Errno::EINVAL) => return Err(InitFailure::finding(format!("nothing is mounted on /{shown}"))),
                result => result.step_with(|| format!("unmount /{shown}"))?,
            }
        }
        Ok(())
    })
}

fn plan(container: &Container, mounts: &[Mount]) -> Result<(Plan, Vec<MountPlan>), RuntimeError> {
    if !matches!(container.status(), TaskStatus::Running | TaskStatus::Created | TaskStatus::Paused) {
        return Err(RuntimeError::NotRunning(container.state().id.clone()));
    }
    let plan = container.plan()?;
    if !plan.namespaces.is_private(libc::CLONE_NEWNS) {
        let reason = "the container has no mount namespace of its own";
        return Err(RuntimeError::config("linux.namespaces", reason));
    }
    let context = MountContext {
        bundle: &plan.bundle,
        rootfs: &plan.rootfs.path,
        namespaces: &plan.namespaces,
        label: plan.mount_label.as_deref(),
        rootless: !sys::is_root(),
    };
    let planned = mounts.iter().enumerate().map(|(i, mount)| MountPlan::new(i, mount, context));
    let planned = planned.collect::<Result<_, _>>()?;
    Ok((plan, planned))
}

// Runs `work` in the container's namespaces, given its root and the host's directory of the process' own
// descriptors.
fn perform(
    container: &Container,
    plan: &Plan,
    mut keep: Vec<RawFd>,
    work: impl FnOnce(Root<'_>, BorrowedFd<'_>) -> StepResult<()>,
) -> Result<(), RuntimeError> {
    let target = container.pidfd()?.ok_or_else(|| RuntimeError::NotRunning(container.state().id.clone()))?;
    let (ours, theirs) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
    let namespaces = &plan.namespaces;
    let kinds = namespaces.join.iter().fold(namespaces.new as i32, |kinds, (kind, _)| kinds | kind);
    let mount_namespace = open_mount_namespace(container, target.as_fd())?;
    keep.extend([theirs.as_raw_fd(), target.as_raw_fd(), mount_namespace.as_raw_fd()]);
    let main = |join: spawn::Join<'_>| {
        if sys::close_inherited(libc::STDERR_FILENO + 1, &mut keep).is_err() {
            return 1;
        }
        let result = enter(join, kinds & libc::CLONE_NEWUSER != 0).and_then(|place| {
            umask(Mode::empty());
            work(Root(place.root.as_fd()), place.own_fds.as_fd())
        });
        let _ = theirs.send(&match result {
            Ok(()) => Message::Ready,
            Err(failure) => Message::Failed(failure),
        });
        0
    };
    // It stays out of the container's cgroup, which may be frozen or full.
    let outside = JoinFds::default();
    let child = match kinds & libc::CLONE_NEWUSER != 0 {
        true => spawn::spawn_joined(&outside, 0, &[(target.as_fd(), kinds & !libc::CLONE_NEWNS)], || {
            main((mount_namespace.as_fd(), libc::CLONE_NEWNS))
        }),
        false => {
            let pid_namespace = (kinds & libc::CLONE_NEWPID != 0).then_some(target.as_fd());
            spawn::spawn_in(&outside, 0, pid_namespace, || main((target.as_fd(), kinds & !libc::CLONE_NEWPID)))
        }
    };
    let child = child.map_err(RuntimeError::call(MAKE_PROCESS))?;
    drop(theirs);
    let answer = ours.receive();
    let result = match answer.map_err(RuntimeError::call("hear from the process in the container"))? {
        Some(Message::Ready) => Ok(()),
        Some(Message::Failed(failure)) => Err(failure.into()),
        Some(_) => Err(RuntimeError::call("hear from the process")(io::ErrorKind::InvalidData.into())),
        None => return Err(RuntimeError::Died(fate::how_it_died(child.pid))),
    };
    let _ = waitpid(child.pid, None);
    result
}

// From inside the user namespace, a first process that waits for its start may not be looked at.
fn open_mount_namespace(container: &Container, process: BorrowedFd<'_>) -> Result<OwnedFd, RuntimeError> {
    let path = PathBuf::from(format!("/proc/{}/ns/mnt", container.state().pid));
    let opened = File::open(&path).map_err(RuntimeError::io("open the namespace", &path))?;
    // If it lives now, the number was its own.
    match sys::pidfd_send_signal(process, 0) {
        Ok(()) => Ok(opened.into()),
        Err(_) => Err(RuntimeError::NotRunning(container.state().id.clone())),
    }
}

/// What the process in the container works on.
struct Place {
    root: OwnedFd,
    /// `/proc/self/fd` of the host's proc: what a container has mounted on its own could lead elsewhere.
    own_fds: OwnedFd,
}

fn enter((namespaces, kinds): spawn::Join<'_>, in_user_namespace: bool) -> StepResult<Place> {
    // Nobody inside may look at this process (CVE-2016-9962).
    sys::forbid_inspection().step("forbid inspection")?;
    let own_fds = rootfs::open_directory(Path::new("/proc/self/fd")).step("open /proc/self/fd")?;
    sys::join_namespaces(namespaces, kinds).step("join the container's namespaces")?;
    if in_user_namespace {
        become_root_of_user_namespace()?;
        sys::forbid_inspection().step("forbid inspection")?;
    }
    let root = rootfs::open_directory(Path::new("/")).step("open the container's root")?;
    Ok(Place { root, own_fds })
}

// umount2(2) takes a path only, and the one to a descriptor is none that the container could redirect.
fn unmount(own_fds: BorrowedFd<'_>, mount: &OwnedFd) -> nix::Result<()> {
    nix::unistd::fchdir(own_fds)?;
    umount2(mount.as_raw_fd().to_string().as_str(), MntFlags::MNT_DETACH)
}
