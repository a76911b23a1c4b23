// SPDX-License-Identifier: Apache-2.0
//! Limits written to the control files of a cgroup.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::control::{open_directory, read_file, read_file_at, write_file_at};
use super::settings::{First, IfAbsent};
use super::{Cgroup, CgroupError, CgroupPlan, Limits, Placement, Setting, Version, controllers};

impl Cgroup {
    /// Puts a plan's limits and device policy into force, best before there is any process.
    pub fn configure(&self, plan: &CgroupPlan) -> Result<(), CgroupError> {
        if plan.placement == Placement::Nowhere {
            return Ok(()); // limits were refused; which devices may be used, only a cgroup decides
        }
        self.apply(&plan.limits)?;
        self.restrict_devices(&plan.devices, plan.rootless)
    }

    /// Writes limits, all of a container's or an update of some.
    ///
    /// What was written before a failure stays.
    pub fn apply(&self, limits: &Limits) -> Result<(), CgroupError> {
        let settings = limits.settings(|controller| self.on_v1(controller))?;
        let on_v2: Vec<&Setting> = settings.iter().filter(|setting| setting.version == Version::V2).collect();
        match (self.v2_path(), on_v2.first()) {
            (Some(path), _) => controllers::require(path, &on_v2)?,
            (None, Some(setting)) => return Err(self.out_of_reach(setting)),
            (None, None) => {}
        }
        for group in settings.chunk_by(|a, b| (a.version, &a.controller) == (b.version, &b.controller)) {
            let path = match group[0].version {
                Version::V1 => self.v1_path(&group[0].controller),
                Version::V2 => self.v2_path(),
            };
            write_group(path.ok_or_else(|| self.out_of_reach(&group[0]))?, group)?;
        }
        Ok(())
    }

    fn out_of_reach(&self, setting: &Setting) -> CgroupError {
        let file = setting.file.to_string();
        if self.is_none() {
            return CgroupError::NoCgroup { file };
        }
        CgroupError::NoHierarchy { controller: setting.controller.to_string(), file }
    }
}

/// Writes the settings of one controller.
///
/// Some bound each other (memory and memory plus swap, period and quota): in which order the kernel takes
/// them depends on what is in force. What it calls invalid the first time is written again after the rest.
fn write_group(path: &Path, group: &[Setting]) -> Result<(), CgroupError> {
    let read = |errno: Errno| CgroupError::Read { path: path.to_owned(), source: errno.into() };
    let directory = open_directory(path).map_err(read)?;
    let mut again = Vec::new();
    for setting in group {
        match write(path, &directory, setting) {
            Err(CgroupError::Write { source, .. })
                if group.len() > 1 && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                again.push(setting);
            }
            result => result?,
        }
    }
    again.into_iter().try_for_each(|setting| write(path, &directory, setting))
}

fn write(path: &Path, directory: &OwnedFd, setting: &Setting) -> Result<(), CgroupError> {
    let read_at = |file: &str| {
        read_file_at(directory, file).map_err(|source| CgroupError::Read { path: path.join(file), source })
    };
    let mut value = setting.value.clone();
    match setting.first {
        First::Nothing => {}
        First::KeepQuota => {
            let quota = read_at(&setting.file)?;
            value = format!("{} {value}", quota.split_ascii_whitespace().next().unwrap_or("max"));
        }
        First::CompareUse(file) => {
            let usage = read_at(file)?;
            let number = |text: &str| text.trim().parse::<u64>().ok();
            if number(&usage) > number(&value) {
                return Err(below_use(path, setting, usage));
            }
        }
    }
    let (file, result) = match (write_file_at(directory, &setting.file, &value), &setting.if_absent) {
        (Err(Errno::ENOENT), IfAbsent::Skip) => return Ok(()),
        (Err(Errno::ENOENT), IfAbsent::Write(file, other)) => {
            value.clone_from(other);
            (*file, write_file_at(directory, file, other))
        }
        (result, _) => (&*setting.file, result),
    };
    match result {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT) => Err(CgroupError::MissingFile { file: file.to_owned(), path: path.to_owned() }),
        Err(Errno::EBUSY) if setting.controller == "memory" => {
            let usage = read_file(&path.join(file.replace("limit_in_bytes", "usage_in_bytes")));
            Err(below_use(path, setting, usage.unwrap_or_default()))
        }
        Err(errno) => Err(CgroupError::Write { file: path.join(file), value, source: io::Error::from(errno) }),
    }
}

fn below_use(path: &Path, setting: &Setting, usage: String) -> CgroupError {
    let (file, value) = (path.join(&*setting.file), setting.value.clone());
    CgroupError::BelowUse { file, value, usage: usage.trim().to_owned() }
}
