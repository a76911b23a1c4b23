// SPDX-License-Identifier: Apache-2.0
//! What is in the making: a locked directory beside the place where it will be.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{MARKER, SnapshotError, SnapshotInfo};
use crate::bundle::{Lock, Wait, lock_directory};
use crate::{Durability, StoreError, replace_file};

/// A directory that this process alone works in. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// The directory; the lock is on it, and moves with it.
    directory: File,
    renamed: bool,
}

/// What came of the attempt to have a staging directory.
pub(super) enum Claim {
    Taken(Staging),
    /// Another process is at work in it.
    Busy,
    /// Another process was, and may have finished.
    Again,
}

impl Staging {
    /// Makes a staging directory, once what a killed process left under its name is removed.
    pub(super) fn claim(path: &Path, wait: Wait) -> Result<Claim, StoreError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Ok(match lock_directory(path, Wait::Yes)? {
                Lock::Taken(directory) => Claim::Taken(Self { path: path.to_owned(), directory, renamed: false }),
                // Between mkdir and lock it looked abandoned, and somebody has removed it.
                Lock::Busy | Lock::Gone => Claim::Again,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clear(path, wait),
            Err(error) => Err(StoreError::io("make directory", path)(error)),
        }
    }

    pub(super) fn directory(&self) -> &File {
        &self.directory
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn rename(mut self, to: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, to).map_err(StoreError::io("rename to", to))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is swept later: it is unlocked from here on.
            let _ = remove(&self.path);
        }
    }
}

/// Removes an abandoned staging directory; one that somebody is at work in is waited for, or left.
pub(super) fn clear(path: &Path, wait: Wait) -> Result<Claim, StoreError> {
    match lock_directory(path, wait)? {
        Lock::Taken(_lock) => remove(path).map(|()| Claim::Again),
        Lock::Busy => Ok(Claim::Busy),
        Lock::Gone => Ok(Claim::Again),
    }
}

/// Removes a directory with all that is in it.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let (parent, name) = path.parent().zip(path.file_name()).expect("it is in a directory");
    let removed = File::open(parent).and_then(|parent| ctr_sys::tree::remove(&parent, name.as_bytes()));
    removed.map_err(StoreError::io("remove", path))
}

/// A snapshot that this process alone is making; see [`super::Snapshots::stage`]. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedSnapshot {
    staging: Staging,
    path: PathBuf,
}

impl StagedSnapshot {
    pub(super) fn new(staging: Staging, path: PathBuf) -> Self {
        Self { staging, path }
    }

    /// The directory, in which the layer is to be unpacked under the name `fs`.
    pub fn directory(&self) -> &File {
        self.staging.directory()
    }

    /// Describes the snapshot and gives it its name. With [`Durability::PowerCut`] everything in it is on
    /// the disk by then.
    pub fn commit(self, info: &SnapshotInfo, durability: Durability) -> Result<(), SnapshotError> {
        let json = serde_json::to_vec(info).expect("a snapshot's description has only string keys");
        replace_file(&self.staging.path().join(MARKER), &json, Durability::Process)?;
        if durability == Durability::PowerCut {
            // Once for the file system instead of once for each of thousands of files.
            let synced = nix::unistd::syncfs(self.staging.directory());
            synced.map_err(StoreError::errno("sync", self.staging.path()))?;
        }
        Ok(self.staging.rename(&self.path)?)
    }
}
