// SPDX-License-Identifier: Apache-2.0
//! The runtime's own state: one directory per container, below a root on a tmpfs.
//!
//! ```text
//! <root>/<id>/state.json    what this container is, but for:
//!             cgroup        a symlink that is there once the cgroup was made
//!             process       a symlink that says PID:START-TIME of the first process
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

use std::collections::BTreeMap;
use std::path::PathBuf;

use ctr_record::Timestamp;
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
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = ctr_sys::stat::read(Pid::from_raw(pid)).ok()?;
    (!stat.has_ended).then_some(stat.start_time)
}

fn is_alive(pid: i32, started: u64) -> bool {
    start_time(pid) == Some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_no_other_has_its_start() {
        let pid = std::process::id() as i32;
        let started = start_time(pid).unwrap();
        assert!(is_alive(pid, started) && !is_alive(pid, started + 1));
    }
}
