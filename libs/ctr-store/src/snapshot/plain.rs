// SPDX-License-Identifier: Apache-2.0
//! A plain directory anywhere, which has its name only once all is in it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::SnapshotError;
use super::stage::{Claim, Staging};
use crate::StoreError;
use crate::bundle::Wait;

/// A plain directory that this process alone is making, in `.NAME.ctr-unpack` beside it. Dropped, it is
/// gone; what a killed process left is removed by the next that makes a directory of that name.
#[derive(Debug)]
pub struct StagedDirectory {
    staging: Staging,
    path: PathBuf,
}

impl StagedDirectory {
    /// Begins a directory, which must be new or empty.
    pub fn create(path: &Path) -> Result<Self, SnapshotError> {
        let path = resolve(path)?;
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Err(SnapshotError::NotEmpty { path });
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".ctr-unpack");
        let hidden = parent.join(hidden);
        loop {
            match Staging::claim(&hidden, Wait::No)? {
                Claim::Taken(staging) => return Ok(Self { staging, path }),
                Claim::Busy => return Err(SnapshotError::Busy { path }),
                Claim::Again => {}
            }
        }
    }

    /// The directory, in which what is to have the name is to be made under the name `fs`.
    pub fn directory(&self) -> &File {
        self.staging.directory()
    }

    /// Gives it its name, and returns that as an absolute path.
    pub fn commit(self) -> Result<PathBuf, SnapshotError> {
        match fs::rename(self.staging.path().join("fs"), &self.path) {
            Ok(()) => Ok(self.path),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(SnapshotError::NotEmpty { path: self.path })
            }
            Err(error) => Err(StoreError::io("rename to", &self.path)(error).into()),
        }
    }
}

// Symlinks are followed: renaming something to the name of one would replace it.
fn resolve(path: &Path) -> Result<PathBuf, SnapshotError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(fs::canonicalize(path).map_err(StoreError::io("examine", path))?),
            Some(_) => Err(SnapshotError::NotEmpty { path: path.to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(std::path::absolute(path).map_err(StoreError::io("examine", path))?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(SnapshotError::NotEmpty { path: path.to_owned() })
        }
        Err(error) => Err(StoreError::io("list", path)(error).into()),
    }
}
