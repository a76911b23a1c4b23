// SPDX-License-Identifier: Apache-2.0
//! Where criu works: the directory of the images, that of its log, and the mounts that only it sees.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;

use super::options::CriuOptions;
use super::request::Directories;
use super::{images, log};
use crate::RuntimeError;
use crate::cgroup::Hierarchies;
use crate::state::ContainerDir;

/// The directories that criu writes to, open.
#[derive(Debug)]
pub(super) struct Work {
    images: (OwnedFd, PathBuf),
    work: Option<(OwnedFd, PathBuf)>,
}

impl Work {
    /// Opens them, and clears the way for a log; that of the images must be there.
    pub(super) fn open(criu: &CriuOptions, log: &str) -> Result<Self, RuntimeError> {
        let images = open_directory(&criu.image_path)?;
        let work = match &criu.work_path {
            None => None,
            Some(path) => {
                images::create_directory(path)?;
                Some(open_directory(path)?)
            }
        };
        let work = Self { images, work };
        log::remove(work.dir(), log).map_err(RuntimeError::io("make the log in", work.path()))?;
        Ok(work)
    }

    /// That of the images.
    pub(super) fn images(&self) -> BorrowedFd<'_> {
        self.images.0.as_fd()
    }

    /// Their numbers, for criu.
    pub(super) fn numbers(&self) -> Directories {
        Directories { images: self.images.0.as_raw_fd(), work: self.work.as_ref().map(|(fd, _)| fd.as_raw_fd()) }
    }

    /// Their paths and numbers.
    pub(super) fn places(&self) -> Vec<(&Path, i32)> {
        let both = [Some(&self.images), self.work.as_ref()].into_iter().flatten();
        both.map(|(fd, path)| (path.as_path(), fd.as_raw_fd())).collect()
    }

    /// Puts what criu's log says into its failure.
    pub(super) fn explain(&self, error: RuntimeError, name: &'static str) -> RuntimeError {
        match error {
            RuntimeError::Criu { action, reason } => {
                let reason = log::last_errors(self.dir(), name).unwrap_or(reason);
                let path = self.path().join(name);
                let log = if path.exists() { format!(" (log file: {})", path.display()) } else { String::new() };
                RuntimeError::Criu { action, reason: format!("{reason}{log}") }
            }
            other => other,
        }
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.work.as_ref().unwrap_or(&self.images).0.as_fd()
    }

    fn path(&self) -> &Path {
        &self.work.as_ref().unwrap_or(&self.images).1
    }
}

fn open_directory(path: &Path) -> Result<(OwnedFd, PathBuf), RuntimeError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty());
    let fd = fd.map_err(|errno| RuntimeError::io("open the directory", path)(errno.into()))?;
    Ok((fd, std::path::absolute(path).map_err(RuntimeError::io("find", path))?))
}

/// Empty directories in a container's state directory that criu has mounts on; removed in the end.
///
/// What is mounted there is so in criu's mount namespace alone: whoever removes the state directory never sees
/// it.
#[derive(Debug)]
pub(super) struct Yard {
    top: PathBuf,
    /// The cgroups, as criu wants to find them.
    cgroups: Option<(OwnedFd, PathBuf)>,
}

impl Yard {
    /// Makes the directories, and a tree of the cgroups where that is one.
    ///
    /// criu would otherwise mount the hierarchy of v2 anew, which takes away its options on the whole machine,
    /// `nsdelegate` among them (criu's issue 3029).
    pub(super) fn create(dir: &ContainerDir) -> Result<Self, RuntimeError> {
        let top = dir.path().join(super::DIRECTORY);
        let mut make = DirBuilder::new();
        make.recursive(true).mode(0o755);
        let unified = top.join("cgroups/unified");
        for place in [&unified, &top.join("root")] {
            make.create(place).map_err(RuntimeError::io("make", place))?;
        }
        let mut yard = Self { top, cgroups: None };
        if let Some(mounted) = Hierarchies::detect()?.only_v2() {
            let tree = ctr_sys::mount::clone_tree(AT_FDCWD, mounted, false);
            yard.cgroups = Some((tree.map_err(RuntimeError::io("clone the mount of", mounted))?, unified));
        }
        Ok(yard)
    }

    /// Where criu finds the root of a container to be restored.
    pub(super) fn root(&self) -> PathBuf {
        self.top.join("root")
    }

    /// Where it finds the cgroups, unless it mounts them itself.
    pub(super) fn cgroups(&self) -> Option<PathBuf> {
        self.cgroups.as_ref().map(|_| self.top.join("cgroups"))
    }

    /// The mounts of the cgroups.
    pub(super) fn mounts(&self) -> Vec<(BorrowedFd<'_>, &Path)> {
        self.cgroups.iter().map(|(tree, place)| (tree.as_fd(), place.as_path())).collect()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        // One by one: whatever might be mounted there is not to be emptied.
        for name in ["root", "cgroups/unified", "cgroups", ""] {
            let _ = fs::remove_dir(self.top.join(name));
        }
    }
}
