// SPDX-License-Identifier: Apache-2.0
//! A snapshot in the making: `@<chain>/`, locked, until it gets its name.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{MARKER, SnapshotError, SnapshotInfo};
use crate::{Durability, StoreError, replace_file};

/// A snapshot that this process alone is making; see [`super::Snapshots::stage`]. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedSnapshot {
    staging: PathBuf,
    path: PathBuf,
    /// The directory; the lock is on it, and moves with it.
    directory: File,
    committed: bool,
}

impl StagedSnapshot {
    pub(super) fn new(directory: File, staging: PathBuf, path: PathBuf) -> Self {
        Self { staging, path, directory, committed: false }
    }

    /// The directory, in which the layer is to be unpacked under the name `fs`.
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Describes the snapshot and gives it its name. With [`Durability::PowerCut`] everything in it is on
    /// the disk by then.
    pub fn commit(mut self, info: &SnapshotInfo, durability: Durability) -> Result<(), SnapshotError> {
        let json = serde_json::to_vec(info).expect("a snapshot's description has only string keys");
        replace_file(&self.staging.join(MARKER), &json, Durability::Process)?;
        if durability == Durability::PowerCut {
            // Once for the file system instead of once for each of thousands of files.
            nix::unistd::syncfs(&self.directory).map_err(StoreError::errno("sync", &self.staging))?;
        }
        fs::rename(&self.staging, &self.path).map_err(StoreError::io("rename to", &self.path))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for StagedSnapshot {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is swept later: it is unlocked from here on.
            let _ = remove(&self.staging);
        }
    }
}

/// Makes a staging directory; `false`: there is one.
pub(super) fn create(staging: &Path) -> Result<bool, StoreError> {
    match DirBuilder::new().mode(0o700).create(staging) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(StoreError::io("make directory", staging)(error)),
    }
}

/// Removes a directory whose lock is held, with all that is in it.
pub(super) fn remove(staging: &Path) -> Result<(), StoreError> {
    let (parent, name) = staging.parent().zip(staging.file_name()).expect("it is in snapshots/");
    let removed = File::open(parent).and_then(|parent| ctr_sys::tree::remove(&parent, name.as_bytes()));
    removed.map_err(StoreError::io("remove", staging))
}
