// SPDX-License-Identifier: Apache-2.0
//! The runtime's own state: one directory per container, below a root on a tmpfs.
//!
//! ```text
//! <root>/<id>/state.json    what this container is, but for:
//!             cgroup        a symlink that is there once the cgroup was made
//!             process       a symlink that says PID:START-TIME of the first process, and where the kernel has
//!                           such :INODE:BOOT of it on pidfs
//!             complete      a symlink that is there from the moment it is made as a whole until its deletion begins
//!             config.json   the bundle's config as it was at create, with the limits of later updates
//!             exec.fifo     there while it is created and not yet started; tells what fails after that
//!             notify/       mounted in a container that a service manager waits for, with the socket that it tells
//! ```
//!
//! Making the directory claims the id; it is locked while something changes the container. state.json is
//! written before anything is made, with the cgroups that are going to be, so that `delete --force` can clear
//! up after a runtime that was killed. What comes true later is added as a symlink. What is not complete although
//! nobody holds the lock was left by a runtime that was killed (`leftover`).

mod dir;
mod record;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use ctr_record::Timestamp;
use ctr_sys::pidfs;
use ctr_sys::process::{Child, pidfd_open};
use ctr_sys::stat::Stat;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cgroup::{Cgroup, Manager};
use crate::intel_rdt::RdtGroup;
use crate::plan::Hooks;
pub(crate) use dir::{ContainerDir, list};

/// What is recorded of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct State {
    pub oci_version: String,
    pub id: String,
    /// The first process; 0 until there is one.
    pub pid: i32,
    /// When it was started, in clock ticks since boot: a pid alone may have been given to another.
    pub pid_start_time: u64,
    /// Its inode on pidfs, which is faster to ask for, if this kernel has any and it is of this boot.
    #[serde(skip)]
    pub pid_inode: Option<u64>,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: Timestamp,
    /// The user who runs the runtime.
    pub owner: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub cgroup: Cgroup,
    /// Whether the cgroup was made: before that, what is in its place may be another's.
    pub cgroup_is_made: bool,
    /// Whether it is there as a whole though its directory does not say so: before there was a mark for it, none did.
    #[serde(default = "true_of_old")]
    pub complete: bool,
    /// Who made it.
    #[serde(default)]
    pub cgroup_manager: Manager,
    /// Whether its processes keep their callers' session keyrings.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// Whether it was restored from a checkpoint, which puts it into a time namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// Whether its pid namespace is another's too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shares_pids: bool,
    /// Its group in resctrl, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<RdtGroup>,
    /// Those of the config: some are yet to come.
    #[serde(default)]
    pub hooks: Hooks,
}

fn true_of_old() -> bool {
    true
}

impl State {
    /// Takes note of the first process; returns the processor that it is to run on, if it has not ended.
    pub(crate) fn set_process(&mut self, child: &Child) -> Option<usize> {
        let stat = live_stat(child.pid.as_raw());
        self.pid = child.pid.as_raw();
        self.pid_start_time = stat.map_or(0, |stat| stat.start_time);
        self.pid_inode = pidfs::inode(child.pidfd.as_fd());
        stat.map(|stat| stat.processor)
    }

    /// Whether a descriptor that was opened by the first process' number refers to it, and it is alive.
    pub(crate) fn is_process(&self, pidfd: BorrowedFd<'_>) -> bool {
        match self.pid_inode {
            Some(inode) => pidfs::is_alive(pidfd, inode),
            None => start_time(self.pid) == Some(self.pid_start_time),
        }
    }

    /// Whether the first process is alive.
    pub(crate) fn process_is_alive(&self) -> bool {
        match self.pid_inode.map(|_| pidfd_open(Pid::from_raw(self.pid))) {
            Some(Ok(pidfd)) => self.is_process(pidfd.as_fd()),
            Some(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => false,
            _ => start_time(self.pid) == Some(self.pid_start_time),
        }
    }

    /// What `state` prints and hooks are told (runtime-spec, "State").
    pub(crate) fn to_oci(&self, status: &str) -> Value {
        let mut object = json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "pid": self.pid,
            "status": status,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            object["annotations"] = json!(self.annotations);
        }
        object
    }
}

/// When a process was started, in clock ticks since boot; `None`: there is no such process, or it has
/// ended and only waits to be reaped.
fn start_time(pid: i32) -> Option<u64> {
    live_stat(pid).map(|stat| stat.start_time)
}

fn live_stat(pid: i32) -> Option<Stat> {
    ctr_sys::stat::read(Pid::from_raw(pid)).ok().filter(|stat| !stat.has_ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_inode_or_else_by_its_start() {
        let mut state: State = serde_json::from_value(json!({
            "ociVersion": "1.2.0", "id": "a", "pid": 0, "pidStartTime": 0, "bundle": "/b", "rootfs": "/b/rootfs",
            "created": "2026-01-02T03:04:05.000000006Z", "owner": 0, "cgroup": {}, "cgroupIsMade": true
        }))
        .unwrap();
        state.set_process(&Child { pid: Pid::this(), pidfd: pidfd_open(Pid::this()).unwrap() });
        assert!(state.process_is_alive());
        if let Some(inode) = &mut state.pid_inode {
            *inode += 1;
            assert!(!state.process_is_alive());
        }
        state.pid_inode = None;
        assert!(state.process_is_alive());
        state.pid_start_time += 1;
        assert!(!state.process_is_alive());
    }
}
