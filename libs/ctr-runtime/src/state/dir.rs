// SPDX-License-Identifier: Apache-2.0
//! A container's directory: claimed, locked, removed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ctr_record::TaskStatus;

use super::State;
use super::record::{CGROUP, COMPLETE, PROCESS};
use crate::caller::notify;
use crate::process::gate;
use crate::{RuntimeError, criu};

/// All names in a container's directory: what holds another one is somebody else's.
const NAMES: [&str; 11] = [
    "state.json",
    ".state.json",
    "config.json",
    ".config.json",
    CGROUP,
    PROCESS,
    COMPLETE,
    gate::START,
    "report.fifo", // of an earlier version
    notify::DIRECTORY,
    criu::DIRECTORY,
];
/// A container's directory in the state root.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir {
    path: PathBuf,
    id: String,
}

impl ContainerDir {
    /// The directory of a container that may or may not exist.
    pub(crate) fn new(root: &Path, id: &str) -> Result<Self, RuntimeError> {
        ctr_record::check_container_id(id).map_err(|_| RuntimeError::InvalidId(id.to_owned()))?;
        Ok(Self { path: root.join(id), id: id.to_owned() })
    }

    /// Claims the id: makes the directory, which must not exist, and locks it.
    pub(crate) fn claim(root: &Path, id: &str) -> Result<(Self, File), RuntimeError> {
        let dir = Self::new(root, id)?;
        loop {
            dir.make(root)?;
            // Between the two it looks abandoned, and somebody may remove it: then once more.
            match dir.lock() {
                Err(RuntimeError::NotFound(_)) => {}
                lock => return Ok((dir, lock?)),
            }
        }
    }

    fn make(&self, root: &Path) -> Result<(), RuntimeError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Sticky: what clears up $XDG_RUNTIME_DIR leaves it alone (XDG Base Directory Specification).
                let mut roots = DirBuilder::new();
                roots.mode(0o1700).recursive(true).create(root).map_err(RuntimeError::io("make", root))?;
                builder.create(&self.path)
            }
            result => result,
        }
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RuntimeError::Exists(self.id.clone()),
            _ => RuntimeError::io("make", &self.path)(error),
        })
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The copy of the bundle's config.json.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// Waits until nobody else changes the container. Held until the file, its directory, is dropped.
    pub(crate) fn lock(&self) -> Result<File, RuntimeError> {
        loop {
            let dir = self.open()?;
            dir.lock().map_err(RuntimeError::io("lock", &self.path))?;
            if self.is_at(&dir)? {
                return Ok(dir);
            }
        }
    }

    /// The same without waiting: `None` when somebody changes it, or it is gone.
    pub(crate) fn try_lock(&self) -> Result<Option<File>, RuntimeError> {
        let dir = match self.open() {
            Err(RuntimeError::NotFound(_)) => return Ok(None),
            dir => dir?,
        };
        match dir.try_lock() {
            Ok(()) => Ok(if self.is_at(&dir)? { Some(dir) } else { None }),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(RuntimeError::io("lock", &self.path)(error)),
        }
    }

    fn open(&self) -> Result<File, RuntimeError> {
        File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RuntimeError::NotFound(self.id.clone()),
            _ => RuntimeError::io("open", &self.path)(error),
        })
    }

    // Who held it before may have deleted the container, and somebody made another of its id.
    fn is_at(&self, dir: &File) -> Result<bool, RuntimeError> {
        let held = dir.metadata().map_err(RuntimeError::io("read", &self.path))?;
        Ok(fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
    }

    /// Removes a directory without a state, which a killed runtime left; one that holds what no runtime puts there
    /// is not a container's, and is left alone.
    pub(crate) fn remove_leftovers(&self) -> Result<(), RuntimeError> {
        match self.foreign_name()? {
            Some(name) => Err(RuntimeError::Foreign { path: self.path.clone(), name }),
            None => self.remove(),
        }
    }

    /// A name in it that no runtime puts there, if there is one.
    pub(crate) fn foreign_name(&self) -> Result<Option<OsString>, RuntimeError> {
        for entry in fs::read_dir(&self.path).map_err(RuntimeError::io("read", &self.path))? {
            let name = entry.map_err(RuntimeError::io("read", &self.path))?.file_name();
            if !NAMES.iter().any(|known| name == *known) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Removes the directory; one that is not there is no failure.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        // What nearly all of them hold. The state goes last: without it the rest is what a killed runtime left.
        for name in ["config.json", PROCESS, CGROUP, "state.json"] {
            let _ = fs::remove_file(self.path.join(name));
        }
        if fs::remove_dir(&self.path).is_ok() {
            return Ok(());
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::io("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }

    /// What the container does at this moment.
    pub(crate) fn status(&self, state: &State) -> TaskStatus {
        if state.pid == 0 {
            return TaskStatus::Creating;
        }
        if !state.process_is_alive() {
            return TaskStatus::Stopped;
        }
        if gate::is_closed(&self.path) {
            return TaskStatus::Created;
        }
        match state.cgroup.is_frozen() {
            Ok(true) => TaskStatus::Paused,
            _ => TaskStatus::Running,
        }
    }
}

/// The directories of a state root, by id. Not all have a state: some are being made, or are what a killed
/// runtime left.
pub(crate) fn list(root: &Path) -> Result<Vec<ContainerDir>, RuntimeError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).map_err(RuntimeError::io("read", root))? {
        let entry = entry.map_err(RuntimeError::io("read", root))?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let id = entry.file_name().into_string().ok().filter(|_| is_directory);
        all.extend(id.and_then(|id| ContainerDir::new(root, &id).ok()));
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn an_id_is_claimed_once() {
        let root = std::env::temp_dir().join(format!("ctr-state-claim-{}", std::process::id()));
        let (dir, _lock) = ContainerDir::claim(&root, "a").unwrap();
        assert!(matches!(ContainerDir::claim(&root, "a"), Err(RuntimeError::Exists(_))));
        assert!(matches!(ContainerDir::claim(&root, "../a"), Err(RuntimeError::InvalidId(_))));
        assert!(matches!(dir.load(), Err(RuntimeError::NotFound(_))));
        assert!(crate::Container::survey(&root, |_| ()).unwrap().is_empty());
        dir.remove().unwrap();
        dir.remove().unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
