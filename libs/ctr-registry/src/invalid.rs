// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with a manifest, an index or a config.

use ctr_record::{Classify, Digest, ErrorKind};

/// A document that is no manifest, index or image config, or not one that can be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// It is not the JSON that it must be.
    #[error("the {what} is malformed")]
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It has another digest than it was asked for by.
    #[error("the content has digest {actual}, not {expected}")]
    Digest {
        /// The digest it was asked for by.
        expected: Digest,
        /// The digest of what arrived.
        actual: Digest,
    },
    /// It has another size than its descriptor says.
    #[error("the content has {actual} bytes, not {expected}")]
    Size {
        /// The descriptor's size.
        expected: u64,
        /// The size of what arrived.
        actual: u64,
    },
    /// It is a Docker schema 1 manifest.
    #[error("it is a Docker schema 1 manifest, which cannot be verified; push the image again with a current tool")]
    Schema1,
    /// It can be read in two ways.
    #[error("it is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// Its media type is none of an image.
    #[error("{media_type:?} is not the media type of {what}; this may be an artifact, but it is no image")]
    MediaType {
        /// What should have been of another type.
        what: &'static str,
        /// The type it is of.
        media_type: String,
    },
    /// A descriptor promises nothing.
    #[error("the descriptor of {0} says that it is empty")]
    Empty(Digest),
    /// The manifest's layers are not those of the config.
    #[error("the manifest has {layers} layers, the config {diff_ids} diffIDs")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// `rootfs.diff_ids` in the config.
        diff_ids: usize,
    },
    /// The config's `rootfs.type` is not `layers`.
    #[error("the config's rootfs is of type {0:?}, not \"layers\"")]
    RootfsType(String),
}

impl Classify for InvalidManifest {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
