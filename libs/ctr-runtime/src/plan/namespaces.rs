// SPDX-License-Identifier: Apache-2.0
//! Which namespaces are made, which are joined, and who is who in a user namespace.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping};
use serde::Serialize;

use super::words;
use crate::RuntimeError;

/// The namespaces of a container.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespacePlan {
    /// `CLONE_NEW*` of those to make.
    #[serde(serialize_with = "words::namespaces")]
    pub new: u64,
    /// `CLONE_NEW*` and path of those to join, the user namespace first: it owns the rest.
    #[serde(serialize_with = "words::joined")]
    pub join: Vec<(i32, PathBuf)>,
    /// The mappings of a user namespace to make.
    pub user: Option<UserPlan>,
    /// Lines for `timens_offsets`.
    pub time_offsets: Vec<String>,
}

/// The mappings of a new user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct UserPlan {
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

impl UserPlan {
    /// The group of the host's that is the namespace's 0.
    pub(crate) fn root_group(&self) -> Option<u32> {
        self.gids.iter().find(|map| map.container == 0).map(|map| map.host)
    }
}

/// A line of a uid_map or gid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct IdMap {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

impl IdMap {
    /// Whether there are such ids: the greatest number is none.
    pub(super) fn is_valid(&self) -> bool {
        let ends = |first: u32| first.checked_add(self.size).is_some();
        self.size > 0 && ends(self.container) && ends(self.host)
    }
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
        if plan.is_private(libc::CLONE_NEWUSER) && !plan.is_private(libc::CLONE_NEWNS) {
            let reason = "a user namespace needs a mount namespace beside it: it may mount nothing in that of the host";
            return Err(RuntimeError::config("linux.namespaces", reason));
        }
        plan.user = user(linux, &plan)?;
        plan.time_offsets = time_offsets(linux, &plan)?;
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

fn user(linux: &Linux, plan: &NamespacePlan) -> Result<Option<UserPlan>, RuntimeError> {
    let uids = mappings("linux.uidMappings", linux.uid_mappings().as_deref())?;
    let gids = mappings("linux.gidMappings", linux.gid_mappings().as_deref())?;
    let refuse = |field: &str, reason: &str| Err(RuntimeError::config(format!("linux.{field}"), reason));
    if !plan.is_new(libc::CLONE_NEWUSER) {
        // One that is joined has its mappings already.
        return match plan.is_private(libc::CLONE_NEWUSER) || (uids.is_empty() && gids.is_empty()) {
            true => Ok(None),
            false => refuse(
                "uidMappings",
                "user namespace mappings specified, but user namespace isn't enabled in the config",
            ),
        };
    }
    match (uids.is_empty(), gids.is_empty()) {
        (true, _) => refuse("uidMappings", "a new user namespace needs mappings"),
        (_, true) => refuse("gidMappings", "a new user namespace needs mappings"),
        (false, false) => Ok(Some(UserPlan { uids, gids })),
    }
}

/// Takes the lines of a mapping.
pub(super) fn mappings(field: &str, mappings: Option<&[LinuxIdMapping]>) -> Result<Vec<IdMap>, RuntimeError> {
    let convert = |map: &LinuxIdMapping| {
        let (container, host, size) = (map.container_id(), map.host_id(), map.size());
        let refused = || RuntimeError::config(field, format!("{container}:{host}:{size} is no range of ids"));
        Some(IdMap { container, host, size }).filter(IdMap::is_valid).ok_or_else(refused)
    };
    mappings.unwrap_or_default().iter().map(convert).collect()
}

fn time_offsets(linux: &Linux, plan: &NamespacePlan) -> Result<Vec<String>, RuntimeError> {
    let refuse = |reason: &str| Err(RuntimeError::config("linux.timeOffsets", reason));
    let mut lines = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if clock != "monotonic" && clock != "boottime" {
            return refuse(&format!("{clock:?} is no clock with an offset"));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanoseconds > 999_999_999 {
            return refuse(&format!("{nanoseconds} ns are more than a second"));
        }
        lines.push(format!("{clock} {seconds} {nanoseconds}\n"));
    }
    lines.sort();
    if linux.time_offsets().is_none() || plan.is_new(libc::CLONE_NEWTIME) {
        return Ok(lines);
    }
    match plan.is_private(libc::CLONE_NEWTIME) {
        true => refuse("both namespace path and time offsets specified: a namespace that exists has its offsets"),
        false => refuse("time namespace offsets specified, but time namespace isn't enabled in the config"),
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
    fn offsets_of_clocks_are_lines_for_the_kernel() {
        let plan = plan(json!({"namespaces": [{"type": "mount"}, {"type": "time"}],
            "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {}}}));
        assert_eq!(plan.unwrap().time_offsets, ["boottime 0 0\n", "monotonic -5 7\n"]);
    }

    #[test]
    fn refuses_what_cannot_be() {
        for bad in [
            json!({"namespaces": [{"type": "user", "path": "/u"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "mount"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "pid", "path": "relative"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "user"}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "user"}],
                   "uidMappings": [{"containerID": 0, "hostID": 4294967295_u32, "size": 2}]}),
            json!({"namespaces": [{"type": "mount"}, {"type": "user"}],
                   "uidMappings": [{"containerID": 0, "hostID": 5, "size": 2}]}),
            json!({"namespaces": [{"type": "mount"}],
                   "uidMappings": [{"containerID": 0, "hostID": 5, "size": 2}]}),
            json!({"namespaces": [{"type": "mount"}], "timeOffsets": {"monotonic": {"secs": 1}}}),
            json!({"namespaces": [{"type": "mount"}, {"type": "time", "path": "/t"}],
                   "timeOffsets": {"monotonic": {"secs": 1}}}),
            json!({"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": {"realtime": {"secs": 1}}}),
            json!({"namespaces": [{"type": "mount"}, {"type": "time"}],
                   "timeOffsets": {"boottime": {"nanosecs": 1_000_000_000}}}),
        ] {
            assert!(plan(bad.clone()).is_err(), "{bad}");
        }
    }
}
