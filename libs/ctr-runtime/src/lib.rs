// SPDX-License-Identifier: Apache-2.0
//! An OCI runtime: config.json to a plan, the plan to a container.
//!
//! [`Plan`](plan::Plan) is data, made by pure functions from the config ([`spec`], [`seccomp`],
//! [`cgroup`]). `create` performs it: a cgroup, one clone3 into it and into all new namespaces, and a
//! `process` that puts its own root together (`rootfs`), gives up its rights (`process::launch`) and
//! executes the container's program. [`Container`] is what exists afterwards, known by a small `state`
//! directory; nothing stays resident. `caller` is how it speaks with whoever called it.

mod caller;
pub mod capability;
pub mod cgroup;
mod container;
mod create;
mod criu;
mod dbus;
mod error;
mod hooks;
pub mod intel_rdt;
mod network;
pub mod plan;
mod preview;
mod process;
pub mod progress;
mod rootfs;
mod run;
pub mod seccomp;
pub mod spec;
mod state;
pub mod timing;

pub use caller::service::Service;
pub use container::exec::{ExecOptions, exec};
pub use container::hot_mount::{add_mounts, remove_mounts};
pub use container::leftover::{Leftover, leftovers};
pub use container::{Container, Owners, remove_leftovers};
pub use create::CreateOptions;
pub use criu::{
    CgroupsMode, CheckpointOptions, CriuOptions, EmptyNamespace, LsmProfile, NetworkLock, PageServer, RestoreOptions,
    restore,
};
pub use error::{RuntimeError, warn};
pub use preview::preview;
pub use process::report::InitFailure;
pub use rootfs::overlay::mount_on_host;
pub use run::{RunOptions, run};
pub use state::State;
