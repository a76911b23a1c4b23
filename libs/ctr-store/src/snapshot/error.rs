// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with snapshots.

use std::path::PathBuf;

use ctr_record::{ChainId, Classify, ErrorKind};

use crate::StoreError;
use crate::bundle::BundleError;

/// A failure to make, find or describe a snapshot.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SnapshotError {
    #[error("there is no snapshot {chain}")]
    Absent { chain: ChainId },
    #[error("{} is there already, and no empty directory", path.display())]
    NotEmpty { path: PathBuf },
    #[error("another process is unpacking into {}", path.display())]
    Busy { path: PathBuf },
    #[error("the image has more than 500 layers, which no overlay holds")]
    TooManyLayers,
    /// Its directories cannot be mounted.
    #[error(transparent)]
    Mount(#[from] BundleError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for SnapshotError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::NotEmpty { .. } | Self::Busy { .. } => ErrorKind::Conflict,
            Self::TooManyLayers => ErrorKind::Invalid,
            Self::Mount(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some("ctr-unpack makes it".to_owned()),
            Self::Mount(error) => error.hint(),
            _ => None,
        }
    }
}
