// SPDX-License-Identifier: Apache-2.0
//! The state directory: where the tools meet.
//!
//! ```text
//! image/                an OCI image layout: what was pulled
//! ingest/               downloads under way
//! snapshots/            unpacked layers
//! bundles/<ns>/<id>/    runtime bundles
//! tasks/<ns>/<id>/      supervised containers
//! events/               the event log
//! sched/                the limiter's places and queue
//! ```
//!
//! Every file has one kind of writer. A file is replaced by temporary + rename; liveness is a held lock;
//! what must survive a power cut is synced before it gets its name. `ctr-state(5)` documents the layout.

pub mod bundle;
pub mod content;
mod dir;
mod error;
pub mod event;
mod file;
pub mod index;
mod leftover;
pub mod sched;
pub mod snapshot;
pub mod task;
mod watch;

pub use dir::{StateDir, runtime_root};
pub use error::StoreError;
pub use file::{Durability, Lock, read_bounded, replace_file};
pub use leftover::{Leftover, LeftoverKind, leftovers};
pub use watch::Watch;
