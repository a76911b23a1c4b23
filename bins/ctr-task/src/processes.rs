// SPDX-License-Identifier: Apache-2.0
//! The processes of a running container.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use ctr_store::task::cgroups_of;
use nix::unistd::Pid;
use serde::Serialize;

/// One process, as the host sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessInfo {
    pid: i32,
    /// Its number in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    container_pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<i32>,
    /// The effective user, as the host numbers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    args: Vec<String>,
}

/// What the container's processes are at this moment, its first one first.
pub(crate) fn describe(init: Pid) -> io::Result<Vec<ProcessInfo>> {
    let mut pids = members(init)?;
    pids.remove(&init);
    let all = std::iter::once(init).chain(pids);
    Ok(all.filter_map(|pid| describe_one(pid).ok()).collect())
}

/// The container's processes, each held so that no other one can take its number.
pub(crate) fn open_all(init: Pid) -> io::Result<Vec<(Pid, OwnedFd)>> {
    let before = members(init)?;
    let opened: Vec<(Pid, OwnedFd)> =
        before.iter().filter_map(|&pid| Some((pid, ctr_sys::process::pidfd_open(pid).ok()?))).collect();
    // A number may have become another process' before it was opened; those that are the container's still
    // are now.
    let after = members(init)?;
    Ok(opened.into_iter().filter(|(pid, _)| after.contains(pid)).collect())
}

fn members(init: Pid) -> io::Result<BTreeSet<Pid>> {
    let mut pids = BTreeSet::from([init]);
    let cgroups = cgroups_of(init)?;
    // v2 knows all of them, any controller of v1 does as well.
    match cgroups.iter().find(|cgroup| cgroup.controllers.is_empty()).or(cgroups.first()) {
        Some(cgroup) => read_tree(&cgroup.directory, &mut pids)?,
        None => read_namespace(init, &mut pids)?,
    }
    Ok(pids)
}

fn read_tree(directory: &Path, pids: &mut BTreeSet<Pid>) -> io::Result<()> {
    let procs = match fs::read_to_string(directory.join("cgroup.procs")) {
        // It went away with its last process, or has threads only.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) =>
        {
            return Ok(());
        }
        procs => procs?,
    };
    pids.extend(procs.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).map(Pid::from_raw));
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            read_tree(&entry.path(), pids)?;
        }
    }
    Ok(())
}

/// Without a cgroup of its own, a container is told by its pid namespace, if it has one of those.
fn read_namespace(init: Pid, pids: &mut BTreeSet<Pid>) -> io::Result<()> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(&init.to_string());
    if wanted.is_none() || wanted == namespace("self") {
        return Ok(());
    }
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if namespace(&pid.to_string()) == wanted {
            pids.insert(Pid::from_raw(pid));
        }
    }
    Ok(())
}

fn describe_one(pid: Pid) -> io::Result<ProcessInfo> {
    let command = fs::read(format!("/proc/{pid}/cmdline"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let command = command.strip_suffix(b"\0").unwrap_or(&command);
    let args = command.split(|&b| b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
    Ok(ProcessInfo {
        pid: pid.as_raw(),
        container_pid: field(&status, "NSpid:").and_then(|all| all.last()?.parse().ok()),
        parent: field(&status, "PPid:").and_then(|all| all.first()?.parse().ok()),
        user: field(&status, "Uid:").and_then(|all| all.get(1)?.parse().ok()),
        args: if command.is_empty() { Vec::new() } else { args.collect() },
    })
}

fn field<'a>(status: &'a str, name: &str) -> Option<Vec<&'a str>> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.split_whitespace().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_described_with_its_arguments() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "read x", "a b", ""]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        // For a moment in exec, a process has no arguments.
        let info = loop {
            let info = describe_one(Pid::from_raw(child.id() as i32)).unwrap();
            if !info.args.is_empty() {
                break info;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(info.args, ["sh", "-c", "read x", "a b", ""]);
        assert_eq!(info.parent, Some(std::process::id() as i32));
        assert_eq!(info.user, Some(nix::unistd::geteuid().as_raw()));
    }
}
