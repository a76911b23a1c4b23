// SPDX-License-Identifier: Apache-2.0
//! What can go wrong in the state directory.

use std::io;
use std::path::{Path, PathBuf};

use ctr_record::{Classify, ErrorKind};

/// A failure of the store. The variants that hold an `io::Error` say what was done to which path.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{} is damaged", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

impl StoreError {
    /// For `map_err`: an I/O error with what was done (`"open"`, `"rename"`) to which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// The same for an error of a `nix` call.
    pub fn errno(action: &'static str, path: &Path) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |errno| Self::Io { action, path: path.to_owned(), source: errno.into() }
    }
}

impl Classify for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::TooLarge { .. } | Self::Damaged { .. } => ErrorKind::Invalid,
        }
    }
}
