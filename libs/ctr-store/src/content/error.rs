// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with blobs.

use std::path::PathBuf;

use ctr_record::{Classify, Digest, ErrorKind};

use crate::StoreError;

/// A failure to bring in or read a blob.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ContentError {
    #[error("blob {digest} is not in the content store")]
    Absent { digest: Digest },
    #[error("{} does not have the digest that it is named by", path.display())]
    Damaged { path: PathBuf },
    #[error("the content has digest {actual}, not {expected}")]
    Digest { expected: Digest, actual: Digest, resumed: bool },
    #[error("blob {digest} is longer than the {size} bytes that it has by its descriptor")]
    TooLong { digest: Digest, size: u64 },
    #[error("blob {digest} ended after {written} of {size} bytes")]
    Incomplete { digest: Digest, written: u64, size: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for ContentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } | Self::Digest { .. } | Self::TooLong { .. } => ErrorKind::Invalid,
            Self::Incomplete { .. } => ErrorKind::Temporary,
            Self::Store(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some("ctr-pull brings it back".to_owned()),
            Self::Damaged { path } => Some(format!("rm {} and pull the image again", path.display())),
            _ => None,
        }
    }
}
