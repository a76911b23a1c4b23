// SPDX-License-Identifier: Apache-2.0
//! Removal of a directory tree of any depth, by descriptor.
//!
//! An image can nest directories deeper than there are descriptors or stack to follow them with. What
//! lies too deep is therefore moved up to the top of the tree, and removed from there. What is mounted
//! in the tree is left alone: it is an error, `EXDEV` or `EBUSY`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

const DEEP: usize = 64;

/// Removes `name` in `parent`, whatever it is, with all that is in it. Symlinks are not followed.
/// Nothing of that name is no error.
pub fn remove(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    let parent = parent.as_fd();
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let top = open_dir(parent, name)?;
    let mut moved = 0;
    loop {
        empty(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            // What was moved up is emptied in the next round; some file systems also skip entries of a
            // directory that shrinks while it is read.
            Err(Errno::ENOTEMPTY) => {}
            result => return result.map_err(Into::into),
        }
    }
}

fn open_dir(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    match openat2(parent, name, how) {
        // Overlay's own work directory has no permissions at all, which matters to all but root.
        Err(Errno::EACCES) => {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)?;
            openat2(parent, name, how)
        }
        opened => opened,
    }
}

fn empty(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> nix::Result<()> {
    let mut entries = Dir::openat(dir, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_dir = match entry.file_type() {
            Some(kind) => kind == Type::Directory,
            None => {
                let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR
            }
        };
        if !is_dir {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
        } else if depth < DEEP {
            let child = open_dir(dir, name.to_bytes())?;
            empty(top, child.as_fd(), depth + 1, moved)?;
            match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOTEMPTY) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            raise(top, dir, name.to_bytes(), moved)?;
        }
    }
    Ok(())
}

fn raise(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8], moved: &mut u64) -> nix::Result<()> {
    loop {
        *moved += 1;
        let free = format!("deep-{moved}");
        match renameat2(dir, name, top, free.as_str(), RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use nix::sys::stat::mkdirat;

    use super::*;

    #[test]
    fn removes_what_is_deeper_than_there_are_descriptors() {
        let scratch = std::env::temp_dir().join(format!("ctr-sys-tree-{}", std::process::id()));
        fs::create_dir_all(scratch.join("t/sub")).unwrap();
        File::create(scratch.join("t/sub/file")).unwrap();
        fs::create_dir(scratch.join("outside")).unwrap();
        symlink("../outside", scratch.join("t/link")).unwrap();
        let mut dir: OwnedFd = File::open(scratch.join("t")).unwrap().into();
        for _ in 0..3000 {
            mkdirat(&dir, "d", Mode::S_IRWXU).unwrap();
            File::create(format!("/proc/self/fd/{}/deep-1", std::os::fd::AsRawFd::as_raw_fd(&dir))).unwrap();
            dir = open_dir(dir.as_fd(), b"d").unwrap();
        }
        drop(dir);
        let parent = File::open(&scratch).unwrap();
        remove(&parent, b"t").unwrap();
        remove(&parent, b"t").unwrap();
        assert!(!scratch.join("t").exists());
        assert!(scratch.join("outside").exists());
        fs::remove_dir_all(&scratch).unwrap();
    }
}
