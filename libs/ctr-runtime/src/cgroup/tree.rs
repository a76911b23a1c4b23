// SPDX-License-Identifier: Apache-2.0
//! A walk through a cgroup and those below it.
//!
//! A container may make cgroups of its own, as deep as it likes: the walk takes neither a stack frame nor a
//! descriptor for each level, and no path that could grow too long.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::{Dir, Type};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Walks through `top` and the tree below it: calls `enter` with each cgroup before those below it, and
/// `leave` with its parent and its name after them. `top` is not left.
///
/// What vanishes on the way is passed over; `ESTALE` when that is the way back.
pub(super) fn walk(
    top: OwnedFd,
    mut enter: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    mut leave: impl FnMut(BorrowedFd<'_>, &OsStr) -> io::Result<()>,
) -> io::Result<()> {
    let mut here = top;
    // the names that led here, each with the sibling directories still to see
    let mut path: Vec<(OsString, Vec<OsString>)> = Vec::new();
    enter(here.as_fd())?;
    let mut children = subdirectories(here.as_fd())?;
    loop {
        if let Some(name) = children.pop() {
            let Some(child) = open_subdirectory(here.as_fd(), &name)? else { continue };
            enter(child.as_fd())?;
            let below = subdirectories(child.as_fd())?;
            path.push((name, std::mem::replace(&mut children, below)));
            here = child;
        } else if let Some((name, siblings)) = path.pop() {
            here = open_subdirectory(here.as_fd(), OsStr::new(".."))?
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))?;
            leave(here.as_fd(), &name)?;
            children = siblings;
        } else {
            return Ok(());
        }
    }
}

fn open_subdirectory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    vanished(openat(parent, name, flags, Mode::empty()).map(Some).map_err(io::Error::from))
}

fn subdirectories(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let list = || -> nix::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::openat(directory, ".", flags, Mode::empty())?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    };
    vanished(list().map_err(io::Error::from))
}

/// Takes a cgroup that is no longer there for an empty one.
pub(super) fn vanished<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(T::default()),
        result => result,
    }
}
