// SPDX-License-Identifier: Apache-2.0
//! Why a layer could not be applied.

use std::io;

use ctr_record::{Classify, DiffId, ErrorKind};
use nix::errno::Errno;

/// A failure that ends the application of a layer. What was written by then is to be thrown away.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the layer cannot be read")]
    Read { source: io::Error },
    #[error("the layer is no valid {codec} stream")]
    Corrupt { codec: &'static str, source: io::Error },
    #[error("the layer's tar is larger than the limit of {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the layer's tar is more than {limit} times as large as its compressed form")]
    Ratio { limit: u64 },
    #[error("the layer has more than the limit of {limit} entries")]
    TooManyEntries { limit: u64 },
    #[error("the tar ends in the middle of an entry")]
    Truncated,
    #[error("malformed tar header at byte {offset}")]
    Header { offset: u64, source: Malformed },
    #[error("entry {name:?}")]
    Entry { name: String, source: Fault },
    #[error("the layer's diffID is {actual}, and the image says {expected}")]
    DiffId { expected: DiffId, actual: DiffId },
    #[error("the directory for the layer cannot be prepared")]
    Root { source: io::Error },
    #[error("the layer cannot be finished")]
    Finish { source: Fault },
    #[error("no thread can be started")]
    Thread { source: io::Error },
}

/// What is wrong with a tar header or an extended header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Malformed {
    #[error("the checksum is wrong")]
    Checksum,
    #[error("the {0} is no number")]
    Number(&'static str),
    #[error("a lone block of zeros")]
    LoneZeroBlock,
    #[error("a PAX record that is not LENGTH KEY=VALUE")]
    PaxRecord,
    #[error("a PAX {0} with a NUL byte in it")]
    Nul(&'static str),
    #[error("the extended headers are larger than the limit of {0} bytes")]
    TooLarge(usize),
    #[error("the map of a sparse file is malformed")]
    SparseMap,
    #[error("a sparse file with more than {0} regions")]
    Regions(usize),
}

/// What is wrong with one entry, or with putting it on disk.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("the name leads out of the layer")]
    LeadsOut,
    #[error("the name has a NUL byte in it")]
    Nul,
    #[error("the name is longer than {limit} bytes")]
    NameTooLong { limit: usize },
    #[error("the root of the layer can only be a directory")]
    RootNotDirectory,
    #[error("not a valid whiteout")]
    Whiteout,
    #[error("the {what} {value} is out of range")]
    Range { what: &'static str, value: i64 },
    #[error("unknown entry type {0:?}")]
    UnknownType(char),
    #[error("the link target {target:?} leads out of the layer")]
    TargetLeadsOut { target: String },
    #[error("the link target {target:?} does not exist")]
    NoTarget { target: String },
    #[error("the symlink has no target")]
    EmptyTarget,
    #[error("too many symlinks on the way to it")]
    SymlinkLoop,
    #[error("directories are nested too deep")]
    TooDeep,
    #[error("cannot {operation}")]
    Io { operation: &'static str, source: io::Error },
    #[error("cannot give it to {uid}:{gid}")]
    Owner { uid: u32, gid: u32, source: io::Error },
}

impl Fault {
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io { operation, source: errno.into() }
    }

    pub(crate) fn std(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}

/// Names in errors are bytes from an image: made printable by `{:?}`, and of bounded length.
pub(crate) fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned()
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source } | Self::Thread { source } => ErrorKind::of_io(source),
            Self::Root { source } => of_work(source),
            Self::Entry { source, .. } | Self::Finish { source } => match source {
                Fault::Io { source, .. } | Fault::Owner { source, .. } => of_work(source),
                _ => ErrorKind::Invalid,
            },
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Entry { source: Fault::Owner { source, .. }, .. }
                if source.raw_os_error() == Some(Errno::EINVAL as i32) =>
            {
                Some(
                    "this user namespace does not map that id; more of them may help, see /etc/subuid and /etc/subgid"
                        .into(),
                )
            }
            _ => None,
        }
    }
}

// Nothing that the caller named is missing or in the way when a call inside the layer's directory says so.
fn of_work(error: &io::Error) -> ErrorKind {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENAMETOOLONG | Errno::ELOOP | Errno::EFBIG | Errno::EMLINK) => ErrorKind::Invalid,
        _ => match ErrorKind::of_io(error) {
            ErrorKind::NotFound | ErrorKind::Conflict => ErrorKind::Failed,
            kind => kind,
        },
    }
}
