// SPDX-License-Identifier: Apache-2.0
//! Runtime bundles: made whole or not at all, found again, removed.
//!
//! ```text
//! bundles/<ns>/<id>/      a bundle: config.json, mounts.json, rootfs/, upper/, work/
//! bundles/<ns>/@<id>/     one that is being made or removed; whoever does it holds a lock on it
//! ```
//!
//! No id begins with `@`. An `@` directory that nobody has locked is what a killed process left: the next
//! one that wants the id removes it, and so does [`Bundles::sweep`]. What goes into config.json is the
//! caller's business; how a snapshot becomes a root that can be written is `root.rs`'s.

mod error;
mod remove;
mod root;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ctr_record::{Mount, check_container_id};
use serde::{Deserialize, Serialize};

use crate::file::list_names;
use crate::leftover::{LeftoverKind, staged};
use crate::{StateDir, StoreError, read_bounded};

pub use error::BundleError;
pub use root::{lower_directories, stack};

/// A config.json larger than this is no config.json.
const MAX_FILE: u64 = 16 << 20;

/// The bundles of one namespace.
#[derive(Clone, Debug)]
pub struct Bundles {
    directory: PathBuf,
}

impl Bundles {
    /// The bundles of a namespace of a state directory.
    pub fn of(state: &StateDir, namespace: &str) -> Self {
        Self { directory: state.bundles(namespace) }
    }

    /// Begins a bundle. Nobody sees it before [`StagedBundle::commit`], and it is gone when dropped.
    pub fn stage(&self, id: &str) -> Result<StagedBundle, BundleError> {
        check_container_id(id)?;
        let path = self.directory.join(id);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(BundleError::Exists { id: id.to_owned() });
        }
        let staging = self.staging(id);
        loop {
            match DirBuilder::new().mode(0o700).create(&staging) {
                // Between mkdir and lock it looks abandoned, and somebody may remove it: then once more.
                Ok(()) => {
                    if let Lock::Taken(lock) = lock_directory(&staging, Wait::Yes)? {
                        return Ok(StagedBundle { id: id.to_owned(), staging, path, _lock: lock, committed: false });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.clear(id, Wait::No)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(&self.directory)
                        .map_err(StoreError::io("make directory", &self.directory))?;
                }
                Err(error) => return Err(StoreError::io("make directory", &staging)(error).into()),
            }
        }
    }

    /// Finds a bundle. A directory without a config.json is an error of its own.
    pub fn open(&self, id: &str) -> Result<Bundle, BundleError> {
        check_container_id(id)?;
        let path = self.directory.join(id);
        match fs::symlink_metadata(&path) {
            Ok(_) => Bundle::open(&path),
            Err(_) => Err(BundleError::NotFound { id: id.to_owned() }),
        }
    }

    /// The ids of all bundles, in order.
    pub fn list(&self) -> Result<Vec<String>, BundleError> {
        let mut ids: Vec<String> =
            list_names(&self.directory)?.into_iter().filter(|name| check_container_id(name).is_ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes a bundle with everything that its container wrote, config.json or not.
    ///
    /// Symbolic links are removed, not followed; a file system mounted inside is an error, and on `rootfs/`
    /// one before anything is touched.
    pub fn remove(&self, id: &str) -> Result<(), BundleError> {
        check_container_id(id)?;
        let path = self.directory.join(id);
        remove::refuse_mount(&path, "rootfs")?;
        loop {
            match fs::rename(&path, self.staging(id)) {
                Ok(()) => return self.clear(id, Wait::Yes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(BundleError::NotFound { id: id.to_owned() });
                }
                Err(error) if is_occupied(&error) => self.clear(id, Wait::Yes)?,
                Err(error) => return Err(StoreError::io("rename", &path)(error).into()),
            }
        }
    }

    /// Removes what killed processes left half-made or half-removed.
    pub fn sweep(&self) -> Result<(), BundleError> {
        for leftover in staged(LeftoverKind::Bundle, self.directory.clone())? {
            leftover?.remove()?;
        }
        Ok(())
    }

    fn staging(&self, id: &str) -> PathBuf {
        self.directory.join(format!("@{id}"))
    }

    // Removes an abandoned @<id>; one that somebody is at work on is waited for or is an error.
    fn clear(&self, id: &str, wait: Wait) -> Result<(), BundleError> {
        let staging = self.staging(id);
        match lock_directory(&staging, wait)? {
            Lock::Taken(_lock) => remove::remove_tree(&staging),
            Lock::Busy => Err(BundleError::Busy { id: id.to_owned() }),
            Lock::Gone => Ok(()),
        }
    }
}

/// A bundle in the making; see [`Bundles::stage`].
#[derive(Debug)]
pub struct StagedBundle {
    id: String,
    staging: PathBuf,
    path: PathBuf,
    _lock: File,
    committed: bool,
}

impl StagedBundle {
    /// Where the bundle will be: what config.json and mounts.json must speak of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in the bundle, with the owner and mode of the directory `like`, else 0755.
    /// Returns where it will be.
    pub fn make_directory(&self, name: &str, like: Option<&Path>) -> Result<PathBuf, BundleError> {
        root::make_directory(&self.staging.join(name), like)?;
        Ok(self.path.join(name))
    }

    /// Puts a writable directory over a read-only snapshot. `name` is the bundle's directory for it, empty
    /// for the root file system: `upper` and `work` come in there.
    pub fn make_writable(&self, name: &str, snapshot: &[Mount]) -> Result<Mount, BundleError> {
        root::make_writable(&self.staging.join(name), &self.path.join(name), snapshot)
    }

    /// Gives the writable directory of the root file system to the ids that its owner and group are mapped to.
    pub fn map_root(&self, uid: impl Fn(u32) -> u32, gid: impl Fn(u32) -> u32) -> Result<(), BundleError> {
        Ok(root::map_owner(&self.staging.join("upper"), uid, gid)?)
    }

    /// Writes config.json, and mounts.json where the root is to be mounted, and gives the bundle its name.
    pub fn commit(mut self, config: &[u8], mounts: Option<&[Mount]>) -> Result<Bundle, BundleError> {
        if let Some(mounts) = mounts {
            let json = serde_json::to_vec(&MountsFile { mounts: mounts.to_vec() }).expect("mounts are plain data");
            root::make_directory(&self.staging.join("rootfs"), None)?;
            root::write_file(&self.staging.join("mounts.json"), &json)?;
        }
        root::write_file(&self.staging.join("config.json"), config)?;
        match fs::rename(&self.staging, &self.path) {
            Ok(()) => {
                self.committed = true;
                Ok(Bundle { path: self.path.clone() })
            }
            Err(error) if is_occupied(&error) => Err(BundleError::Exists { id: self.id.clone() }),
            Err(error) => Err(StoreError::io("rename to", &self.path)(error).into()),
        }
    }
}

impl Drop for StagedBundle {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is swept later: it is unlocked from here on.
            let _ = remove::remove_tree(&self.staging);
        }
    }
}

/// A bundle: a directory with a config.json.
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
}

impl Bundle {
    /// Opens a bundle by its directory.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        match fs::metadata(path.join("config.json")) {
            Ok(metadata) if metadata.is_file() => Ok(Self { path: path.to_owned() }),
            _ => Err(BundleError::NoConfig { path: path.to_owned() }),
        }
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of config.json.
    pub fn config(&self) -> Result<Vec<u8>, BundleError> {
        Ok(read_bounded(&self.path.join("config.json"), MAX_FILE)?)
    }

    /// What to mount on `rootfs/`; nothing when the root is a plain directory.
    pub fn mounts(&self) -> Result<Option<Vec<Mount>>, BundleError> {
        let path = self.path.join("mounts.json");
        let json = match read_bounded(&path, MAX_FILE) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json?,
        };
        match serde_json::from_slice::<MountsFile>(&json) {
            Ok(file) => Ok(Some(file.mounts)),
            Err(source) => Err(StoreError::Damaged { path, source }.into()),
        }
    }
}

/// mounts.json.
#[derive(Serialize, Deserialize)]
struct MountsFile {
    mounts: Vec<Mount>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

pub(crate) enum Lock {
    Taken(File),
    Busy,
    /// The directory is gone, or another one has its name by now.
    Gone,
}

// Locks a directory itself, so that the lock moves and vanishes with it.
pub(crate) fn lock_directory(path: &Path, wait: Wait) -> Result<Lock, StoreError> {
    let directory = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Gone),
        directory => directory.map_err(StoreError::io("open", path))?,
    };
    match wait {
        Wait::Yes => directory.lock().map_err(StoreError::io("lock", path))?,
        Wait::No => match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Lock::Busy),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        },
    }
    let locked = directory.metadata().map_err(StoreError::io("stat", path))?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => Ok(Lock::Taken(directory)),
        Ok(_) => Ok(Lock::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lock::Gone),
        Err(error) => Err(StoreError::io("stat", path)(error)),
    }
}

// What rename says when something has the new name already.
fn is_occupied(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory)
}

#[cfg(test)]
mod tests;
