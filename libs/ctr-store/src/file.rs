// SPDX-License-Identifier: Apache-2.0
//! The three things that are done to files here: lock, replace, read within bounds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// A held lock (`flock`): the kernel frees it when the last process that has it open is gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the exclusive lock of a file, which is made when it is missing.
    pub fn exclusive(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock().map_err(StoreError::io("lock", path))?;
        Ok(Self { file })
    }

    /// Takes the exclusive lock if nobody holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", path)(error)),
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives up the lock's descriptor with the lock still held, to hand it to another process.
    pub fn into_file(self) -> File {
        self.file
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(StoreError::io("open", path))
}

/// What a replaced file must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of any process.
    Process,
    /// A power cut as well: file and directory are synced.
    PowerCut,
}

/// Replaces a file's content in one step: readers see the old bytes or the new ones, never a mixture.
pub fn replace_file(path: &Path, content: &[u8], durability: Durability) -> Result<(), StoreError> {
    let directory = path.parent().expect("a file of the store has a directory");
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, content, durability).and_then(|()| {
        fs::rename(&temporary, path).map_err(StoreError::io("rename to", path))?;
        match durability {
            Durability::Process => Ok(()),
            Durability::PowerCut => {
                File::open(directory).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", directory))
            }
        }
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

// One name per file and process: what a killed writer left behind is overwritten when its pid comes
// round again, and swept by whoever owns the directory.
fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().expect("a file of the store has a name"));
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, content: &[u8], durability: Durability) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(StoreError::io("create", path))?;
    file.write_all(content).map_err(StoreError::io("write", path))?;
    match durability {
        Durability::Process => Ok(()),
        Durability::PowerCut => file.sync_all().map_err(StoreError::io("sync", path)),
    }
}

/// Reads a whole file that must not be larger than `limit` bytes.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(StoreError::io("read", path))?;
    match content.len() as u64 > limit {
        true => Err(StoreError::TooLarge { path: path.to_owned(), limit }),
        false => Ok(content),
    }
}

/// The names in a directory; none when it does not exist. Those that are not UTF-8 are nobody's here.
pub(crate) fn list_names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::io("list", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", directory))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ctr-store-file-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let dir = scratch("lock");
        let path = dir.join("lock");
        let held = Lock::exclusive(&path).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn replacing_leaves_no_temporary_behind() {
        let dir = scratch("replace");
        let path = dir.join("x.json");
        replace_file(&path, b"one", Durability::Process).unwrap();
        replace_file(&path, b"two", Durability::PowerCut).unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap(), b"two");
        assert!(matches!(read_bounded(&path, 2), Err(StoreError::TooLarge { .. })));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
