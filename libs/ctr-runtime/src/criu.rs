// SPDX-License-Identifier: Apache-2.0
//! Checkpoint and restore, which criu does: what it is asked, and what is done around it.
//!
//! A request is data, made by pure functions from the options, the container's plan and what was seen of it
//! ([`request`]), and sent to a criu of its own for each ([`service`]). criu's service is used and not its
//! command line because only that calls back: for hooks, for the record of the container before it runs, and
//! to hand over its terminal.

use std::os::fd::AsFd;

use ctr_sys::process::{pidfd_open, pidfd_send_signal};
use nix::unistd::Pid;

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

/// Ends a criu that holds a process, as one does for `--lazy-pages` until somebody has asked for all of them: it
/// would wait for good, and a pid namespace, too, whose dead processes nobody reaps.
pub(crate) fn let_go(pid: i32) {
    let holder = || -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
        line.trim().parse().ok().filter(|tracer| *tracer != 0)
    };
    let Some(tracer) = holder() else { return };
    let Ok(pidfd) = pidfd_open(Pid::from_raw(tracer)) else { return };
    let is_criu = std::fs::read(format!("/proc/{tracer}/comm")).is_ok_and(|name| name == b"criu\n");
    // By now the number may be another's.
    if is_criu && holder() == Some(tracer) {
        let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Where criu works for a container, in the container's state directory.
pub(crate) const DIRECTORY: &str = "criu";
