// SPDX-License-Identifier: Apache-2.0
//! What processes have left half-made or half-removed that were killed: found by the locks that nobody holds.
//!
//! Each is removed by the next process that comes by the same thing. Here are those that nobody comes by.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::bundle::{self, Wait, lock_directory};
use crate::file::list_names;
use crate::{Lock, StateDir, StoreError, content, sched, snapshot};

/// What something half-made was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// A blob: what has arrived of it goes, too.
    Ingest,
    /// An unpacked layer.
    Snapshot,
    /// A bundle.
    Bundle,
    /// A task.
    Task,
    /// A place in the queue of the limiter of starts.
    Ticket,
    /// A file's new content.
    File,
}

impl LeftoverKind {
    /// Its name in what tools print.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Snapshot => "snapshot",
            Self::Bundle => "bundle",
            Self::Task => "task",
            Self::Ticket => "ticket",
            Self::File => "file",
        }
    }
}

/// Something that a killed process has left.
#[derive(Debug)]
pub struct Leftover {
    kind: LeftoverKind,
    path: PathBuf,
    removal: Removal,
    /// Keeps others away from it.
    _lock: Option<File>,
}

/// How it is removed.
#[derive(Debug)]
pub(crate) enum Removal {
    /// With all that is in it.
    Tree,
    /// In the order that those who wait for it count on.
    Ingest,
    /// With the lock of this file held, as files of its kind are made.
    Under(PathBuf),
    /// As whoever makes the snapshot whose name it has would.
    Unmarked,
}

impl Leftover {
    /// What it was to be.
    pub fn kind(&self) -> LeftoverKind {
        self.kind
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that it was to have: a bundle's or a task's.
    pub fn id(&self) -> Option<&str> {
        match self.kind {
            LeftoverKind::Bundle | LeftoverKind::Task => self.path.file_name()?.to_str()?.strip_prefix('@'),
            _ => None,
        }
    }

    /// Removes it. False: somebody else has come by meanwhile, and does.
    pub fn remove(self) -> Result<bool, StoreError> {
        match self.removal {
            Removal::Unmarked => return snapshot::remove_unmarked(&self.path),
            Removal::Ingest => content::remove_ingest(&self.path),
            Removal::Under(lock) => {
                let _lock = Lock::exclusive(&lock)?;
                return remove_file(&self.path);
            }
            Removal::Tree => {
                let (parent, name) = self.path.parent().zip(self.path.file_name()).expect("it is in a directory");
                let removed = File::open(parent).and_then(|parent| ctr_sys::tree::remove(&parent, name.as_bytes()));
                removed.map_err(StoreError::io("remove", &self.path))?;
            }
        }
        Ok(true)
    }
}

// The lock under which it would be made is held: if nobody has it locked, nobody will ever use it.
fn remove_file(path: &Path) -> Result<bool, StoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(StoreError::io("open", path))?,
    };
    match file.try_lock() {
        Ok(()) => fs::remove_file(path).map(|()| true).map_err(StoreError::io("remove", path)),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", path)(error)),
    }
}

/// All that killed processes have left of what all namespaces share, and of one namespace.
pub fn leftovers(
    state: &StateDir,
    namespace: &str,
) -> Result<impl Iterator<Item = Result<Leftover, StoreError>>, StoreError> {
    let image = state.image();
    Ok(content::abandoned(state)?
        .chain(temporaries(&image, &image.join("index.lock"))?.map(Ok))
        .chain(staged(LeftoverKind::Snapshot, state.snapshots())?)
        .chain(snapshot::unmarked(state)?)
        .chain(staged(LeftoverKind::Bundle, state.bundles(namespace))?)
        .chain(staged(LeftoverKind::Task, state.tasks(namespace))?)
        .chain(sched::abandoned(state)?.map(Ok))
        .chain(temporaries(&state.sched(), &state.sched().join("mutex"))?.map(Ok)))
}

/// The directories in the making or removal that nobody holds: their names begin with `@`.
pub(crate) fn staged(
    kind: LeftoverKind,
    directory: PathBuf,
) -> Result<impl Iterator<Item = Result<Leftover, StoreError>>, StoreError> {
    let names = list_names(&directory)?.into_iter().filter(|name| name.starts_with('@'));
    let look = move |path: PathBuf| match lock_directory(&path, Wait::No)? {
        bundle::Lock::Taken(lock) => Ok(Some(Leftover::new(kind, path, Removal::Tree, Some(lock)))),
        bundle::Lock::Busy | bundle::Lock::Gone => Ok(None),
    };
    Ok(names.filter_map(move |name| look(directory.join(name)).transpose()))
}

impl Leftover {
    pub(crate) fn new(kind: LeftoverKind, path: PathBuf, removal: Removal, lock: Option<File>) -> Self {
        Self { kind, path, removal, _lock: lock }
    }
}

/// The files that were to replace others of a directory, which is done with `lock` held.
fn temporaries(directory: &Path, lock: &Path) -> Result<impl Iterator<Item = Leftover> + use<>, StoreError> {
    let (directory, lock) = (directory.to_owned(), lock.to_owned());
    let is_temporary = |name: &String| name.starts_with('.') && name.ends_with(".tmp");
    let names = list_names(&directory)?.into_iter().filter(is_temporary);
    let leftover =
        move |name| Leftover::new(LeftoverKind::File, directory.join(name), Removal::Under(lock.clone()), None);
    Ok(names.map(leftover))
}
