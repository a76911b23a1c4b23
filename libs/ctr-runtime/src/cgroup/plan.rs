// SPDX-License-Identifier: Apache-2.0
//! What config.json asks of cgroups as a value: where the container goes, what limits it.
//!
//! Nothing here looks at the machine. A plan is made by [`plan`] and performed by [`Cgroup::create`] and
//! [`Cgroup::limit`].
//!
//! [`Cgroup::create`]: super::Cgroup::create
//! [`Cgroup::limit`]: super::Cgroup::limit

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Linux;
use serde::{Deserialize, Serialize};

use super::systemd::{self, UnitPlan};
use super::{CgroupError, DevicePolicy, Hierarchies, Limits};

/// Who makes a container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// This runtime, in the cgroup file systems.
    #[default]
    Cgroupfs,
    /// systemd, asked to over D-Bus.
    Systemd,
    /// Nobody: the container's processes stay where the caller is.
    Disabled,
}

impl Manager {
    /// By its name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cgroupfs" => Some(Self::Cgroupfs),
            "systemd" => Some(Self::Systemd),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }
}

/// What [`plan`] goes by, beside config.json.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions<'a> {
    /// The container's id, a valid one.
    pub id: &'a str,
    /// The caller has no say over cgroups but what was delegated to it: what it may not do, and was not asked
    /// to do, is left undone.
    pub rootless: bool,
    /// Who is to make it.
    pub manager: Manager,
    /// Those of the config.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The host's user whom it is to belong to, in v2.
    pub owner: Option<u32>,
}

/// The cgroup that a container is to have.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupPlan {
    /// Where it is.
    pub placement: Placement,
    /// What limits it.
    pub limits: Limits,
    /// Which devices it may use.
    pub devices: DevicePolicy,
    /// The cgroup below it, in v2, where the container's processes are; the limits are not theirs to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<PathBuf>,
    /// As in [`PlanOptions::owner`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// As in [`PlanOptions::rootless`].
    pub rootless: bool,
    /// Whether the container may go without a cgroup where the caller may not make one: rootless, and nobody
    /// said where it is to be.
    pub optional: bool,
}

/// Where a cgroup is, in every hierarchy alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Placement {
    /// Below the mount point.
    Root(PathBuf),
    /// Near the cgroup that the caller is in, which is where an ordinary user may have been given a place.
    Own(PathBuf),
    /// That of a unit of systemd's.
    Unit(UnitPlan),
    /// Nowhere: there is none.
    Nowhere,
}

/// The annotation, crun's, that names the cgroup below.
const DELEGATE: &str = "run.oci.delegate-cgroup";

/// Plans a container's cgroup (runtime-spec, config-linux, "Control groups").
///
/// An absolute `cgroupsPath` starts at the mount point of a hierarchy, as does a relative one; without one it is
/// `ID` there, as with other runtimes: no directory is left over that several containers shared. Rootless, the
/// last two start near the caller's own cgroup.
pub fn plan(linux: Option<&Linux>, options: PlanOptions<'_>) -> Result<CgroupPlan, CgroupError> {
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref()).filter(|path| !path.as_os_str().is_empty());
    let placement = place(path, options)?;
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let mut limits = resources.map_or(Ok(Limits::default()), Limits::from_spec)?;
    if options.manager == Manager::Systemd {
        limits.round_for_systemd();
    }
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    let devices = DevicePolicy::from_spec(rules)?;
    let optional = options.rootless && path.is_none() && options.manager == Manager::Cgroupfs;
    if placement == Placement::Nowhere && !limits.is_empty() {
        return Err(CgroupError::Disabled);
    }
    let inner = options.annotations.and_then(|annotations| annotations.get(DELEGATE)).filter(|name| !name.is_empty());
    let inner = inner.map(|name| systemd::below(DELEGATE, name)).transpose()?;
    if inner.is_some() && placement == Placement::Nowhere {
        return Err(CgroupError::Disabled);
    }
    Ok(CgroupPlan { placement, limits, devices, inner, owner: options.owner, rootless: options.rootless, optional })
}

fn place(path: Option<&Path>, options: PlanOptions<'_>) -> Result<Placement, CgroupError> {
    match options.manager {
        Manager::Disabled => return Ok(Placement::Nowhere),
        Manager::Systemd => {
            return systemd::plan(path, options.id, options.rootless, options.annotations).map(Placement::Unit);
        }
        Manager::Cgroupfs => {}
    }
    let named = path.unwrap_or(Path::new(options.id));
    let relative = check_path(named).map_err(|rule| CgroupError::Path { path: named.to_owned(), rule })?;
    Ok(match path {
        Some(path) if path.is_absolute() => Placement::Root(relative),
        _ if options.rootless => Placement::Own(relative),
        _ => Placement::Root(relative),
    })
}

/// The path without its leading slash, if it leads to a cgroup that is not everybody's.
///
/// The error is the rule that it breaks.
pub(super) fn check_path(path: &Path) -> Result<PathBuf, &'static str> {
    let mut checked = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() > 255 => return Err("a name in it is too long"),
            Component::Normal(name) if name.as_bytes().iter().any(|b| matches!(b, b'\0' | b'\n')) => {
                return Err("it must not contain NUL nor a line feed");
            }
            Component::Normal(name) => checked.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("it must not contain .."),
        }
    }
    if checked.as_os_str().is_empty() {
        return Err("it must name a cgroup below the root");
    }
    Ok(checked)
}

impl CgroupPlan {
    /// The hierarchies that the container is to be placed in: those of this machine, if in any.
    pub fn hierarchies(&self) -> Result<Hierarchies, CgroupError> {
        match self.placement {
            Placement::Nowhere => Ok(Hierarchies::default()),
            _ => Hierarchies::detect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(path: Option<&str>, rootless: bool, manager: Manager) -> Result<CgroupPlan, String> {
        let linux = serde_json::from_value(json!({"cgroupsPath": path})).expect("test JSON");
        let options = PlanOptions { id: "web-1", rootless, manager, annotations: None, owner: None };
        plan(Some(&linux), options).map_err(|error| error.to_string())
    }

    fn planned(path: Option<&str>, rootless: bool, manager: Manager) -> Result<Placement, String> {
        made(path, rootless, manager).map(|plan| plan.placement)
    }

    #[test]
    fn paths_are_places_below_the_root() {
        for (path, place) in [
            (None, "web-1"),
            (Some(""), "web-1"),
            (Some("/a/b"), "a/b"),
            (Some("a/b"), "a/b"),
            (Some("/a//./b/"), "a/b"),
            (Some("system.slice:ctr:web"), "system.slice:ctr:web"),
            (Some("/...x"), "...x"),
        ] {
            assert_eq!(planned(path, false, Manager::Cgroupfs), Ok(Placement::Root(place.into())), "{path:?}");
        }
    }

    #[test]
    fn users_are_placed_near_their_own_cgroup_unless_they_say_where() {
        assert_eq!(planned(None, true, Manager::Cgroupfs), Ok(Placement::Own("web-1".into())));
        assert_eq!(planned(Some("a"), true, Manager::Cgroupfs), Ok(Placement::Own("a".into())));
        assert_eq!(planned(Some("/a"), true, Manager::Cgroupfs), Ok(Placement::Root("a".into())));
    }

    #[test]
    fn a_cgroup_that_was_asked_for_is_not_optional() {
        for (path, rootless, optional) in [(None, true, true), (Some("/a"), true, false), (None, false, false)] {
            let plan = made(path, rootless, Manager::Cgroupfs).expect("a plan");
            assert_eq!(plan.optional, optional, "{path:?} {rootless}");
        }
    }

    #[test]
    fn refuses_paths_that_lead_elsewhere() {
        let long = format!("/{}", "x".repeat(256));
        for (path, part) in [
            ("/", "below the root"),
            (".", "below the root"),
            ("/a/../..", ".."),
            ("..", ".."),
            ("/a\nb", "line feed"),
            ("/a\0b", "NUL"),
            (&long, "too long"),
        ] {
            let error = planned(Some(path), false, Manager::Cgroupfs).expect_err(path);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn with_systemd_the_path_names_a_unit_and_a_quota_is_rounded() {
        let linux = json!({"cgroupsPath": "a.slice:p:n", "resources": {"cpu": {"quota": 12345}}});
        let linux = serde_json::from_value(linux).expect("test JSON");
        let options =
            PlanOptions { id: "x", rootless: true, manager: Manager::Systemd, annotations: None, owner: None };
        let plan = plan(Some(&linux), options).expect("a plan");
        let json = serde_json::to_value(&plan).expect("serialisable");
        assert_eq!((&json["placement"]["unit"]["name"], &json["optional"]), (&json!("p-n.scope"), &json!(false)));
        assert_eq!(json["limits"]["cpu"]["quota"], 13000);
        assert!(planned(Some("/x"), false, Manager::Systemd).is_err());
    }

    #[test]
    fn limits_need_a_cgroup() {
        assert_eq!(planned(Some("/a"), false, Manager::Disabled), Ok(Placement::Nowhere));
        for (resources, possible) in [
            (json!({"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 0}}), true),
            (json!({"memory": {"limit": 1000}}), false),
            (json!({"unified": {"memory.high": "1"}}), false),
        ] {
            let linux = serde_json::from_value(json!({"resources": resources})).expect("test JSON");
            let options =
                PlanOptions { id: "a", rootless: false, manager: Manager::Disabled, annotations: None, owner: None };
            assert_eq!(plan(Some(&linux), options).is_ok(), possible, "{resources}");
        }
    }

    #[test]
    fn what_is_delegated_is_below_the_containers_own() {
        let with = |value: &str| {
            let annotations = HashMap::from([(DELEGATE.to_owned(), value.to_owned())]);
            let options = PlanOptions {
                id: "a",
                rootless: false,
                manager: Manager::Cgroupfs,
                annotations: Some(&annotations),
                owner: None,
            };
            plan(None, options).map(|plan| plan.inner).map_err(|error| error.to_string())
        };
        assert_eq!(with(""), Ok(None));
        assert_eq!(with("a/b"), Ok(Some("a/b".into())));
        for bad in ["..", "a/../../b", "/"] {
            let error = with(bad).expect_err(bad);
            assert!(error.contains("run.oci.delegate-cgroup"), "{error}");
        }
    }

    #[test]
    fn managers_have_names() {
        for manager in [Manager::Cgroupfs, Manager::Systemd, Manager::Disabled] {
            let name = serde_json::to_value(manager).expect("serialisable");
            assert_eq!(Manager::parse(name.as_str().expect("a string")), Some(manager));
        }
        assert_eq!(Manager::parse("none"), None);
    }

    #[test]
    fn a_plan_is_json() {
        let linux = json!({"cgroupsPath": "/x", "resources": {"pids": {"limit": 5}, "devices": []}});
        let linux = serde_json::from_value(linux).expect("test JSON");
        let plan = plan(
            Some(&linux),
            PlanOptions { id: "a", rootless: false, manager: Manager::Cgroupfs, annotations: None, owner: None },
        )
        .expect("a plan");
        let json = serde_json::to_value(&plan).expect("serialisable");
        assert_eq!(json["placement"], json!({"root": "x"}));
        assert_eq!(json["limits"], json!({"pids": {"limit": 5}}));
        assert_eq!(json["devices"][0], "deny a *:* rwm");
    }
}
