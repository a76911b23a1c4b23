// SPDX-License-Identifier: Apache-2.0
//! The namespaces that a container joins: opened, and checked for those that must not be the runtime's own.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sys::stat::{fstat, stat};

use crate::RuntimeError;
use crate::plan::{Plan, Sysctl};

/// Opens them: kind and descriptor.
pub(super) fn open(plan: &Plan) -> Result<Vec<(i32, OwnedFd)>, RuntimeError> {
    let open = |(kind, path): &(i32, PathBuf)| {
        let file = File::open(path).map_err(RuntimeError::io("open the namespace", path))?;
        Ok((*kind, OwnedFd::from(file)))
    };
    let opened: Vec<_> = plan.namespaces.join.iter().map(open).collect::<Result<_, RuntimeError>>()?;
    check_network(plan, &opened)?;
    check_mount(plan, &opened)?;
    Ok(opened)
}

// The container's root would become that of the host.
fn check_mount(plan: &Plan, joined: &[(i32, OwnedFd)]) -> Result<(), RuntimeError> {
    let Some((_, joined)) = joined.iter().find(|(kind, _)| *kind == libc::CLONE_NEWNS) else { return Ok(()) };
    match is_own("/proc/self/ns/mnt", joined).map_err(RuntimeError::errno("read the mount namespace"))? {
        true => Err(RuntimeError::config("linux.namespaces", "the mount namespace to join is the runtime's own")),
        // What is mounted on /proc there is somebody else's choice (CVE-2025-52881).
        false if !plan.sysctl.is_empty() => {
            Err(RuntimeError::config("linux.sysctl", "it cannot be set from a mount namespace that is joined"))
        }
        false => Ok(()),
    }
}

fn is_own(own: &str, joined: &OwnedFd) -> nix::Result<bool> {
    let (own, joined) = (stat(own)?, fstat(joined)?);
    Ok((own.st_dev, own.st_ino) == (joined.st_dev, joined.st_ino))
}

// A path may lead to the network namespace of this process, whose parameters are not the container's to set.
fn check_network(plan: &Plan, joined: &[(i32, OwnedFd)]) -> Result<(), RuntimeError> {
    let Some((_, joined)) = joined.iter().find(|(kind, _)| *kind == libc::CLONE_NEWNET) else { return Ok(()) };
    if !plan.sysctl.iter().any(Sysctl::is_of_network) {
        return Ok(());
    }
    match is_own("/proc/self/ns/net", joined).map_err(RuntimeError::errno("read the network namespace"))? {
        true => Err(RuntimeError::config("linux.sysctl", "net.* is not allowed in host network namespace")),
        false => Ok(()),
    }
}
