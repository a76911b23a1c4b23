// SPDX-License-Identifier: Apache-2.0
//! The directory that an entry goes into: found, or made where the layer only implies it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use ctr_sys::tree;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};

use super::directory::Directory;
use super::lower::{Found, kind};
use super::metadata::undescribed;
use super::{Applier, DIRECTORY};
use crate::error::Fault;

/// As the kernel's own limit on symlinks in one look-up.
const SYMLINKS: usize = 40;
/// How often a look-up is tried again that a rename or mount elsewhere disturbed.
const RETRIES: usize = 32;

/// A directory, and the path below the root that led to it.
pub(super) struct Parent {
    pub(super) path: Vec<u8>,
    pub(super) dir: Directory,
}

/// A directory on the way down from the root.
struct Step {
    name: Vec<u8>,
    dir: Directory,
    /// What the layers below have here is not seen.
    hides: bool,
}

/// What a walk does where it finds nothing, neither here nor below.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Stop,
}

/// Where one component of a path leads.
enum Way {
    Down(Step),
    /// A symlink's target.
    Along(Vec<u8>),
    None,
}

/// A directory that a walk ended in, and where that is once all symlinks are followed.
pub(super) struct Place {
    pub(super) dir: Directory,
    pub(super) path: Vec<Vec<u8>>,
    pub(super) hides: bool,
}

impl Applier<'_> {
    /// The directory of a path, made if need be. It is the caller's until put back.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result<Parent, Fault> {
        if let Some(parent) = self.parent.take_if(|parent| parent.path == path) {
            return Ok(parent);
        }
        self.leave()?;
        let dir = match self.look_up(path)? {
            Some(dir) => dir,
            None => self.make(path)?.dir,
        };
        Ok(Parent { path: path.to_vec(), dir })
    }

    /// The directory of a path, unless there is none.
    pub(super) fn enter_existing(&mut self, path: &[u8]) -> Result<Option<Parent>, Fault> {
        self.leave()?;
        let dir = match self.look_up(path)? {
            Some(dir) => Some(dir),
            None => self.make_from_below(path)?.map(|place| place.dir),
        };
        Ok(dir.map(|dir| Parent { path: path.to_vec(), dir }))
    }

    /// Ends the work in the directory that was entered last.
    pub(super) fn leave(&mut self) -> Result<(), Fault> {
        match self.parent.take() {
            Some(parent) => parent.dir.close().map_err(Fault::io("set the time of its parent")),
            None => Ok(()),
        }
    }

    // The kernel's look-up, with the layer's root as the root of all symlinks and of `..`.
    pub(super) fn look_up(&self, path: &[u8]) -> Result<Option<Directory>, Fault> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = if path.is_empty() { b"." } else { path };
        for _ in 0..RETRIES {
            match openat2(self.root, path, how) {
                Ok(fd) => return Directory::open(fd).map(Some).map_err(Fault::io("look at its parent")),
                Err(Errno::EAGAIN) => {}
                // Something is missing, or in the way. Kernels and sandboxes without this call also come
                // here: `make` finds what exists on its own.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENOSYS | Errno::EPERM) => return Ok(None),
                Err(errno) => return Err(Fault::io("open its parent")(errno)),
            }
        }
        Ok(None)
    }

    /// Walks down a path component by component, following symlinks inside the root, and makes what is
    /// missing. What the layers below have at a place decides what is made: the same directory, or the
    /// way that a symlink there leads.
    pub(super) fn make(&mut self, path: &[u8]) -> Result<Place, Fault> {
        Ok(self.walk(path, Missing::Make)?.expect("what is missing is made"))
    }

    /// The same, as long as there are such directories below, and nothing of this layer hides them.
    pub(super) fn make_from_below(&mut self, path: &[u8]) -> Result<Option<Place>, Fault> {
        self.walk(path, Missing::Stop)
    }

    fn walk(&mut self, path: &[u8], missing: Missing) -> Result<Option<Place>, Fault> {
        let root = self.root.try_clone_to_owned().map_err(Fault::std("open the root"))?;
        let root = Directory::open(root).map_err(Fault::io("look at the root"))?;
        let mut steps = vec![Step { name: Vec::new(), dir: root, hides: self.opaque_root }];
        let mut ahead: Vec<Vec<u8>> = Vec::new();
        push(&mut ahead, path);
        let (mut symlinks, mut stopped) = (0, false);
        while let Some(name) = ahead.pop() {
            if name == b".." {
                if steps.len() > 1 {
                    close(steps.pop())?;
                }
                continue;
            }
            match self.descend(&mut steps, &name, missing)? {
                Way::Down(step) => steps.push(step),
                Way::Along(target) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(Fault::SymlinkLoop);
                    }
                    while target.starts_with(b"/") && steps.len() > 1 {
                        close(steps.pop())?;
                    }
                    push(&mut ahead, &target);
                }
                Way::None => {
                    stopped = true;
                    break;
                }
            }
        }
        let path = steps.iter().skip(1).map(|step| step.name.clone()).collect();
        let Step { dir, hides, .. } = steps.pop().expect("the root is never popped");
        while !steps.is_empty() {
            close(steps.pop())?;
        }
        Ok((!stopped).then_some(Place { dir, path, hides }))
    }

    fn descend(&mut self, steps: &mut [Step], name: &[u8], missing: Missing) -> Result<Way, Fault> {
        let path: Vec<&[u8]> = steps.iter().skip(1).map(|step| &step.name[..]).chain([name]).collect();
        let Some(Step { dir: here, hides: hidden, .. }) = steps.last() else { return Ok(Way::None) };
        let stat = match fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => None,
            stat => Some(kind(&stat.map_err(Fault::io("look at its parent"))?)),
        };
        let below = match stat {
            None if !hidden => self.lowers.find(&path).map_err(Fault::io("look below"))?,
            _ => None,
        };
        let hidden = *hidden;
        let Some(Step { dir: here, .. }) = steps.last_mut() else { return Ok(Way::None) };
        let (fd, hides) = match (stat, below) {
            (Some(SFlag::S_IFDIR), _) => {
                let fd = openat(&*here, name, DIRECTORY, Mode::empty()).map_err(Fault::io("open its parent"))?;
                let opaque = self.xattrs.is_opaque(fd.as_fd()).map_err(Fault::io("look at its parent"))?;
                (fd, hidden || opaque)
            }
            (Some(SFlag::S_IFLNK), _) => {
                let target = readlinkat(&*here, name).map_err(Fault::io("read a symlink"))?;
                return Ok(Way::Along(target.into_vec()));
            }
            (_, Some(found)) if found.is_symlink() => return Ok(Way::Along(found.symlink_target()?)),
            (_, Some(found)) if found.is_directory() => (self.make_implied(here, name, Some(&found))?, hidden),
            _ if missing == Missing::Stop => return Ok(Way::None),
            (None, _) => (self.make_implied(here, name, None)?, hidden),
            (Some(_), _) => {
                // Something else of this layer: a whiteout, or what an entry made that the layer
                // contradicts by having one below it. The new directory hides what is below, as a
                // directory does that replaces something.
                tree::remove(here.change(), name).map_err(Fault::std("replace its parent"))?;
                let fd = self.make_implied(here, name, None)?;
                self.make_opaque(fd.as_fd())?;
                (fd, true)
            }
        };
        let dir = Directory::open(fd).map_err(Fault::io("look at its parent"))?;
        Ok(Way::Down(Step { name: name.to_vec(), dir, hides }))
    }

    fn make_implied(&mut self, parent: &mut Directory, name: &[u8], lower: Option<&Found>) -> Result<OwnedFd, Fault> {
        mkdirat(parent.change(), name, Mode::S_IRWXU).map_err(Fault::io("make its parent"))?;
        self.inodes += 1;
        let fd = openat(&*parent, name, DIRECTORY, Mode::empty()).map_err(Fault::io("open its parent"))?;
        match lower {
            Some(found) => found.open_directory().and_then(|lower| self.copy_directory(lower.as_fd(), fd.as_fd())),
            None => undescribed(fd.as_fd()),
        }
        .map_err(Fault::io("describe its parent"))?;
        Ok(fd)
    }
}

fn close(step: Option<Step>) -> Result<(), Fault> {
    match step {
        Some(step) => step.dir.close().map_err(Fault::io("set the time of a parent")),
        None => Ok(()),
    }
}

fn push(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|&b| b == b'/').filter(|component| !matches!(*component, b"" | b"."));
    ahead.extend(components.rev().map(<[u8]>::to_vec));
}
