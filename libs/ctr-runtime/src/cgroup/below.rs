// SPDX-License-Identifier: Apache-2.0
//! Where below a container's cgroups another of its processes goes (`exec --cgroup`).
//!
//! The directories are the container's to make, so what is named is resolved beneath its own cgroup: neither
//! a `..` nor a symlink leads above it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::control::open_directory;
use super::{Cgroup, CgroupError, JoinFds, Version};

/// Paths below a container's cgroup: one for all hierarchies, or one for each of some controllers of v1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupBelow {
    all: Option<PathBuf>,
    controllers: BTreeMap<String, PathBuf>,
}

impl CgroupBelow {
    /// Reads arguments of the form `[CONTROLLER[,CONTROLLER…]:]PATH`.
    pub fn parse(arguments: &[String]) -> Result<Self, CgroupError> {
        let mut below = Self::default();
        for argument in arguments {
            let refuse = |rule| Err(CgroupError::Below { argument: argument.clone(), rule });
            let Some((controllers, path)) = argument.split_once(':') else {
                if arguments.len() > 1 {
                    return refuse("more than one needs <controller>: prefixes");
                }
                below.all = Some(relative(argument, argument)?);
                return Ok(below);
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return refuse("empty <controller> prefix");
                }
                if below.controllers.insert(controller.to_owned(), relative(argument, path)?).is_some() {
                    return refuse("a controller is specified multiple times");
                }
            }
        }
        Ok(below)
    }

    /// Whether the container's own cgroup is meant, or the one that its first process is in.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn relative(argument: &str, path: &str) -> Result<PathBuf, CgroupError> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if !clean.pop() => {
                return Err(CgroupError::Below { argument: argument.to_owned(), rule: "bad sub cgroup path" });
            }
            _ => {}
        }
    }
    Ok(clean)
}

impl Cgroup {
    /// As [`Cgroup::join_fds`], for cgroups below the container's, which must exist.
    pub fn join_fds_below(&self, below: &CgroupBelow) -> Result<JoinFds, CgroupError> {
        let mut paths: Vec<&Path> = Vec::new();
        for controller in below.controllers.keys() {
            paths.push(self.v1_path(controller).ok_or_else(|| CgroupError::Controller(controller.clone()))?);
        }
        let mut fds = JoinFds::default();
        if let Some(unit) = self.users_unit() {
            fds.attach = Some(unit.attach(below.all.as_deref().unwrap_or(Path::new("")))?);
            return Ok(fds);
        }
        for (version, path) in self.directories() {
            let chosen = below.controllers.values().zip(&paths).find(|(_, chosen)| **chosen == path);
            let sub = chosen.map(|(sub, _)| sub).or(below.all.as_ref()).map_or(Path::new(""), PathBuf::as_path);
            let failed = |errno: Errno| CgroupError::Add { path: path.join(sub), source: errno.into() };
            match version {
                Version::V2 => match open(path, sub, OFlag::O_PATH | OFlag::O_DIRECTORY) {
                    Ok(directory) => fds.v2 = Some(directory),
                    // Beside v1 hierarchies it holds nothing, and who made the others need not have made it.
                    Err(Errno::ENOENT) if self.paths.len() > 1 => fds.v2 = Some(open_directory(path).map_err(failed)?),
                    Err(errno) => return Err(failed(errno)),
                },
                Version::V1 => fds.v1.push(open(path, &sub.join("tasks"), OFlag::O_WRONLY).map_err(failed)?),
            }
        }
        Ok(fds)
    }

    /// Says what it means that a process could not be born there.
    pub fn explain_below(&self, below: &CgroupBelow, source: io::Error) -> CgroupError {
        let top = self.v2_path().unwrap_or(Path::new(""));
        CgroupError::Add { path: top.join(below.all.as_deref().unwrap_or(Path::new(""))), source }
    }
}

fn open(cgroup: &Path, below: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let top = open_directory(cgroup)?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    openat2(top.as_fd(), below, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<CgroupBelow, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        CgroupBelow::parse(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn one_path_is_for_all_and_more_have_controllers() {
        assert!(parse(&[]).unwrap().is_none());
        assert_eq!(parse(&["/"]).unwrap(), CgroupBelow { all: Some("".into()), ..CgroupBelow::default() });
        assert_eq!(parse(&["a//b/../c"]).unwrap().all, Some("a/c".into()));
        let both = parse(&["memory:m", "cpu,cpuacct:/c"]).unwrap().controllers;
        assert_eq!(both["cpuacct"], Path::new("c"));
        assert_eq!(both.len(), 3);
        assert!(!parse(&["/"]).unwrap().is_none());
    }

    #[test]
    fn nothing_leads_above_the_container() {
        for (arguments, part) in [
            (&[".."][..], "bad sub cgroup path"),
            (&["a/../../b"], "bad sub cgroup path"),
            (&["cpu:../x"], "bad sub cgroup path"),
            (&["a", "b"], "prefix"),
            (&["cpu:a", "cpu:b"], "multiple times"),
            (&["cpu,:a"], "empty <controller>"),
            (&[":a"], "empty <controller>"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
