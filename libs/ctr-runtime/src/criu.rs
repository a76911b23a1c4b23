// SPDX-License-Identifier: Apache-2.0
//! Checkpoint and restore, which criu does: what it is asked, and what is done around it.
//!
//! A request is data, made by pure functions from the options, the container's plan and what was seen of it
//! ([`request`]), and sent to a criu of its own for each ([`service`]). criu's service is used and not its
//! command line because only that calls back: for hooks, for the record of the container before it runs, and
//! to hand over its terminal.

mod checkpoint;
mod descriptors;
mod images;
mod log;
mod message;
mod mountpoints;
mod observe;
mod options;
mod request;
mod restore;
mod service;
mod wire;
mod workshop;

pub use options::{
    CgroupsMode, CheckpointOptions, CriuOptions, EmptyNamespace, LsmProfile, NetworkLock, PageServer, RestoreOptions,
};
pub use restore::restore;

/// Where criu works for a container, in the container's state directory.
pub(crate) const DIRECTORY: &str = "criu";
