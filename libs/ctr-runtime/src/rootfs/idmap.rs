// SPDX-License-Identifier: Apache-2.0
//! Idmapped mounts: detached mounts whose ids are seen through a user namespace's mappings.
//!
//! The kernel takes a mapping as a user namespace that has it. For one that no container has, a process
//! is born in a new namespace, which is all that it does.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ctr_sys::mount::{self, Attributes};
use ctr_sys::process::{Clone3, close_inherited, spawn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, major, minor};
use nix::sys::wait::waitpid;

use crate::RuntimeError;
use crate::plan::{IdmapPlan, Mapping, MountKind, MountPlan, UserPlan};
use crate::process::report::InitFailure;
use crate::process::user_namespace;

/// The user namespaces that mounts were mapped by, one for each distinct mapping.
#[derive(Debug, Default)]
pub(crate) struct UserNamespaces(Vec<(Mapping, OwnedFd)>);

impl UserNamespaces {
    /// Maps the ids of a detached mount.
    pub(crate) fn map(
        &mut self,
        planned: &MountPlan,
        idmap: &IdmapPlan,
        tree: BorrowedFd<'_>,
    ) -> Result<(), RuntimeError> {
        let user_namespace = Some(self.open(&idmap.mapping)?);
        let change = Attributes { user_namespace, ..Attributes::default() };
        mount::set_attributes(tree, idmap.recursive, change).map_err(|error| refused(planned, idmap, tree, error))
    }

    fn open(&mut self, mapping: &Mapping) -> Result<BorrowedFd<'_>, RuntimeError> {
        let known = self.0.iter().position(|(known, _)| known == mapping);
        let index = match known {
            Some(index) => index,
            None => {
                let opened = match mapping {
                    Mapping::Ids(ids) => make(ids)?,
                    Mapping::Namespace(path) => {
                        File::open(path).map_err(RuntimeError::io("open the namespace", path))?.into()
                    }
                };
                self.0.push((mapping.clone(), opened));
                self.0.len() - 1
            }
        };
        Ok(self.0[index].1.as_fd())
    }
}

/// Makes a user namespace with these mappings and nobody in it.
pub(crate) fn make(ids: &UserPlan) -> Result<OwnedFd, RuntimeError> {
    let failed = RuntimeError::call("make a user namespace for an idmapped mount");
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
        .map_err(RuntimeError::errno("make a user namespace for an idmapped mount"))?;
    let how = Clone3 { flags: libc::CLONE_NEWUSER as u64, cgroup: None };
    // The process ends when the pipe is closed, be it because this one was killed.
    let wait = || {
        // With its own copy of the other end it would wait for good.
        if close_inherited(libc::STDERR_FILENO + 1, &mut [reader.as_raw_fd()]).is_ok() {
            let _ = File::from(reader).read(&mut [0]);
        }
        0
    };
    let child = spawn(how, wait).map_err(failed)?;
    let path = PathBuf::from(format!("/proc/{}/ns/user", child.pid));
    let opened = user_namespace::write_mappings(child.pid.as_raw(), ids)
        .and_then(|()| File::open(&path).map_err(RuntimeError::io("open", &path)));
    drop(writer);
    let _ = waitpid(child.pid, None);
    opened.map(OwnedFd::from)
}

fn refused(planned: &MountPlan, idmap: &IdmapPlan, tree: BorrowedFd<'_>, error: io::Error) -> RuntimeError {
    let fstype = match &planned.kind {
        MountKind::New { fstype, .. } => fstype.clone(),
        _ => file_system_of(tree).unwrap_or_else(|| "an unknown file system".to_owned()),
    };
    let below = if idmap.recursive { ", or of what is mounted below it," } else { "" };
    let why = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINVAL) => format!("the file system ({fstype}){below} does not support idmapped mounts"),
        Some(Errno::EPERM) => format!("the file system ({fstype}){below} is already idmapped, or another user's"),
        Some(Errno::ENOSYS) => "this kernel has no idmapped mounts".to_owned(),
        _ => format!("{error} (on {fstype})"),
    };
    let what = match &planned.kind {
        MountKind::Bind { source, .. } => format!(" of {}", source.display()),
        MountKind::Cgroup | MountKind::New { .. } => String::new(),
    };
    InitFailure::finding(format!("idmapped mount{what} on /{}: {why}", planned.destination.display())).into()
}

// By the number of its device: the mount itself is in nobody's table yet.
fn file_system_of(tree: BorrowedFd<'_>) -> Option<String> {
    let device = fstat(tree).ok()?.st_dev;
    let wanted = format!("{}:{}", major(device), minor(device));
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|line| line.split(' ').nth(2) == Some(&wanted))?;
    line.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
}
