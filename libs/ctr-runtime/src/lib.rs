// SPDX-License-Identifier: Apache-2.0
//! An OCI runtime: config.json to a plan, the plan to a container.
//!
//! [`Plan`](plan::Plan) is data, made by pure functions from the config ([`spec`], [`seccomp`],
//! [`cgroup`]). `create` performs it: a cgroup, one clone3 into it and into all new namespaces, and a
//! process that puts its own root together (`init`, `rootfs`), gives up its rights (`launch`) and
//! executes the container's program. [`Container`] is what exists afterwards, known by a small state
//! directory; nothing stays resident.

mod beneath;
pub mod capability;
pub mod cgroup;
mod cgroup_mount;
mod container;
mod copy_up;
mod create;
mod criu;
mod dbus;
mod device;
mod error;
mod exec;
mod explain;
mod fate;
mod file_system;
mod finalise;
mod gate;
mod hooks;
mod hot_mount;
mod idmap;
mod init;
pub mod intel_rdt;
mod keyring;
mod label;
mod launch;
mod leftover;
mod listener;
mod mount_source;
mod mounting;
mod net_device;
mod netlink;
mod network;
mod notify;
mod overlay;
mod pid_file;
mod pidfd_socket;
pub mod plan;
mod preview;
pub mod progress;
mod range;
mod report;
mod resources;
mod rootfs;
mod run;
pub mod seccomp;
mod serve;
mod service;
mod spawn;
pub mod spec;
mod state;
pub mod timing;
mod tty;
mod undo;
mod update;
mod user_namespace;

pub use container::{Container, Owners, remove_leftovers};
pub use create::CreateOptions;
pub use criu::{
    CgroupsMode, CheckpointOptions, CriuOptions, EmptyNamespace, LsmProfile, NetworkLock, PageServer, RestoreOptions,
    restore,
};
pub use error::{RuntimeError, warn};
pub use exec::{ExecOptions, exec};
pub use hot_mount::{add_mounts, remove_mounts};
pub use leftover::{Leftover, leftovers};
pub use overlay::mount_on_host;
pub use preview::preview;
pub use report::InitFailure;
pub use run::{RunOptions, run};
pub use service::Service;
pub use state::State;
