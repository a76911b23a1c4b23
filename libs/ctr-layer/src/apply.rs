// SPDX-License-Identifier: Apache-2.0
//! Entries onto disk (image-spec, layer, "Applying Changesets").
//!
//! All work is done by descriptor: the parent of an entry is resolved inside the layer's root by the
//! kernel, and what follows are calls with that descriptor and the last component of the name, which
//! is never followed. An image can make its symlinks lead anywhere; they lead to places in the layer.

mod create;
mod directory;
mod flatten;
mod lower;
mod metadata;
mod name;
mod parent;
mod tidy;
mod whiteout;
mod xattr;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use ctr_record::DiffId;
use nix::fcntl::OFlag;

pub use metadata::create_root;

use crate::archive::Archive;
use crate::entry::{Entry, Kind};
use crate::error::{Error, Fault, printable};
use crate::stream::Stream;

use flatten::Flatten;
use lower::Lowers;
use name::Name;
use parent::Parent;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How deep a walk goes: deeper than any honest layer, less than stacks and descriptors last.
const DEEPEST: usize = 512;

/// What a layer is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A directory of its own, to be a layer of an overlay: whiteouts become what overlay takes for them.
    Overlay {
        /// The overlay will be mounted with `userxattr`.
        userxattr: bool,
    },
    /// A plain directory that holds the lower layers already: whiteouts delete.
    Flatten,
}

/// How a layer is applied.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What it is turned into.
    pub target: Target,
    /// All the layers below, as directories, topmost first; none for [`Target::Flatten`]. A layer may
    /// leave out the parents of what it changes, link to what it does not have, and hide what nobody has:
    /// here is what it means by that.
    pub lowers: &'a [BorrowedFd<'a>],
    /// What the diffID must be.
    pub diff_id: Option<&'a DiffId>,
}

/// What was applied.
#[derive(Debug)]
pub struct Applied {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub size: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Inodes that were made.
    pub inodes: u64,
    /// Bytes of the regular files' content.
    pub content: u64,
    /// The layer hides all that is below it. Overlay does not heed this mark on a layer's root, so that
    /// whoever mounts the layer has to leave out those below.
    pub opaque_root: bool,
    /// What could not be done as the layer says, each kind once.
    pub warnings: Vec<Warning>,
}

/// Something of a layer that this system or file system cannot hold, and that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Warning {
    XattrsUnsupported { entry: String },
    XattrRefused { entry: String, attribute: String },
    DeviceRefused { entry: String },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::XattrsUnsupported { entry } => {
                write!(f, "the file system has no extended attributes; {entry:?} and others go without theirs")
            }
            Self::XattrRefused { entry, attribute } => {
                write!(f, "not permitted to set the attribute {attribute:?} of {entry:?}; there may be others")
            }
            Self::DeviceRefused { entry } => {
                write!(f, "not permitted to make the device {entry:?}; there may be others")
            }
        }
    }
}

/// Applies a layer to the directory `root`, and reads the stream to its end, so that the digest covers
/// what follows the archive in it.
///
/// After an error the directory is in no state at all, and to be removed.
pub fn apply(stream: Stream, root: impl AsFd, options: &Options<'_>) -> Result<Applied, Error> {
    let limits = stream.limits().clone();
    let mut applier = Applier::open(root.as_fd(), options, limits.path)?;
    let mut archive = Archive::new(stream);
    let mut entries = 0;
    while let Some(entry) = archive.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::TooManyEntries { limit: limits.entries });
        }
        applier.entry(&entry, &mut archive)?;
    }
    applier.finish()?;
    let (diff_id, size) = archive.into_stream().finish()?;
    if let Some(expected) = options.diff_id.filter(|&expected| *expected != diff_id) {
        return Err(Error::DiffId { expected: expected.clone(), actual: diff_id });
    }
    let Applier { inodes, content, opaque_root, warnings, .. } = applier;
    Ok(Applied { diff_id, size, entries, inodes, content, opaque_root, warnings })
}

struct Applier<'a> {
    root: BorrowedFd<'a>,
    xattrs: xattr::Policy,
    lowers: Lowers<'a>,
    /// The path length that is accepted.
    longest: usize,
    /// The directory that was worked in last: entries come in runs.
    parent: Option<Parent>,
    mode: Mode,
    inodes: u64,
    content: u64,
    opaque_root: bool,
    warnings: Vec<Warning>,
}

enum Mode {
    Overlay { whiteouts: u64, opaques: u64 },
    Flatten(Flatten),
}

impl<'a> Applier<'a> {
    fn open(root: BorrowedFd<'a>, options: &Options<'a>, longest: usize) -> Result<Self, Error> {
        let (mode, xattrs) = match options.target {
            Target::Overlay { userxattr } => {
                (Mode::Overlay { whiteouts: 0, opaques: 0 }, xattr::Policy::overlay(userxattr))
            }
            Target::Flatten => (Mode::Flatten(Flatten::default()), xattr::Policy::plain()),
        };
        let applier = Self {
            root,
            xattrs,
            lowers: Lowers::new(options.lowers, xattrs),
            longest,
            parent: None,
            mode,
            inodes: 1,
            content: 0,
            opaque_root: false,
            warnings: Vec::new(),
        };
        if let Some(lower) = options.lowers.first() {
            applier.copy_root(*lower).map_err(|errno| Error::Root { source: errno.into() })?;
        }
        Ok(applier)
    }

    fn entry(&mut self, entry: &Entry, archive: &mut Archive) -> Result<(), Error> {
        let fault = |source| Error::Entry { name: printable(&entry.name), source };
        let name = Name::clean(&entry.name, self.longest).map_err(fault)?;
        let Some((parent, base)) = name.split() else {
            return self.root_entry(entry).map_err(fault);
        };
        if let Some(whiteout) = whiteout::parse(base).map_err(fault)? {
            return self.whiteout(parent, whiteout).map_err(fault);
        }
        let mut parent = self.enter(parent).map_err(fault)?;
        if let Kind::File(content) = &entry.kind {
            let file = self.create_file(&mut parent, base, entry).map_err(fault)?;
            self.content += create::write(&file, content, archive, fault)?;
            self.describe(file.as_fd(), entry).map_err(fault)?;
        } else {
            self.create_other(&mut parent, base, entry).map_err(fault)?;
        }
        if let Mode::Flatten(flatten) = &mut self.mode {
            flatten.note(&parent.dir, base);
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != Kind::Directory {
            return Err(Fault::RootNotDirectory); // CVE-2021-29136
        }
        self.leave()?; // it would put the old time back
        let root = nix::fcntl::openat(self.root, ".", DIRECTORY, nix::sys::stat::Mode::empty());
        let root = root.map_err(Fault::io("open it"))?;
        self.merge_directory(root.as_fd(), entry)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let finished = self.leave().and_then(|()| match self.mode {
            Mode::Overlay { whiteouts, opaques } if whiteouts > 0 && opaques > 0 => {
                tidy::remove_hidden_whiteouts(self.root, self.xattrs)
            }
            _ => Ok(()),
        });
        finished.map_err(|source| Error::Finish { source })
    }

    // One warning of a kind is enough: there may be thousands of the same.
    fn warn(&mut self, warning: Warning) {
        let same = |other: &Warning| std::mem::discriminant(other) == std::mem::discriminant(&warning);
        if !self.warnings.iter().any(same) {
            self.warnings.push(warning);
        }
    }
}
