// SPDX-License-Identifier: Apache-2.0
//! The last touches to the container's root, from inside: what it may not write, and what it may not see.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ctr_sys::mount::{self, Attributes, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, makedev};

use crate::plan::Plan;
use crate::process::report::{InitFailure, Step, StepResult};
use crate::rootfs::beneath::{Root, is_dir};
use crate::rootfs::file_system::create_file_system;

/// Gives the root its propagation and takes away what the container may not write or see.
pub(crate) fn finalise(plan: &Plan, root: Root<'_>) -> StepResult<()> {
    if plan.rootfs.readonly {
        mount::make_read_only(root.0).step("make the rootfs read-only")?;
    }
    for path in &plan.readonly_paths {
        make_path_readonly(root, path).step_with(|| format!("make {} read-only", path.display()))?;
    }
    mask_paths(root, &plan.masked_paths, plan.mount_label.as_deref())?;
    // Last, because what is unbindable could not be covered by a bind of itself any more.
    if let Some((propagation, recursive)) = plan.rootfs.propagation {
        let change = Attributes { propagation, ..Attributes::default() };
        mount::set_attributes(root.0, recursive, change).step("set the propagation of the rootfs")?;
    }
    Ok(())
}

fn make_path_readonly(root: Root<'_>, path: &Path) -> io::Result<()> {
    let target = match root.open(path, OFlag::O_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    let tree = mount::clone_tree(target.as_fd(), Path::new(""), true)?;
    mount::make_read_only(tree.as_fd())?;
    mount::move_mount(tree.as_fd(), target.as_fd())
}

// A file is covered with /dev/null, a directory with an empty one: the same one for all, because every
// further superblock makes memory reclaim of the whole machine slower.
fn mask_paths(root: Root<'_>, paths: &[PathBuf], label: Option<&str>) -> StepResult<()> {
    let mut null: Option<OwnedFd> = None;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let failed = || format!("mask {}", path.display());
        let target = match root.open(path, OFlag::O_PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.step_with(failed)?,
        };
        let cover = match is_dir(&target).step_with(failed)? {
            false => {
                if null.is_none() {
                    null = Some(open_null(root)?);
                }
                null.as_ref()
            }
            true if empty.is_some() => empty.as_ref(),
            true => {
                let first = empty_directory(label).step_with(failed)?;
                mount::move_mount(first.as_fd(), target.as_fd()).step_with(failed)?;
                empty = Some(first);
                continue;
            }
        };
        let cover = cover.expect("made above").as_fd();
        let tree = mount::clone_tree(cover, Path::new(""), false).step_with(failed)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).step_with(failed)?;
    }
    Ok(())
}

fn empty_directory(label: Option<&str>) -> io::Result<OwnedFd> {
    let mut data = vec!["nr_blocks=1".to_owned(), "nr_inodes=1".to_owned()];
    data.extend(label.map(|label| format!("context={label}")));
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    create_file_system("tmpfs", "tmpfs", &data, attributes).map_err(|(_, error)| error)
}

// The image could have put anything at /dev/null (CVE-2025-31133).
fn open_null(root: Root<'_>) -> StepResult<OwnedFd> {
    let null = root.open_plain(Path::new("dev/null"), OFlag::O_PATH).step("open /dev/null")?;
    let status = fstat(&null).step("stat /dev/null")?;
    let is_null = status.st_rdev == makedev(1, 3) && SFlag::from_bits_truncate(status.st_mode).contains(SFlag::S_IFCHR);
    match is_null {
        true => Ok(null),
        false => Err(InitFailure::finding("the container's /dev/null is not the null device")),
    }
}
