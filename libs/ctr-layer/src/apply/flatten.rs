// SPDX-License-Identifier: Apache-2.0
//! Whiteouts in a plain directory, which holds what the layers below put there and what this layer did.
//!
//! Each directory is searched for what is to go at most once: afterwards it holds nothing from below,
//! however often the layer says it again (GHSA-rp3h-jf77-q9p4).

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::Directory;
use super::lower::kind;
use super::{DEEPEST, DIRECTORY};
use crate::error::Fault;

#[derive(Default)]
pub(super) struct Flatten {
    /// Keyed hashes of the names that this layer wrote, with their directories' inodes: what is in the
    /// set is known, at 8 bytes a name, and which names share a hash cannot be arranged.
    written: HashSet<u64>,
    hashes: RandomState,
    /// Inodes of directories in which nothing from below is left.
    cleared: HashSet<u64>,
}

impl Flatten {
    /// Remembers that this layer wrote a name.
    pub(super) fn note(&mut self, dir: &Directory, name: &[u8]) {
        self.written.insert(self.hashes.hash_one((dir.inode(), name)));
    }

    fn wrote(&self, dir: &Directory, name: &[u8]) -> bool {
        self.written.contains(&self.hashes.hash_one((dir.inode(), name)))
    }

    /// Removes all from a directory that this layer did not write.
    pub(super) fn clear(&mut self, dir: &mut Directory) -> Result<(), Fault> {
        self.clear_at(dir, 0)
    }

    /// Removes a name as far as this layer did not write it, or in it.
    pub(super) fn remove(&mut self, dir: &mut Directory, name: &[u8]) -> Result<(), Fault> {
        self.remove_at(dir, name, 0)
    }

    fn clear_at(&mut self, dir: &mut Directory, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST {
            return Err(Fault::TooDeep);
        }
        if !self.cleared.insert(dir.inode()) {
            return Ok(());
        }
        for name in names(dir, |_| true).map_err(failed())? {
            self.remove_at(dir, &name, depth)?;
        }
        Ok(())
    }

    fn remove_at(&mut self, dir: &mut Directory, name: &[u8], depth: usize) -> Result<(), Fault> {
        let is_directory = match fstatat(&*dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            stat => kind(&stat.map_err(failed())?) == SFlag::S_IFDIR,
        };
        if is_directory {
            let child = openat(&*dir, name, DIRECTORY, Mode::empty()).and_then(Directory::open);
            let mut child = child.map_err(failed())?;
            self.clear_at(&mut child, depth + 1)?;
            child.close().map_err(failed())?;
        }
        let removed = match self.wrote(dir, name) {
            true => Ok(()),
            // What this layer wrote further down keeps the directories above it.
            false if is_directory => match unlinkat(dir.change(), name, UnlinkatFlags::RemoveDir) {
                Err(Errno::ENOTEMPTY) => Ok(()),
                removed => removed,
            },
            false => unlinkat(dir.change(), name, UnlinkatFlags::NoRemoveDir),
        };
        removed.map_err(failed())
    }
}

fn failed() -> impl FnOnce(Errno) -> Fault {
    Fault::io("remove it from the layers below")
}

/// The names in a directory whose kind is wanted; `None` where the file system does not tell.
pub(super) fn names(dir: &Directory, wanted: impl Fn(Option<Type>) -> bool) -> nix::Result<Vec<Vec<u8>>> {
    let mut entries = Dir::openat(dir, ".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && wanted(entry.file_type()) {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
