// SPDX-License-Identifier: Apache-2.0
//! How a process gets into a cgroup.
//!
//! The first process of a container is born into the v2 cgroup and writes itself into those of v1, which
//! costs next to nothing: for a process that moves itself alone, the kernel need not stop others from
//! forking. Moving another process costs an RCU grace period, milliseconds on an idle machine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, write};

use super::control::{open_directory, read_file_at, write_file};
use super::hierarchy::shown_cgroup_of;
use super::systemd::Attach;
use super::{Cgroup, CgroupError, Hierarchies, Unit, Version, members};

/// Open files by which a new process joins a cgroup, whatever it can see of the filesystem by then.
#[derive(Debug, Default)]
pub struct JoinFds {
    pub(super) v2: Option<OwnedFd>,
    pub(super) v1: Vec<OwnedFd>,
    /// By somebody else's hand, and into v2.
    pub(super) attach: Option<Attach>,
}

/// Which of the v1 hierarchies was not joined, for [`Cgroup::explain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinFailure {
    /// Its place in the order of joining.
    pub index: usize,
    /// Why.
    pub errno: Errno,
}

impl JoinFds {
    /// The v2 directory, for clone3(2) with `CLONE_INTO_CGROUP`.
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling thread, which must be its process's only one, into the v1 cgroups, or waits until
    /// [`JoinFds::admit`] has it moved.
    ///
    /// It allocates nothing and takes no lock: a fresh child may call it. A cgroup namespace must be made
    /// after it, or its root is where the process was before.
    pub fn join_self(&self) -> Result<(), JoinFailure> {
        if let Some(attach) = &self.attach {
            attach.wait().map_err(|errno| JoinFailure { index: 0, errno })?;
        }
        for (index, tasks) in self.v1.iter().enumerate() {
            // 0 is the caller, whatever number it has in which pid namespace
            match write(tasks, b"0") {
                Ok(_) => {}
                Err(errno) => return Err(JoinFailure { index, errno }),
            }
        }
        Ok(())
    }

    /// In the parent of a new process: does what that cannot do itself to be where it belongs.
    pub fn admit(&self, pid: Pid) -> Result<(), CgroupError> {
        self.attach.as_ref().map_or(Ok(()), |attach| attach.admit(pid))
    }
}

impl Cgroup {
    /// Opens what a new process needs to join; fails when the cgroup is gone.
    pub fn join_fds(&self) -> Result<JoinFds, CgroupError> {
        let mut fds = JoinFds::default();
        if let Some(unit) = self.users_unit() {
            fds.attach = Some(unit.attach(self.inner.as_deref().unwrap_or(Path::new("")))?);
            return Ok(fds);
        }
        for (version, path) in self.directories() {
            let join = |errno: Errno| CgroupError::Join { path: path.to_owned(), source: errno.into() };
            match version {
                Version::V2 => fds.v2 = Some(open_directory(self.home().as_deref().unwrap_or(path)).map_err(join)?),
                Version::V1 => {
                    let tasks = open(&path.join("tasks"), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
                    fds.v1.push(tasks.map_err(join)?);
                }
            }
        }
        Ok(fds)
    }

    /// The unit, if it is of a user's systemd: a process is moved there by that.
    pub(super) fn users_unit(&self) -> Option<&Unit> {
        self.unit().filter(|unit| unit.user)
    }

    /// As [`Cgroup::join_fds`], for a further process of a container whose first one is `pid`.
    ///
    /// A container that manages its own cgroups may have handed its controllers on to them; then its v2
    /// cgroup can hold no process itself, and a new one joins the cgroup below it where `pid` is. Or that has gone
    /// elsewhere, and the cgroup was removed.
    pub fn join_fds_beside(&self, pid: Pid) -> Result<JoinFds, CgroupError> {
        let is_gone = |error: &CgroupError| match error {
            CgroupError::Join { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        let mut fds = match self.join_fds() {
            Err(error) if self.only_v2() && is_gone(&error) => {
                return Ok(JoinFds { v2: Some(v2_directory_of(pid)?.ok_or(error)?), ..JoinFds::default() });
            }
            fds => fds?,
        };
        if let (Some(path), Some(v2)) = (self.v2_path(), &fds.v2) {
            let file = "cgroup.subtree_control";
            let handed_on =
                read_file_at(v2, file).map_err(|source| CgroupError::Read { path: path.join(file), source })?;
            if !handed_on.trim().is_empty() {
                fds.v2 = Some(members::directory_of(path, pid)?);
            }
        }
        Ok(fds)
    }

    /// Moves a process into the cgroup in every hierarchy: slow, for where the process cannot do it itself.
    pub fn add_process(&self, pid: Pid) -> Result<(), CgroupError> {
        for (version, path) in self.directories() {
            let result = write_file(&path.join("cgroup.procs"), &pid.as_raw().to_string());
            result.map_err(|errno| explain(version, path.to_owned(), errno))?;
        }
        Ok(())
    }

    /// Says where and why [`JoinFds::join_self`] failed.
    pub fn explain(&self, failure: JoinFailure) -> CgroupError {
        let v1 = self.directories().filter(|(version, _)| *version == Version::V1).nth(failure.index);
        let path = v1.map(|(_, path)| path.to_owned()).unwrap_or_default();
        explain(Version::V1, path, failure.errno)
    }

    /// Says what it means that a process could not be born into the v2 cgroup.
    pub fn explain_clone(&self, error: &io::Error) -> CgroupError {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        explain(Version::V2, self.v2_path().map(PathBuf::from).unwrap_or_default(), errno)
    }
}

/// The v2 cgroup that a process is in, if it can be seen from here.
fn v2_directory_of(pid: Pid) -> Result<Option<OwnedFd>, CgroupError> {
    let hierarchies = Hierarchies::detect()?;
    let Some(v2) = hierarchies.iter().find(|hierarchy| hierarchy.version() == Version::V2) else { return Ok(None) };
    let Some(shown) = shown_cgroup_of(pid, v2)? else { return Ok(None) };
    let path = v2.mount_point.join(shown);
    open_directory(&path).map(Some).map_err(|errno| CgroupError::Join { path, source: errno.into() })
}

fn explain(version: Version, path: PathBuf, errno: Errno) -> CgroupError {
    match (version, errno) {
        (Version::V2, Errno::EBUSY) => CgroupError::JoinInner { path },
        (Version::V2, Errno::EOPNOTSUPP) => CgroupError::JoinThreaded { path },
        _ => CgroupError::Join { path, source: errno.into() },
    }
}
