// SPDX-License-Identifier: Apache-2.0
//! Which namespaces are made, which are joined, and who is who in a user namespace.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping};

use crate::RuntimeError;

/// The namespaces of a container.
#[derive(Clone, Debug, Default)]
pub struct NamespacePlan {
    /// `CLONE_NEW*` of those to make.
    pub new: u64,
    /// `CLONE_NEW*` and path of those to join, the user namespace first: it owns the rest.
    pub join: Vec<(i32, PathBuf)>,
    /// The mappings of a user namespace to make.
    pub user: Option<UserPlan>,
    /// Lines for `timens_offsets`.
    pub time_offsets: Vec<String>,
}

/// The mappings of a new user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UserPlan {
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

/// A line of a uid_map or gid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct IdMap {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

impl NamespacePlan {
    /// Sorts out what `linux.namespaces` asks for.
    pub fn new(linux: &Linux) -> Result<Self, RuntimeError> {
        let mut plan = Self::default();
        let mut seen = 0;
        for namespace in linux.namespaces().iter().flatten() {
            let kind = namespace.typ() as i32;
            if seen & kind != 0 {
                return Err(RuntimeError::config("linux.namespaces", format!("{} occurs twice", namespace.typ())));
            }
            seen |= kind;
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None => plan.new |= kind as u64,
                Some(path) if path.is_absolute() => plan.join.push((kind, path.clone())),
                Some(path) => {
                    let reason = format!("path {} is not absolute", path.display());
                    return Err(RuntimeError::config("linux.namespaces", reason));
                }
            }
        }
        plan.join.sort_by_key(|(kind, _)| *kind != libc::CLONE_NEWUSER);
        if plan.new & libc::CLONE_NEWNS as u64 == 0 {
            let reason = "a new mount namespace is required: the container's mounts would be made on the host";
            return Err(RuntimeError::config("linux.namespaces", reason));
        }
        plan.user = user(linux, plan.new & libc::CLONE_NEWUSER as u64 != 0)?;
        plan.time_offsets = time_offsets(linux, plan.new & libc::CLONE_NEWTIME as u64 != 0)?;
        Ok(plan)
    }

    /// Whether the container has a namespace of this kind that is not the runtime's own.
    pub fn is_private(&self, kind: i32) -> bool {
        self.is_new(kind) || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    /// Whether a namespace of this kind is made for the container.
    pub fn is_new(&self, kind: i32) -> bool {
        self.new & kind as u64 != 0
    }
}

fn user(linux: &Linux, new: bool) -> Result<Option<UserPlan>, RuntimeError> {
    let uids = mappings("linux.uidMappings", linux.uid_mappings().as_deref())?;
    let gids = mappings("linux.gidMappings", linux.gid_mappings().as_deref())?;
    match (new, uids.is_empty() && gids.is_empty()) {
        (false, _) => Ok(None), // a joined namespace has its mappings already
        (true, true) => Err(RuntimeError::config("linux.uidMappings", "a new user namespace needs mappings")),
        (true, false) => Ok(Some(UserPlan { uids, gids })),
    }
}

fn mappings(field: &str, mappings: Option<&[LinuxIdMapping]>) -> Result<Vec<IdMap>, RuntimeError> {
    let convert = |map: &LinuxIdMapping| {
        let (container, host, size) = (map.container_id(), map.host_id(), map.size());
        let fits = |first: u32| size > 0 && first.checked_add(size - 1).is_some_and(|last| last < u32::MAX);
        match fits(container) && fits(host) {
            true => Ok(IdMap { container, host, size }),
            false => Err(RuntimeError::config(field, format!("{container}:{host}:{size} is no range of ids"))),
        }
    };
    mappings.unwrap_or_default().iter().map(convert).collect()
}

fn time_offsets(linux: &Linux, new: bool) -> Result<Vec<String>, RuntimeError> {
    let mut lines = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if clock != "monotonic" && clock != "boottime" {
            return Err(RuntimeError::config("linux.timeOffsets", format!("{clock:?} is no clock with an offset")));
        }
        lines.push(format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)));
    }
    match lines.is_empty() || new {
        true => Ok(lines),
        false => Err(RuntimeError::config("linux.timeOffsets", "they need a new time namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(linux: serde_json::Value) -> Result<NamespacePlan, RuntimeError> {
        NamespacePlan::new(&serde_json::from_value(linux).unwrap())
    }

    #[test]
    fn a_joined_user_namespace_comes_first() {
        let plan = plan(json!({"namespaces": [
            {"type": "mount"}, {"type": "network", "path": "/n"}, {"type": "user", "path": "/u"}
        ]}))
        .unwrap();
        assert_eq!(plan.join[0].0, libc::CLONE_NEWUSER);
        assert!(plan.is_private(libc::CLONE_NEWNET) && !plan.is_new(libc::CLONE_NEWNET));
    }

    #[test]
    fn refuses_what_cannot_be() {
        for bad in [
            json!({"namespaces": []}),
            json!({"namespaces": [{"type": "mount"}, {"type": "mount"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "pid", "path": "relative"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "user"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "user"}],
                   "uidMappings": [{"containerID": 0, "hostID": 4294967295_u32, "size": 2}]}),
            json!({"namespaces": [{"type": "mount"}], "timeOffsets": {"monotonic": {"secs": 1}}}),
        ] {
            assert!(plan(bad.clone()).is_err(), "{bad}");
        }
    }
}
