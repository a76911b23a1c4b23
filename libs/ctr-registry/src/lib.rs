// SPDX-License-Identifier: Apache-2.0
//! A client of the OCI distribution protocol: manifests and blobs out of a registry, verified.
//!
//! Everything that arrives is hostile until its digest says otherwise: sizes are bounded before
//! anything is kept, redirects and token realms are checked, credentials go to the registry's exact
//! host (and the realm it names) only, and nothing waits for ever. The crate knows nothing of the
//! store; [`Manifest`], [`Index`] and [`ImageConfig`] are pure and serve local layouts as well.
//!
//! All of it is async on the caller's `current_thread` runtime. No other crate names reqwest.

mod address;
mod auth;
mod base64;
mod blob;
mod challenge;
mod client;
mod config;
mod credentials;
mod endpoint;
mod error;
mod helper;
mod index;
mod invalid;
mod json;
mod manifest;
mod response;
mod retry;
mod token;
mod transport;

#[cfg(test)]
mod tests;

pub use blob::BlobStream;
pub use client::{Client, Options};
pub use config::ImageConfig;
pub use credentials::Credentials;
pub use error::Error;
pub use index::{Index, NoPlatform};
pub use invalid::InvalidManifest;
pub use manifest::{Content, ImageManifest, MANIFEST_LIMIT, Manifest};
pub use retry::RetryPolicy;
pub use transport::Timeouts;
