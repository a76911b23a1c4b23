// SPDX-License-Identifier: Apache-2.0
//! What the end-to-end tests, the demo and the bench are made with: images, a registry with faults, a
//! private world to run the tools in, and the checks that nothing is left behind.
//!
//! Nothing here uses the libraries of the tools, but for the digests of `ctr-record`: a test must not
//! inherit the mistake that it looks for.

pub mod enclosure;
pub mod image;
pub mod layer;
pub mod leak;
pub mod mounted;
pub mod need;
pub mod peer;
pub mod pty;
pub mod registry;
pub mod tool;
pub mod tree;
pub mod world;

mod http;

pub use image::{Image, LayoutDir};
pub use layer::{Compression, Layer};
pub use mounted::Mounted;
pub use need::Need;
pub use registry::Registry;
pub use tool::{Outcome, Tool};
pub use world::World;
