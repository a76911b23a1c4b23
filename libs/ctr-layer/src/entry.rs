// SPDX-License-Identifier: Apache-2.0
//! An entry of a layer as plain data: what a tar says, whoever applies or writes it.

/// One entry of a layer. A regular file's content follows it in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as the archive gives it.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner; -1 to the kernel, and so in a tar, is no owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of modification.
    pub mtime: Time,
    /// Time of access, where the archive gives one.
    pub atime: Option<Time>,
    /// Extended attributes, name and value, as the archive gives them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    File(Content),
    Directory,
    Symlink { target: Vec<u8> },
    Hardlink { target: Vec<u8> },
    Device { class: Class, major: u32, minor: u32 },
    Fifo,
}

/// The classes of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Character,
    Block,
}

/// How a regular file's content lies in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// So many bytes.
    Whole(u64),
    /// Regions of data in a file of `size` bytes that is a hole otherwise; their bytes follow one another.
    Sparse {
        /// The file's size.
        size: u64,
        /// In ascending order, not overlapping, none beyond `size`.
        regions: Vec<Region>,
    },
}

/// A region of data in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Region {
    pub offset: u64,
    pub length: u64,
}

/// A point in time, of 1970 or later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}
