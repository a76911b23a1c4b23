// SPDX-License-Identifier: Apache-2.0
//! Limits written to the control files of a cgroup: all of a container's, or an update of some.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::control::{open_directory, read_file, read_file_at, write_file_at};
use super::error::Files;
use super::restore::{Before, restore};
use super::settings::{First, IfAbsent};
use super::{Cgroup, CgroupError, CgroupPlan, Limits, Placement, Setting, Version, controllers};

impl Cgroup {
    /// Puts a plan's limits into force, best before there is any process, and gives the container what of its
    /// cgroup is to be its own.
    pub fn limit(&self, plan: &CgroupPlan) -> Result<(), CgroupError> {
        match plan.placement {
            Placement::Nowhere => Ok(()), // they were refused
            // systemd has set its share when it made the cgroup
            _ => self.apply(&plan.limits).and_then(|()| self.delegate(plan)),
        }
    }

    /// Puts a plan's device policy into force; the processes that are there are bound by it as well.
    pub fn enforce_devices(&self, plan: &CgroupPlan) -> Result<(), CgroupError> {
        match plan.placement {
            Placement::Nowhere => Ok(()), // which devices may be used, only a cgroup decides
            _ => self.restrict_devices(&plan.devices, plan.rootless),
        }
    }

    /// Writes the limits of a new container. What was written before a failure stays.
    pub fn apply(&self, limits: &Limits) -> Result<(), CgroupError> {
        self.write_limits(limits, None)
    }

    /// Writes new limits of a container that runs. After a failure the old ones are in force again.
    pub fn update(&self, limits: &Limits) -> Result<(), CgroupError> {
        let (mut limits, mut files) = (limits.clone(), limits.clone());
        if self.unit().is_some() {
            limits.round_for_systemd();
            let idle = |path: &Path| read_file(&path.join("cpu.idle")).is_ok_and(|text| text.trim_end() == "1");
            files = limits.clone();
            files.settle_idleness(self.v2_path().is_some_and(idle));
        }
        let mut before = Vec::new();
        let written = self.write_limits(&files, Some(&mut before));
        // systemd, which writes the same values once more, does not look first whether that can be; and it writes
        // a period of its own where there is no quota.
        let changed = written.and_then(|()| self.update_unit(&limits));
        changed.and_then(|()| self.unit().map_or(Ok(()), |_| self.write_period(&limits))).map_err(
            |error| match restore(before) {
                kept if kept.is_empty() => error,
                kept => CgroupError::NotRestored { files: Files(kept), source: Box::new(error) },
            },
        )
    }

    fn write_limits(&self, limits: &Limits, mut before: Option<&mut Vec<Before>>) -> Result<(), CgroupError> {
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
            let path = path.ok_or_else(|| self.out_of_reach(&group[0]))?;
            Directory::open(path, before.as_deref_mut())?.write_group(group)?;
        }
        Ok(())
    }

    fn write_period(&self, limits: &Limits) -> Result<(), CgroupError> {
        let Some(path) = self.v2_path() else { return Ok(()) };
        let settings = limits.settings(|controller| self.on_v1(controller))?;
        let mut of_period = settings.iter().filter(|setting| setting.file == "cpu.max");
        of_period.try_for_each(|setting| Directory::open(path, None)?.write(setting))
    }

    fn out_of_reach(&self, setting: &Setting) -> CgroupError {
        let file = setting.file.to_string();
        if self.is_none() {
            return CgroupError::NoCgroup { file };
        }
        CgroupError::NoHierarchy { controller: setting.controller.to_string(), file }
    }
}

/// The directory with a controller's files, and where to note what they had.
struct Directory<'a> {
    path: &'a Path,
    fd: OwnedFd,
    before: Option<&'a mut Vec<Before>>,
}

impl<'a> Directory<'a> {
    fn open(path: &'a Path, before: Option<&'a mut Vec<Before>>) -> Result<Self, CgroupError> {
        let failed = |errno: Errno| CgroupError::Read { path: path.to_owned(), source: errno.into() };
        Ok(Self { path, fd: open_directory(path).map_err(failed)?, before })
    }

    /// Writes the settings of one controller.
    ///
    /// Some bound each other (memory and memory plus swap, period and quota): in which order the kernel takes
    /// them depends on what is in force. What it calls invalid the first time is written again after the rest.
    fn write_group(&mut self, group: &[Setting]) -> Result<(), CgroupError> {
        let mut again = Vec::new();
        for setting in group {
            match self.write(setting) {
                Err(CgroupError::Write { source, .. })
                    if group.len() > 1 && source.raw_os_error() == Some(libc::EINVAL) =>
                {
                    again.push(setting);
                }
                result => result?,
            }
        }
        again.into_iter().try_for_each(|setting| self.write(setting))
    }

    fn write(&mut self, setting: &Setting) -> Result<(), CgroupError> {
        let mut value = setting.value.clone();
        match setting.first {
            First::Nothing => {}
            First::KeepQuota => {
                let quota = self.read(&setting.file)?;
                value = format!("{} {value}", quota.split_ascii_whitespace().next().unwrap_or("max"));
            }
            First::CompareUse(file, limit) => {
                let usage = self.read(file)?;
                if usage.trim().parse::<u64>().is_ok_and(|usage| usage >= limit) {
                    return Err(self.below_use(&setting.file, limit.to_string(), &usage));
                }
            }
        }
        let (file, result) = match (self.put(&setting.file, &value), &setting.if_absent) {
            (Err(Errno::ENOENT), IfAbsent::Skip) => return Ok(()),
            (Err(Errno::ENOENT), IfAbsent::Write(file, other)) => {
                value.clone_from(other);
                (*file, self.put(file, other))
            }
            (result, _) => (&*setting.file, result),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => Err(CgroupError::MissingFile { file: file.to_owned(), path: self.path.to_owned() }),
            Err(Errno::EBUSY) if matches!(&*setting.controller, "memory" | "hugetlb") => {
                let counter = match file.strip_suffix(".limit_in_bytes") {
                    Some(stem) => format!("{stem}.usage_in_bytes"),
                    None => file.replace(".max", ".current"),
                };
                let usage = self.read(&counter).unwrap_or_default();
                Err(self.below_use(file, value, &usage))
            }
            Err(errno) => Err(CgroupError::Write { file: self.path.join(file), value, source: errno.into() }),
        }
    }

    fn put(&mut self, file: &str, value: &str) -> nix::Result<()> {
        let before = self.before.as_ref().and_then(|_| Before::read(&self.path.join(file), value));
        write_file_at(&self.fd, file, value)?;
        if let Some(list) = &mut self.before {
            list.extend(before);
        }
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String, CgroupError> {
        read_file_at(&self.fd, file).map_err(|source| CgroupError::Read { path: self.path.join(file), source })
    }

    fn below_use(&self, file: &str, limit: String, usage: &str) -> CgroupError {
        let what = match file {
            _ if file.starts_with("hugetlb.") => "huge page",
            _ if file.contains("swap") || file.contains("memsw") => "memory+swap",
            _ => "memory",
        };
        CgroupError::BelowUse { file: self.path.join(file), what, limit, usage: usage.trim().to_owned() }
    }
}
