// SPDX-License-Identifier: Apache-2.0
//! What the layers below hold at a path, as the overlay of them would show it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::directory::{Directory, mtime};
use super::parent::Place;
use super::{Applier, DIRECTORY, xattr};
use crate::error::Fault;

/// The layers below, topmost first.
pub(super) struct Lowers<'a> {
    roots: &'a [BorrowedFd<'a>],
    xattrs: xattr::Policy,
}

/// Something in a layer below.
pub(super) struct Found {
    dir: OwnedFd,
    name: Vec<u8>,
    stat: FileStat,
}

pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

pub(super) fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

impl<'a> Lowers<'a> {
    pub(super) fn new(roots: &'a [BorrowedFd<'a>], xattrs: xattr::Policy) -> Self {
        Self { roots, xattrs }
    }

    /// What is at a path of components, none of which is a symlink but the last. The path is not empty.
    pub(super) fn find(&self, path: &[&[u8]]) -> nix::Result<Option<Found>> {
        let Some((last, parents)) = path.split_last() else { return Ok(None) };
        'layers: for root in self.roots {
            let mut dir = openat(root, ".", DIRECTORY, Mode::empty())?;
            let mut hides = false;
            for component in parents {
                dir = match openat(&dir, *component, DIRECTORY, Mode::empty()) {
                    Ok(child) => child,
                    Err(Errno::ENOENT) if hides => return Ok(None),
                    Err(Errno::ENOENT) => continue 'layers,
                    // A whiteout or a file: what is further below is not seen.
                    Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                    Err(errno) => return Err(errno),
                };
                hides |= self.xattrs.is_opaque(dir.as_fd())?;
            }
            match fstatat(&dir, *last, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) if hides => return Ok(None),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
                Ok(stat) if is_whiteout(&stat) => return Ok(None),
                Ok(stat) => return Ok(Some(Found { dir, name: last.to_vec(), stat })),
            }
        }
        Ok(None)
    }
}

impl Found {
    pub(super) fn is_directory(&self) -> bool {
        kind(&self.stat) == SFlag::S_IFDIR
    }

    pub(super) fn open_directory(&self) -> nix::Result<OwnedFd> {
        openat(&self.dir, &self.name[..], DIRECTORY, Mode::empty())
    }

    pub(super) fn is_symlink(&self) -> bool {
        kind(&self.stat) == SFlag::S_IFLNK
    }

    pub(super) fn symlink_target(&self) -> Result<Vec<u8>, Fault> {
        let target = readlinkat(&self.dir, &self.name[..]).map_err(Fault::io("read a symlink"))?;
        Ok(target.into_vec())
    }

    // Makes the same thing in another directory, as overlay does before something that is below changes.
    fn copy_up(&self, policy: xattr::Policy, to: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(self.stat.st_mode);
        match kind(&self.stat) {
            SFlag::S_IFREG => {
                let from = openat(
                    &self.dir,
                    &self.name[..],
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )?;
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let into = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
                io::copy(&mut File::from(from), &mut File::from(into))?;
            }
            SFlag::S_IFLNK => symlinkat(&readlinkat(&self.dir, &self.name[..])?[..], to, name)?,
            kind => mknodat(to, name, kind, mode, self.stat.st_rdev)?,
        }
        let (uid, gid) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
        fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let from = openat(&self.dir, &self.name[..], flags, Mode::empty())?;
        xattr::copy(policy, from.as_fd(), openat(to, name, flags, Mode::empty())?.as_fd())?;
        if kind(&self.stat) != SFlag::S_IFLNK {
            fchmodat(to, name, mode, FchmodatFlags::NoFollowSymlink)?;
        }
        let atime = TimeSpec::new(self.stat.st_atime, self.stat.st_atime_nsec);
        utimensat(to, name, &atime, &mtime(&self.stat), UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }
}

impl Applier<'_> {
    /// The directory of a name that can be linked to, if need be with a copy of what the layers below
    /// have under that name. A directory cannot be linked to.
    pub(super) fn copy_up(&mut self, parent: &[u8], base: &[u8]) -> Result<Option<Directory>, Fault> {
        let Place { mut dir, mut path, hides } = self.make(parent)?;
        if let Some(is_linkable) = self.is_linkable(&dir, base)? {
            return Ok(is_linkable.then_some(dir));
        }
        path.push(base.to_vec());
        let found = if hides { None } else { self.find_below(&path)? };
        let Some(found) = found.filter(|found| !found.is_directory()) else { return Ok(None) };
        found.copy_up(self.xattrs, dir.change(), base).map_err(Fault::std("copy the link target"))?;
        self.inodes += 1;
        Ok(Some(dir))
    }

    /// What the layers below show at a path without symlinks.
    pub(super) fn find_below(&self, path: &[Vec<u8>]) -> Result<Option<Found>, Fault> {
        let path: Vec<&[u8]> = path.iter().map(|component| &component[..]).collect();
        self.lowers.find(&path).map_err(Fault::io("look below"))
    }
}
