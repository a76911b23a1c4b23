// SPDX-License-Identifier: Apache-2.0
//! What an entry is, made under its name; whatever has that name already gives way.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use ctr_sys::tree;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};

use super::directory::Directory;
use super::lower::{is_whiteout, kind};
use super::name::Name;
use super::parent::Parent;
use super::{Applier, DIRECTORY, Warning};
use crate::archive::Archive;
use crate::entry::{Class, Content, Entry, Kind, Region};
use crate::error::{Error, Fault, printable};

/// Writes a file's content as it comes, and returns how many bytes that were.
pub(super) fn write(
    file: &File,
    content: &Content,
    archive: &mut Archive,
    fault: impl Fn(Fault) -> Error,
) -> Result<u64, Error> {
    let failed = |error| fault(Fault::std("write it")(error));
    let whole;
    let regions = match content {
        Content::Whole(size) => {
            whole = [Region { offset: 0, length: *size }];
            &whole[..]
        }
        Content::Sparse { size, regions } => {
            file.set_len(*size).map_err(failed)?;
            regions
        }
    };
    let mut total = 0;
    for region in regions {
        let mut done = 0;
        while done < region.length {
            let bytes = archive.content(region.length - done)?;
            file.write_all_at(bytes, region.offset + done).map_err(failed)?;
            done += bytes.len() as u64;
        }
        total += done;
    }
    Ok(total)
}

impl Applier<'_> {
    /// Makes the regular file of an entry, still empty.
    pub(super) fn create_file(&mut self, parent: &mut Parent, base: &[u8], entry: &Entry) -> Result<File, Fault> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // The final mode at once, as far as it is harmless, mostly saves to set it later.
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        let file = make(&mut parent.dir, base, |dir| openat(dir, base, flags, mode));
        let file = file.map_err(Fault::io("create it"))?;
        self.inodes += 1;
        Ok(file.into())
    }

    /// Makes whatever else an entry can be, complete.
    pub(super) fn create_other(&mut self, parent: &mut Parent, base: &[u8], entry: &Entry) -> Result<(), Fault> {
        let dir = &mut parent.dir;
        let made = match &entry.kind {
            Kind::File(_) => unreachable!("files have content, and are made where it is read"),
            Kind::Directory => return self.create_directory(dir, base, entry),
            Kind::Hardlink { target } => return self.create_hardlink(dir, base, target),
            Kind::Symlink { target } if target.is_empty() => return Err(Fault::EmptyTarget),
            Kind::Symlink { target } => make(dir, base, |dir| symlinkat(&target[..], dir, base)),
            Kind::Fifo => make(dir, base, |dir| mknodat(dir, base, SFlag::S_IFIFO, Mode::S_IRUSR, 0)),
            Kind::Device { class, major, minor } => {
                let kind = match class {
                    Class::Character => SFlag::S_IFCHR,
                    Class::Block => SFlag::S_IFBLK,
                };
                let device = makedev(u64::from(*major), u64::from(*minor));
                match make(dir, base, |dir| mknodat(dir, base, kind, Mode::S_IRUSR, device)) {
                    // In a user namespace nobody may make devices; containers get theirs elsewhere.
                    Err(Errno::EPERM) => {
                        self.warn(Warning::DeviceRefused { entry: printable(&entry.name) });
                        return Ok(());
                    }
                    made => made,
                }
            }
        };
        made.map_err(Fault::io("create it"))?;
        self.inodes += 1;
        self.describe_at(&parent.dir, base, entry)
    }

    fn create_directory(&mut self, dir: &mut Directory, base: &[u8], entry: &Entry) -> Result<(), Fault> {
        let made = match mkdirat(dir.change(), base, Mode::from_bits_truncate(entry.mode & 0o777)) {
            Err(Errno::EEXIST) => {
                let stat = fstatat(&*dir, base, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(Fault::io("look at it"))?;
                if kind(&stat) == SFlag::S_IFDIR {
                    let old = openat(&*dir, base, DIRECTORY, Mode::empty()).map_err(Fault::io("open it"))?;
                    return self.merge_directory(old.as_fd(), entry);
                }
                tree::remove(dir.change(), base).map_err(Fault::std("replace it"))?;
                mkdirat(dir.change(), base, Mode::S_IRWXU).map(|()| true)
            }
            made => made.map(|()| false),
        };
        let replaces = made.map_err(Fault::io("create it"))?;
        self.inodes += 1;
        let new = openat(&*dir, base, DIRECTORY, Mode::empty()).map_err(Fault::io("open it"))?;
        if replaces {
            self.make_opaque(new.as_fd())?;
        }
        self.describe(new.as_fd(), entry)
    }

    // A hard link has no metadata of its own: what its header says of the target is not looked at.
    fn create_hardlink(&mut self, dir: &mut Directory, base: &[u8], target: &[u8]) -> Result<(), Fault> {
        let name = Name::clean(target, self.longest).map_err(|fault| match fault {
            Fault::LeadsOut => Fault::TargetLeadsOut { target: printable(target) },
            other => other,
        })?;
        let no_target = || Fault::NoTarget { target: printable(target) };
        let (from, from_base) = name.split().ok_or_else(no_target)?;
        let found = match self.look_up(from)? {
            Some(dir) if self.is_linkable(&dir, from_base)? == Some(true) => Some(dir),
            _ => self.copy_up(from, from_base)?,
        };
        let from = found.ok_or_else(no_target)?;
        let link = |dir: BorrowedFd<'_>| linkat(&from, from_base, dir, base, AtFlags::empty());
        let linked = match link(dir.change()) {
            Err(Errno::EEXIST) if same_inode(&from, from_base, dir, base).map_err(Fault::io("look at it"))? => Ok(()),
            Err(Errno::EEXIST) => make(dir, base, link),
            linked => linked,
        };
        match linked {
            Err(Errno::ENOENT) => Err(no_target()), // it was in the directory that the link replaces
            linked => linked.map_err(Fault::io("link it")),
        }?;
        from.close().map_err(Fault::io("set the time of the link target's parent"))
    }

    /// Whether a name can be linked to; `None`: there is nothing. A whiteout of this layer is nothing
    /// that the layers below could replace.
    pub(super) fn is_linkable(&self, dir: &Directory, base: &[u8]) -> Result<Option<bool>, Fault> {
        match fstatat(dir, base, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Fault::io("look at the link target")(errno)),
            Ok(stat) => Ok(Some(kind(&stat) != SFlag::S_IFDIR && !(self.is_overlay() && is_whiteout(&stat)))),
        }
    }
}

// Names are made exclusively, so that nothing that exists is ever written to or followed; what exists
// is removed first (RUSTSEC-2018-0002).
fn make<T>(dir: &mut Directory, base: &[u8], create: impl Fn(BorrowedFd<'_>) -> nix::Result<T>) -> nix::Result<T> {
    match create(dir.change()) {
        Err(Errno::EEXIST) => {
            tree::remove(dir.change(), base).map_err(|error| super::xattr::errno(&error))?;
            create(dir.change())
        }
        made => made,
    }
}

fn same_inode(a: &Directory, a_base: &[u8], b: &Directory, b_base: &[u8]) -> nix::Result<bool> {
    let a = fstatat(a, a_base, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let b = fstatat(b, b_base, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
