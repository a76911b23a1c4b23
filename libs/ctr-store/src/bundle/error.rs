// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with bundles.

use std::path::PathBuf;

use ctr_record::{Classify, ErrorKind, InvalidName};

use crate::StoreError;

/// A failure to make, find or remove a bundle.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BundleError {
    #[error("a bundle with the id {id} exists already")]
    Exists { id: String },
    #[error("the bundle {id} is being made or removed by another process")]
    Busy { id: String },
    #[error("there is no bundle with the id {id}")]
    NotFound { id: String },
    #[error("{} is no bundle: it has no config.json", path.display())]
    NoConfig { path: PathBuf },
    #[error("something is mounted on {}", path.display())]
    MountedOver { path: PathBuf },
    #[error("the path {} holds one of : , \\ which an overlay's options cannot carry", path.display())]
    Unmountable { path: PathBuf },
    #[error("the snapshot is neither one read-only overlay nor one bind of an absolute path")]
    UnknownSnapshot,
    #[error("the snapshot's directory {} is not there", path.display())]
    NoSnapshot { path: PathBuf },
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for BundleError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } | Self::Busy { .. } | Self::MountedOver { .. } => ErrorKind::Conflict,
            Self::NotFound { .. } | Self::NoConfig { .. } | Self::NoSnapshot { .. } => ErrorKind::NotFound,
            Self::Unmountable { .. } => ErrorKind::Misuse,
            Self::UnknownSnapshot => ErrorKind::Invalid,
            Self::Name(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::MountedOver { path } => Some(format!("umount {}", path.display())),
            Self::NoSnapshot { .. } => Some("ctr-unpack makes it again".to_owned()),
            _ => None,
        }
    }
}
