// SPDX-License-Identifier: Apache-2.0
//! Image layers: a tar stream, as an image holds it, applied to a directory.
//!
//! [`Stream`] turns a layer's bytes into the bytes of its tar, whatever the compression, and into the
//! tar's digest on the way; [`apply`] writes what the tar says. Nothing here knows the store: where the
//! layer comes from, where the directory is, and who may see it before it is complete, is the
//! caller's business. Everything in a layer is hostile until its diffID has been found right, which is
//! only at its end.

mod apply;
mod archive;
mod entry;
mod error;
mod inflate;
mod limits;
mod stream;

pub use apply::{Applied, Options, Target, Warning, apply, create_root};
pub use entry::{Class, Content, Entry, Kind, Region, Time};
pub use error::{Error, Fault, Malformed};
pub use limits::Limits;
pub use stream::Stream;

#[cfg(test)]
mod tests;
