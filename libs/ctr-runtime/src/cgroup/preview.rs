// SPDX-License-Identifier: Apache-2.0
//! What would be written to which control file, for plans that are printed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::{Cgroup, CgroupError, CgroupPlan, DevicePolicy, Placement, UnitPlan};

/// A container's cgroup as it would be made on this machine.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupPreview {
    /// Its directory in each hierarchy.
    pub paths: BTreeMap<String, PathBuf>,
    /// The unit that systemd would make it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitPlan>,
    /// The values, in the order of writing.
    pub files: Vec<FileValue>,
    /// Which devices it may use.
    pub devices: DevicePolicy,
}

/// A value for a control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct FileValue {
    pub file: PathBuf,
    pub value: String,
}

impl CgroupPreview {
    /// Looks where the plan's cgroup would be and what would limit it. Nothing is made.
    pub fn new(plan: &CgroupPlan) -> Result<Self, CgroupError> {
        let paths = Cgroup::planned(&plan.hierarchies()?, plan)?;
        let mut files = Vec::new();
        for setting in plan.limits.settings(|controller| paths.on_v1(controller))? {
            let directory = paths.path_of(&setting.controller);
            files.push(FileValue {
                file: directory.map_or(PathBuf::new(), |path| path.join(&*setting.file)),
                value: setting.value,
            });
        }
        let unit = match &plan.placement {
            Placement::Unit(unit) => Some(unit.clone()),
            _ => None,
        };
        Ok(Self { paths: paths.into(), unit, files, devices: plan.devices.clone() })
    }
}
