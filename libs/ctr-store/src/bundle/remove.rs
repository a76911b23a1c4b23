// SPDX-License-Identifier: Apache-2.0
//! Removes a directory tree that a container had in its hands: no link followed, no mount crossed.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::BundleError;
use crate::StoreError;

/// Refuses when a directory's entry is the root of a mounted file system.
pub(super) fn refuse_mount(directory: &Path, entry: &str) -> Result<(), BundleError> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    match File::open(directory).map(|directory| openat2(&directory, entry, how)) {
        Ok(Err(Errno::EXDEV)) => Err(BundleError::MountedOver { path: directory.join(entry) }),
        // Whatever else is wrong with it, the removal will tell.
        _ => Ok(()),
    }
}

/// Removes a directory and all below it. What is gone already does not matter.
pub(super) fn remove_tree(root: &Path) -> Result<(), BundleError> {
    let (parent, name) = (root.parent(), root.file_name());
    let (parent, name) = parent.zip(name).expect("a bundle's path has a parent and a name");
    let removed = match File::open(parent) {
        Ok(parent) => ctr_sys::tree::remove(&parent, name.as_bytes()),
        Err(error) => Err(error),
    };
    match removed.map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
        Ok(()) => Ok(()),
        Err((_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err((Some(Errno::EXDEV | Errno::EBUSY), _)) => Err(BundleError::MountedOver { path: root.to_owned() }),
        Err((_, error)) => Err(StoreError::io("remove", root)(error).into()),
    }
}
