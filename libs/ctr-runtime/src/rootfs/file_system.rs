// SPDX-License-Identifier: Apache-2.0
//! New file systems of a container: made and configured, and what is to be said when that fails.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ctr_sys::mount::{self, Attributes, FsContext, MOUNT_ATTR_RDONLY};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::plan::MountPlan;
use crate::process::report::{InitFailure, Step, StepResult};

/// Opens the root of a mount that is not attached.
pub(crate) fn open_root(mount: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    openat(mount, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Makes a file system and mounts it on a directory by one call instead of ten, if its options leave a choice.
///
/// `false`: it was not made, for a reason that [`create_file_system`] can tell, or knows to avoid.
pub(crate) fn mount_at_once(
    planned: &MountPlan,
    fstype: &str,
    source: &str,
    data: &[String],
    target: BorrowedFd<'_>,
) -> bool {
    // The words of a context have commas themselves. A read-only mount would have a read-only superblock, which may
    // be another mount's as well.
    let is_plain =
        planned.is_of_nothing() && planned.label.is_none() && !data.iter().any(|option| option.contains(','));
    let attributes = planned.first_attributes();
    is_plain
        && attributes & MOUNT_ATTR_RDONLY == 0
        && mount::mount_on(target, fstype, source, &data.join(","), attributes).is_ok()
}

/// Makes the file system of a planned mount, not yet attached.
pub(crate) fn new_file_system(fstype: &str, source: &str, planned: &MountPlan) -> StepResult<OwnedFd> {
    let mount = match create_file_system(fstype, source, &planned.options.data, planned.first_attributes()) {
        // Without a network or ipc namespace of its own, a user namespace may not mount these anew.
        Err((_, error)) if error.raw_os_error() == Some(libc::EPERM) && matches!(fstype, "sysfs" | "mqueue") => {
            let host = if fstype == "sysfs" { "/sys" } else { "/dev/mqueue" };
            let tree = mount::clone_tree(AT_FDCWD, Path::new(host), true).step_with(|| format!("bind {host}"))?;
            // What the host has mounted below is no more writable than the whole.
            let attributes = Attributes { set: planned.options.attributes.set, ..Attributes::default() };
            let set = mount::set_attributes(tree.as_fd(), true, attributes);
            set.step_with(|| format!("set the options of {host}"))?;
            return Ok(tree);
        }
        result => result.map_err(|why| explain(planned, fstype, why))?,
    };
    if let Some(label) = &planned.label {
        let labelled = open_root(mount.as_fd()).map_err(io::Error::from);
        let labelled =
            labelled.and_then(|root| ctr_sys::xattr::set(root.as_fd(), b"security.selinux", label.as_bytes()));
        labelled.map_err(|error| explain(planned, fstype, (None, error)))?;
    }
    Ok(mount)
}

/// A file system that could not be made: the kernel's complaint, if it had one, and its error.
pub(crate) type NotMade = (Option<String>, io::Error);

/// Makes a file system, not yet attached.
pub(crate) fn create_file_system(
    fstype: &str,
    source: &str,
    data: &[String],
    attributes: u64,
) -> Result<OwnedFd, NotMade> {
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

/// Says why a file system could not be made.
pub(crate) fn explain(planned: &MountPlan, fstype: &str, (complaint, error): NotMade) -> InitFailure {
    let labelled = planned.label.is_some() || planned.options.data.iter().any(|option| option.starts_with("context="));
    let place = planned.destination.display();
    if labelled && !has_selinux() {
        let step =
            format!("mount {fstype} to /{place}: linux.mountLabel needs SELinux, which this kernel does not use");
        return InitFailure::finding(step);
    }
    let why = complaint.map(|text| format!(" ({text})")).unwrap_or_default();
    let failed: StepResult<()> = Err(error).step_with(|| format!("mount {fstype} to /{place}{why}"));
    failed.expect_err("it is an error")
}

fn has_selinux() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems");
    known.is_ok_and(|known| known.lines().any(|line| line.ends_with("\tselinuxfs")))
}
