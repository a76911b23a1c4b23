// SPDX-License-Identifier: Apache-2.0
//! Whiteouts (image-spec, layer, "Whiteouts"): what a layer takes away from those below it, never from
//! itself, wherever in the tar it says so.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, mknodat};

use super::lower::kind;
use super::parent::{Parent, Place};
use super::{Applier, DIRECTORY, Mode as Target};
use crate::error::Fault;

/// What a name says that begins with `.wh.`, whatever the type of its entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// All that the layers below have in the directory.
    Opaque,
    /// One name in it.
    Name(&'a [u8]),
}

pub(super) fn parse(base: &[u8]) -> Result<Option<Whiteout<'_>>, Fault> {
    match base.strip_prefix(b".wh.") {
        None => Ok(None),
        Some(b"" | b"." | b"..") => Err(Fault::Whiteout),
        Some(b".wh..opq") => Ok(Some(Whiteout::Opaque)),
        Some(name) => Ok(Some(Whiteout::Name(name))),
    }
}

impl Applier<'_> {
    pub(super) fn whiteout(&mut self, parent: &[u8], whiteout: Whiteout<'_>) -> Result<(), Fault> {
        if self.is_overlay() {
            return self.convert(parent, whiteout);
        }
        let Some(mut parent) = self.enter_existing(parent)? else { return Ok(()) };
        if let Target::Flatten(flatten) = &mut self.mode {
            match whiteout {
                Whiteout::Opaque => flatten.clear(&mut parent.dir)?,
                Whiteout::Name(name) => flatten.remove(&mut parent.dir, name)?,
            }
        }
        self.parent = Some(parent);
        Ok(())
    }

    // To overlay, a character device 0:0 hides a name, and an attribute what is below a directory.
    // Where there is nothing to hide, neither here nor below, nothing is made for it either.
    fn convert(&mut self, path: &[u8], whiteout: Whiteout<'_>) -> Result<(), Fault> {
        self.leave()?;
        let Some(mut place) = self.make_from_below(path)? else { return Ok(()) };
        match whiteout {
            Whiteout::Opaque => {
                self.make_opaque(place.dir.as_fd())?;
                self.opaque_root |= place.path.is_empty();
            }
            Whiteout::Name(name) => self.hide(&mut place, name)?,
        }
        self.parent = Some(Parent { path: path.to_vec(), dir: place.dir });
        Ok(())
    }

    fn hide(&mut self, place: &mut Place, name: &[u8]) -> Result<(), Fault> {
        match fstatat(&place.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(Fault::io("look at what it hides")(errno)),
            // This layer has put a directory there: it stays, and shows nothing of those below.
            Ok(stat) if kind(&stat) == SFlag::S_IFDIR => {
                let dir = openat(&place.dir, name, DIRECTORY, Mode::empty());
                return self.make_opaque(dir.map_err(Fault::io("open what it hides"))?.as_fd());
            }
            // Anything else that is there hides what is below by being there.
            Ok(_) => return Ok(()),
        }
        // In a directory that only this layer has, overlay would list a whiteout as a name that cannot
        // be opened. Where nothing is below, none is needed.
        let path = [&place.path[..], &[name.to_vec()]].concat();
        if !place.hides && self.find_below(&path)?.is_some() {
            let made = mknodat(place.dir.change(), name, SFlag::S_IFCHR, Mode::empty(), 0);
            made.map_err(Fault::io("create it"))?;
            if let Target::Overlay { whiteouts, .. } = &mut self.mode {
                *whiteouts += 1;
            }
        }
        Ok(())
    }

    pub(super) fn is_overlay(&self) -> bool {
        matches!(self.mode, Target::Overlay { .. })
    }

    /// Makes a directory hide what is below it; nothing to do where there is nothing below.
    pub(super) fn make_opaque(&mut self, directory: BorrowedFd<'_>) -> Result<(), Fault> {
        if let Target::Overlay { opaques, .. } = &mut self.mode {
            *opaques += 1;
        }
        self.xattrs.set_opaque(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_whiteouts_by_name_alone() {
        let parse = |base: &'static str| parse(base.as_bytes());
        assert_eq!(parse("a").unwrap(), None);
        assert_eq!(parse(".wh").unwrap(), None);
        assert_eq!(parse("a.wh.b").unwrap(), None);
        assert_eq!(parse(".wh.a").unwrap(), Some(Whiteout::Name(b"a")));
        assert_eq!(parse(".wh..wh..opq").unwrap(), Some(Whiteout::Opaque));
        // AUFS's own names mean nothing to the specification: they hide a name that begins with `.wh.`.
        assert_eq!(parse(".wh..wh.plnk").unwrap(), Some(Whiteout::Name(b".wh.plnk")));
        for bad in [".wh.", ".wh..", ".wh..."] {
            assert!(matches!(parse(bad), Err(Fault::Whiteout)), "{bad}");
        }
    }
}
