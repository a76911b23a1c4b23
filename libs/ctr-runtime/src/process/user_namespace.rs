// SPDX-License-Identifier: Apache-2.0
//! User namespaces' mappings and time namespaces' offsets: what has to be written from outside, before
//! anything runs inside.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::RuntimeError;
use crate::plan::{IdMap, NamespacePlan, UserPlan};
use crate::process::report::{Step, StepResult};

/// Writes the mappings of a process' new user namespace.
///
/// Root writes them itself; others through newuidmap and newgidmap, or, without these, a single id.
pub(crate) fn write_mappings(pid: i32, user: &UserPlan) -> Result<(), RuntimeError> {
    let write = |file: &str, maps: &[IdMap]| -> StepResult<()> {
        let lines: String = maps.iter().map(|map| format!("{} {} {}\n", map.container, map.host, map.size)).collect();
        let opened = File::options().write(true).open(format!("/proc/{pid}/{file}"));
        // The kernel takes a map in one write.
        let written = opened.and_then(|mut opened| opened.write_all(lines.as_bytes()));
        written.step_with(|| format!("write {:?} to the {file} of a user namespace", lines.trim_end()))
    };
    if ctr_sys::process::is_root() {
        write("gid_map", &user.gids)?;
        return Ok(write("uid_map", &user.uids)?);
    }
    let own = |maps: &[IdMap], id: u32| matches!(maps, [IdMap { host, size: 1, .. }] if *host == id);
    if own(&user.gids, nix::unistd::getegid().as_raw()) {
        // Without it a group that forbids something could be dropped (CVE-2014-8989).
        fs::write(format!("/proc/{pid}/setgroups"), "deny").map_err(RuntimeError::call("write setgroups"))?;
        write("gid_map", &user.gids)?;
    } else {
        run_helper("newgidmap", pid, &user.gids)?;
    }
    match own(&user.uids, nix::unistd::geteuid().as_raw()) {
        true => Ok(write("uid_map", &user.uids)?),
        false => run_helper("newuidmap", pid, &user.uids),
    }
}

fn run_helper(program: &'static str, pid: i32, maps: &[IdMap]) -> Result<(), RuntimeError> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container, map.host, map.size].map(|n| n.to_string()));
    }
    let output = command.output().map_err(|source| RuntimeError::Call { action: program, source })?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(RuntimeError::Call { action: program, source: io::Error::other(message) })
        }
    }
}

/// A time namespace with offsets, made for the children of this process until [`restore`](Self::restore).
///
/// The offsets can only be written while nobody is in it, so clone3 cannot make it.
#[derive(Debug)]
pub(crate) struct TimeOffsets {
    own: Option<File>,
}

/// Prepares a time namespace if the plan has offsets.
pub(crate) fn with_time_offsets(namespaces: &NamespacePlan) -> Result<TimeOffsets, RuntimeError> {
    if namespaces.time_offsets.is_empty() {
        return Ok(TimeOffsets { own: None });
    }
    let prepare = || -> io::Result<File> {
        let own = File::open("/proc/self/ns/time")?;
        unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME))?;
        fs::write("/proc/self/timens_offsets", namespaces.time_offsets.concat())?;
        Ok(own)
    };
    let own = prepare().map_err(RuntimeError::call("make the time namespace"))?;
    Ok(TimeOffsets { own: Some(own) })
}

impl TimeOffsets {
    /// The namespaces that are left for clone3 to make.
    pub(crate) fn new_kinds(&self, namespaces: &NamespacePlan) -> u64 {
        match self.own {
            None => namespaces.new,
            Some(_) => namespaces.new & !(libc::CLONE_NEWTIME as u64),
        }
    }

    /// Lets further children be born in this process' own time namespace again.
    pub(crate) fn restore(self) -> Result<(), RuntimeError> {
        match self.own {
            None => Ok(()),
            Some(own) => ctr_sys::process::join_namespaces(own.as_fd(), libc::CLONE_NEWTIME)
                .map_err(RuntimeError::call("return to the own time namespace")),
        }
    }
}
