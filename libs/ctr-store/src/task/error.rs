// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with tasks.

use ctr_record::{Classify, ErrorKind, InvalidName};

use crate::StoreError;

/// A failure to make, find or remove a task.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TaskError {
    #[error("the id {id} is in use: the container is {status}")]
    Exists { id: String, status: &'static str },
    #[error("the container {id} is being started or deleted by another process")]
    Busy { id: String },
    #[error("there is no container with the id {id}")]
    NotFound { id: String },
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for TaskError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } | Self::Busy { .. } => ErrorKind::Conflict,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Name(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { id, status: "stopped" | "unknown" } => Some(format!("ctr-task delete --keep-bundle {id}")),
            Self::Exists { id, .. } => Some(format!("ctr-task delete --force --keep-bundle {id}")),
            _ => None,
        }
    }
}
