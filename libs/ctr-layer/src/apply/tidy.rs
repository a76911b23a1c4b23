// SPDX-License-Identifier: Apache-2.0
//! The last look at an overlay layer that has both whiteouts and opaque directories.
//!
//! Below an opaque directory there is nothing for a whiteout to hide, and overlay then lists it as a
//! name that cannot be opened. As either may come first in the tar, the whiteouts that are too many are
//! removed at the end, in one walk.

use std::os::fd::{AsFd, BorrowedFd};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::Directory;
use super::flatten::names;
use super::lower::{is_whiteout, kind};
use super::xattr::Policy;
use super::{DEEPEST, DIRECTORY};
use crate::error::Fault;

pub(super) fn remove_hidden_whiteouts(root: BorrowedFd<'_>, xattrs: Policy) -> Result<(), Fault> {
    let root = openat(root, ".", DIRECTORY, Mode::empty()).and_then(Directory::open);
    walk(root.map_err(failed())?, false, xattrs, 0)
}

fn walk(mut dir: Directory, beneath: bool, xattrs: Policy, depth: usize) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err(Fault::TooDeep);
    }
    let beneath = beneath || xattrs.is_opaque(dir.as_fd()).map_err(failed())?;
    let wanted = |kind| matches!(kind, None | Some(Type::Directory | Type::CharacterDevice));
    for name in names(&dir, wanted).map_err(failed())? {
        let stat = fstatat(&dir, &name[..], AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed())?;
        if kind(&stat) == SFlag::S_IFDIR {
            let child = openat(&dir, &name[..], DIRECTORY, Mode::empty()).and_then(Directory::open);
            walk(child.map_err(failed())?, beneath, xattrs, depth + 1)?;
        } else if beneath && is_whiteout(&stat) {
            unlinkat(dir.change(), &name[..], UnlinkatFlags::NoRemoveDir).map_err(failed())?;
        }
    }
    dir.close().map_err(failed())
}

fn failed() -> impl FnOnce(Errno) -> Fault {
    Fault::io("remove a whiteout")
}
