// SPDX-License-Identifier: Apache-2.0
//! A blob on its way into the store: `ingest/ALGORITHM-HEX/` with `data` and `lock`.
//!
//! `data` only grows and is hashed as it does. Killed at any instruction, a process leaves a prefix
//! that the next one hashes again and continues, or a directory without data that the next one
//! removes. The lock is held for as long as the value lives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ctr_record::{Descriptor, Digest, Hasher};

use super::{ContentError, ContentStore};
use crate::{Lock, StoreError};

const HASH_BUFFER: usize = 256 * 1024;

/// A blob that this process alone is bringing in. It ends by [`Ingest::commit`] or
/// [`Ingest::discard`]; dropped, it stays for the next process to continue.
pub struct Ingest {
    store: ContentStore,
    descriptor: Descriptor,
    directory: PathBuf,
    data: File,
    hasher: Hasher,
    written: u64,
    resumed: bool,
    _lock: Lock,
}

impl Ingest {
    /// Continues what is in `directory`, whose lock is held.
    pub(super) fn resume(
        store: ContentStore,
        descriptor: Descriptor,
        directory: PathBuf,
        lock: Lock,
    ) -> Result<Self, ContentError> {
        let path = directory.join("data");
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut data = options.open(&path).map_err(StoreError::io("open", &path))?;
        let length = data.metadata().map_err(StoreError::io("examine", &path))?.len();
        if length > descriptor.size {
            data.set_len(0).map_err(StoreError::io("truncate", &path))?;
        }
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        let written = hash(&mut data, &mut hasher).map_err(StoreError::io("read", &path))?;
        Ok(Self { store, descriptor, directory, data, hasher, written, resumed: written > 0, _lock: lock })
    }

    /// How many bytes are there, and so where to continue.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes. More than the descriptor's size is an error, and what was there is dropped.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        if bytes.len() as u64 > self.descriptor.size - self.written {
            self.empty();
            let Descriptor { digest, size, .. } = self.descriptor.clone();
            return Err(ContentError::TooLong { digest, size });
        }
        if let Err(error) = self.data.write_all(bytes) {
            self.empty_if_full(&error);
            return Err(StoreError::io("write", &self.path())(error).into());
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what is there and begins anew.
    pub fn restart(&mut self) -> Result<(), ContentError> {
        self.data.set_len(0).map_err(StoreError::io("truncate", &self.path()))?;
        self.hasher = Hasher::new(self.descriptor.digest.algorithm());
        self.written = 0;
        self.resumed = false;
        Ok(())
    }

    /// Ends the download: verifies size and digest, syncs, and gives the blob its name.
    ///
    /// A prefix stays for the next try; content with the wrong digest is dropped.
    pub fn commit(mut self) -> Result<(), ContentError> {
        let Descriptor { digest, size, .. } = self.descriptor.clone();
        if self.written != size {
            return Err(ContentError::Incomplete { digest, written: self.written, size });
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(digest.algorithm()));
        let actual = hasher.finish();
        if actual != digest {
            self.empty();
            return Err(ContentError::Digest { expected: digest, actual, resumed: self.resumed });
        }
        self.publish(&digest)?;
        remove(&self.directory);
        Ok(())
    }

    /// Ends the download and drops what is there.
    pub fn discard(mut self) {
        self.empty();
    }

    fn publish(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let (from, to) = (self.path(), self.store.path(digest));
        let directory = self.store.directory(digest.algorithm());
        self.store.state.make(&directory)?;
        let read_only = fs::Permissions::from_mode(0o444);
        self.data.set_permissions(read_only).map_err(StoreError::io("make read-only", &from))?;
        // Content before name, or a power cut could leave a name for zeros.
        if let Err(error) = self.data.sync_all() {
            self.empty_if_full(&error);
            return Err(StoreError::io("sync", &from)(error));
        }
        fs::rename(&from, &to).map_err(StoreError::io("rename to", &to))?;
        File::open(&directory).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", &directory))
    }

    fn path(&self) -> PathBuf {
        self.directory.join("data")
    }

    // A full disk is not to stay full of what nobody may ever continue.
    fn empty_if_full(&mut self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.empty();
        }
    }

    fn empty(&mut self) {
        // Where even that fails, the next process finds data that it cannot verify, and drops it.
        let _ = self.data.set_len(0);
        self.written = 0;
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if self.written == 0 {
            remove(&self.directory);
        }
    }
}

/// Removes an ingest directory whose lock is held. The lock file goes last but one: from then on others
/// may begin anew in the directory, which then stays.
pub(crate) fn remove(directory: &Path) {
    let _ = fs::remove_file(directory.join("data"));
    let _ = fs::remove_file(directory.join("lock"));
    let _ = fs::remove_dir(directory);
}

fn hash(data: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; HASH_BUFFER];
    let mut hashed = 0;
    loop {
        match data.read(&mut buffer) {
            Ok(0) => return Ok(hashed),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                hashed += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
