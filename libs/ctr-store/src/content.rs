// SPDX-License-Identifier: Apache-2.0
//! The content store: the blobs of the image layout, each under its digest, and how they get there.
//!
//! A blob that is there is whole: it was verified, synced and renamed into place in that order, and is
//! never written to again. What is on its way is an [`Ingest`]. Names are left to the index.

mod error;
mod ingest;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ctr_record::{Algorithm, Descriptor, Digest, Hasher};

use crate::file::list_names;
use crate::leftover::{Leftover, LeftoverKind, Removal};
use crate::{Durability, Lock, StateDir, StoreError, read_bounded, replace_file};
pub use error::ContentError;
pub use ingest::Ingest;
pub(crate) use ingest::remove as remove_ingest;

const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

/// The blobs of a state directory.
#[derive(Clone, Debug)]
pub struct ContentStore {
    state: StateDir,
}

impl ContentStore {
    /// Opens the content store and makes it when it is missing.
    pub fn open(state: &StateDir) -> Result<Self, StoreError> {
        let store = Self { state: state.clone() };
        let layout = state.image().join("oci-layout");
        if !layout.exists() {
            state.make(&store.directory(Algorithm::Sha256))?;
            let _lock = Lock::exclusive(&state.image().join("index.lock"))?;
            replace_file(&layout, LAYOUT, Durability::PowerCut)?;
        }
        Ok(store)
    }

    /// Where a blob is, once it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory(digest.algorithm()).join(digest.hex())
    }

    /// Whether a blob is there. One of another size is not: a foreign writer left it half-written.
    pub fn contains(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        let path = self.path(&descriptor.digest);
        let is_there = match fs::metadata(&path) {
            Ok(metadata) => metadata.is_file() && metadata.len() == descriptor.size,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(StoreError::io("examine", &path)(error)),
        };
        if is_there {
            self.sweep(&self.ingest_directory(&descriptor.digest))?;
        }
        Ok(is_there)
    }

    /// Opens a blob. Its bytes are not verified again here.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, ContentError> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::Absent { digest: digest.clone() },
            _ => StoreError::io("open", &path)(error).into(),
        })
    }

    /// Reads a small blob of at most `limit` bytes and verifies it. `None` when it is not there.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, ContentError> {
        let path = self.path(digest);
        let content = match read_bounded(&path, limit) {
            Ok(content) => content,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&content);
        match hasher.finish() == *digest {
            true => Ok(Some(content)),
            false => Err(ContentError::Damaged { path }),
        }
    }

    /// Begins or continues to bring a blob in. `None` when it is there already.
    ///
    /// One process at a time brings a blob in. Others wait in this call until it is there, or until
    /// the one that was at it is gone, and then go on where that one ended.
    pub fn ingest(&self, descriptor: &Descriptor) -> Result<Option<Ingest>, ContentError> {
        let directory = self.ingest_directory(&descriptor.digest);
        loop {
            if self.contains(descriptor)? {
                return Ok(None);
            }
            self.state.make(&directory)?;
            let path = directory.join("lock");
            let lock = match Lock::exclusive(&path) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // The one that held the lock before may have finished and removed the directory; then this
            // lock is on a file that nobody else will ever see.
            if !is_at(&lock, &path)? {
                continue;
            }
            if !self.contains(descriptor)? {
                return Ingest::resume(self.clone(), descriptor.clone(), directory, lock).map(Some);
            }
            ingest::remove(&directory);
            return Ok(None);
        }
    }

    /// Stores a small blob. Says whether it is new.
    pub fn write_blob(&self, descriptor: &Descriptor, content: &[u8]) -> Result<bool, ContentError> {
        let Some(mut ingest) = self.ingest(descriptor)? else { return Ok(false) };
        ingest.restart()?;
        ingest.write(content)?;
        ingest.commit()?;
        Ok(true)
    }

    fn directory(&self, algorithm: Algorithm) -> PathBuf {
        self.state.image().join("blobs").join(algorithm.as_str())
    }

    fn ingest_directory(&self, digest: &Digest) -> PathBuf {
        self.state.ingest().join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    // What a process left that was killed between renaming its blob and removing its directory.
    fn sweep(&self, directory: &Path) -> Result<(), StoreError> {
        if directory.exists()
            && let Ok(Some(_lock)) = Lock::try_exclusive(&directory.join("lock"))
        {
            ingest::remove(directory);
        }
        Ok(())
    }
}

/// The blobs that nobody is bringing in any more.
pub(crate) fn abandoned(
    state: &StateDir,
) -> Result<impl Iterator<Item = Result<Leftover, StoreError>> + use<>, StoreError> {
    let ingest = state.ingest();
    let look = |path: PathBuf| {
        let lock_path = path.join("lock");
        let lock = match Lock::try_exclusive(&lock_path) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            lock => lock?,
        };
        match lock {
            Some(lock) if is_at(&lock, &lock_path)? => {
                Ok(Some(Leftover::new(LeftoverKind::Ingest, path, Removal::Ingest, Some(lock.into_file()))))
            }
            _ => Ok(None),
        }
    };
    Ok(list_names(&ingest)?.into_iter().filter_map(move |name| look(ingest.join(name)).transpose()))
}

fn is_at(lock: &Lock, path: &Path) -> Result<bool, StoreError> {
    let held = lock.file().metadata().map_err(StoreError::io("examine", path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("examine", path)(error)),
    }
}
