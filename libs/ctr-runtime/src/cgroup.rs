// SPDX-License-Identifier: Apache-2.0
//! Cgroups v1, hybrid and v2: a container's place in the hierarchies, its limits, its end.
//!
//! Data first: [`plan`] turns config.json into a [`CgroupPlan`]; [`Cgroup::create`] makes the directories,
//! [`Cgroup::limit`] writes the limits, [`JoinFds`] is how the container's first process gets in. A
//! [`Cgroup`] is nothing but the paths of its directories, so it is also what a container's state keeps.
//! What it uses is [`Cgroup::stats`]. With systemd's driver ([`systemd`]) it is made by that, and is a [`Unit`]
//! as well.
//!
//! On the hot path nothing waits for an RCU grace period, which costs more than all else: a process is
//! born into its v2 cgroup (`CLONE_INTO_CGROUP`) and moves itself into those of v1. Only
//! [`Cgroup::add_process`], which moves somebody else, pays it.

mod apply;
mod below;
mod control;
mod controllers;
mod convert;
mod create;
mod delegate;
mod device;
mod error;
mod freeze;
mod hierarchy;
mod join;
mod limits;
mod members;
mod oom;
mod plan;
mod preview;
mod remove;
mod restore;
mod settings;
pub mod stats;
mod systemd;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use below::CgroupBelow;
pub use device::DevicePolicy;
pub use error::CgroupError;
pub(crate) use hierarchy::unescape;
pub use hierarchy::{Hierarchies, Mode, Version};
pub use join::{JoinFailure, JoinFds};
pub use limits::Limits;
pub use oom::OomWatch;
pub use plan::{CgroupPlan, Manager, Placement, PlanOptions, plan};
pub use preview::{CgroupPreview, FileValue};
pub use settings::Setting;
pub use systemd::{Holder, Unit, UnitPlan};

/// A container's cgroup: its directory in each hierarchy.
///
/// As JSON it is members of a container's state: `cgroup`, an object from the name of a controller (or
/// `name=…`; empty for v2) to a path, `systemdUnit`, if it is one, and `delegatedCgroup`, the one below where its
/// processes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    #[serde(rename = "cgroup", deserialize_with = "checked")]
    paths: BTreeMap<String, PathBuf>,
    #[serde(rename = "systemdUnit", default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    #[serde(rename = "delegatedCgroup", default, skip_serializing_if = "Option::is_none")]
    inner: Option<PathBuf>,
}

impl Cgroup {
    /// The cgroup of a container that has none of its own.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there is no cgroup at all.
    pub fn is_none(&self) -> bool {
        self.paths.is_empty()
    }

    /// The directory of the v2 hierarchy.
    pub fn v2_path(&self) -> Option<&Path> {
        self.paths.get("").map(PathBuf::as_path)
    }

    /// The directory of the v1 hierarchy that holds a controller.
    pub fn v1_path(&self, controller: &str) -> Option<&Path> {
        if controller.is_empty() { None } else { self.paths.get(controller).map(PathBuf::as_path) }
    }

    /// The directory where a controller's files are, if it has any: that of its v1 hierarchy, else v2.
    pub fn path_of(&self, controller: &str) -> Option<&Path> {
        self.v1_path(controller).or_else(|| self.v2_path())
    }

    /// Whether limits of a controller, by its v1 name, are those of v1.
    pub fn on_v1(&self, controller: &str) -> bool {
        self.v1_path(controller).is_some() || self.v2_path().is_none()
    }

    /// The unit that it is, if it is one of systemd's.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// What the container sees of it, by the names of hierarchies.
    pub(crate) fn seen(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = self.paths.clone();
        paths.extend(self.home().map(|home| (String::new(), home)));
        paths
    }

    /// Whether there is no hierarchy of v1.
    fn only_v2(&self) -> bool {
        self.paths.keys().all(String::is_empty)
    }

    /// Each directory once, v2 first; controllers that are mounted together share one.
    fn directories(&self) -> impl Iterator<Item = (Version, &Path)> {
        let v1: BTreeSet<&Path> = self.paths.iter().filter(|(name, _)| !name.is_empty()).map(|(_, p)| &**p).collect();
        let v2 = self.v2_path().map(|path| (Version::V2, path));
        v2.into_iter().chain(v1.into_iter().map(|path| (Version::V1, path)))
    }
}

impl From<Cgroup> for BTreeMap<String, PathBuf> {
    fn from(cgroup: Cgroup) -> Self {
        cgroup.paths
    }
}

impl TryFrom<BTreeMap<String, PathBuf>> for Cgroup {
    type Error = CgroupError;

    /// Takes only paths that could have been saved: a container's directories are removed by them.
    fn try_from(paths: BTreeMap<String, PathBuf>) -> Result<Self, CgroupError> {
        for path in paths.values() {
            let names = path.components().filter(|component| matches!(component, Component::Normal(_))).count();
            if !path.is_absolute() || path.components().count() != names + 1 || names == 0 {
                return Err(CgroupError::Path { path: path.clone(), rule: "it must be absolute and without .." });
            }
        }
        Ok(Self { paths, unit: None, inner: None })
    }
}

fn checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, PathBuf>, D::Error> {
    let paths = BTreeMap::<String, PathBuf>::deserialize(deserializer)?;
    Cgroup::try_from(paths).map(|cgroup| cgroup.paths).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
