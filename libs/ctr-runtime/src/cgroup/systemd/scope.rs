// SPDX-License-Identifier: Apache-2.0
//! A scope as the cgroup of a container: made, changed, ended.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ctr_sys::process::{Child, Clone3, pidfd_send_signal, spawn};
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use super::manager::Manager;
use super::properties::{first_properties, properties};
use super::{Unit, UnitPlan};
use crate::cgroup::control::{read_file, write_file};
use crate::cgroup::create::check_thawed;
use crate::cgroup::hierarchy::{Hierarchy, cgroup_of};
use crate::cgroup::{Cgroup, CgroupError, CgroupPlan, Hierarchies, Limits, Mode, Version};

/// A process that does nothing in a scope, so that there is one. It ends with this value, and with this
/// process, however that ends.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    alive: RefCell<Option<OwnedFd>>,
    /// Limits of processes that let in one more than they are to.
    loosened: Vec<PathBuf>,
}

impl Holder {
    fn start() -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let alive = RefCell::new(Some(writer));
        let child = spawn(Clone3 { flags: 0, cgroup: None }, || {
            // its own copy, with which it would never read the end
            drop(alive.take());
            let _ = File::from(reader).read(&mut [0]);
            0
        })?;
        Ok(Self { child, alive, loosened: Vec::new() })
    }

    /// Lets the container's first process in beside this one where no more than one is allowed.
    pub(crate) fn make_room(&mut self, cgroup: &Cgroup) -> Result<(), CgroupError> {
        let (Some(unit), Some(path)) = (cgroup.unit(), cgroup.v2_path()) else { return Ok(()) };
        for place in path.ancestors() {
            let file = place.join("pids.max");
            if read_file(&file).is_ok_and(|limit| limit.trim_end() == "1") {
                write_limit(&file, "2")?;
                self.loosened.push(file);
            }
            if place.ends_with(&unit.name) {
                break;
            }
        }
        Ok(())
    }

    /// Ends it, and takes that back.
    pub(crate) fn release(mut self) -> Result<(), CgroupError> {
        let loosened = std::mem::take(&mut self.loosened);
        drop(self);
        loosened.iter().try_for_each(|file| write_limit(file, "1"))
    }
}

fn write_limit(file: &Path, limit: &str) -> Result<(), CgroupError> {
    write_file(file, limit).map_err(|errno| CgroupError::Write {
        file: file.to_owned(),
        value: limit.to_owned(),
        source: errno.into(),
    })
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.alive.take());
        // It sees the end only if the cgroup that it is in is not frozen.
        let _ = pidfd_send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitpid(self.child.pid, None);
    }
}

impl Cgroup {
    /// Has systemd make the scope that is planned; it stays as long as there is a process in it, which is the
    /// holder until the container's is.
    pub(in crate::cgroup) fn in_scope(
        hierarchies: &Hierarchies,
        plan: &CgroupPlan,
        unit: &UnitPlan,
    ) -> Result<(Self, Holder), CgroupError> {
        if unit.unit.user && hierarchies.mode() != Mode::V2 {
            return Err(CgroupError::UserUnitOnV1);
        }
        // What systemd starts it also removes, and with that what somebody has frozen on purpose.
        for hierarchy in hierarchies.iter().filter(|_| !unit.unit.user) {
            check_thawed(&hierarchy.mount_point.join(unit.path()))?;
        }
        let mut manager = Manager::connect(unit.unit.user)?;
        let version = manager.version()?;
        let mut wanted = first_properties(&plan.limits, version);
        wanted.extend(accounting(cgroup_version(hierarchies)));
        wanted.extend(plan.devices.unit_properties());
        wanted.extend(properties(&plan.limits, cgroup_version(hierarchies), version)?);
        let holder = Holder::start().map_err(|source| CgroupError::Holder { source })?;
        manager.start(unit, wanted, holder.child.pid)?;
        let first = holder.child.pid;
        let mut cgroup = match Self::of_scope(hierarchies, unit, first) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                drop(holder); // for whose end systemd would wait
                let _ = manager.stop(&unit.unit);
                return Err(error);
            }
        };
        match cgroup.settle(hierarchies, plan, first) {
            Ok(()) => Ok((cgroup, holder)),
            Err(error) => {
                drop(holder);
                let _ = cgroup.delete();
                Err(error)
            }
        }
    }

    /// The directories of a scope that was started with a process; those that systemd does not make, for
    /// controllers that it does not use, are made beside them.
    fn of_scope(hierarchies: &Hierarchies, plan: &UnitPlan, first: Pid) -> Result<Self, CgroupError> {
        let path = scope_path(hierarchies, plan, first)?;
        let path = plan.unit.subgroup.iter().fold(path, |path, subgroup| path.join(subgroup));
        let place = |hierarchy: &Hierarchy| Ok(hierarchy.mount_point.join(&path));
        let mut cgroup = Self::create_at(hierarchies, place, false, Some(first))?;
        cgroup.unit = Some(plan.unit.clone());
        Ok(cgroup)
    }

    /// Brings the process that holds a scope to where the container's is going to be: a cgroup with processes
    /// hands no controllers down.
    fn settle(&mut self, hierarchies: &Hierarchies, plan: &CgroupPlan, first: Pid) -> Result<(), CgroupError> {
        self.make_inner(hierarchies, plan)?;
        let subgroup = self.unit().is_some_and(|unit| unit.subgroup.is_some());
        if let (true, Some(home)) = (subgroup || plan.inner.is_some(), self.home()) {
            write_file(&home.join("cgroup.procs"), &first.to_string())
                .map_err(|errno| CgroupError::Join { path: home, source: errno.into() })?;
        }
        self.account();
        Ok(())
    }

    /// Has systemd change the limits of the unit, if the container is one.
    pub(in crate::cgroup) fn update_unit(&self, limits: &Limits) -> Result<(), CgroupError> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let mut manager = Manager::connect(unit.user)?;
        let version = if self.only_v2() { Version::V2 } else { Version::V1 };
        let properties = properties(limits, version, manager.version()?)?;
        match properties.is_empty() {
            true => Ok(()),
            false => manager.set(unit, properties),
        }
    }

    /// Has systemd end the unit, if the container is one.
    ///
    /// It notices by itself that no process is left, and forgets the unit, so that what goes wrong here is no
    /// failure: the cgroups are removed in any case, and a unit that has failed gives way to the next.
    pub(in crate::cgroup) fn stop_unit(&self) {
        if let Some(unit) = &self.unit
            && let Ok(mut manager) = Manager::connect(unit.user)
        {
            let _ = manager.stop(unit);
        }
    }
}

impl Unit {
    /// Has systemd move a process, which this one may not move itself, into the unit.
    pub(super) fn admit(&self, below: &str, pid: Pid) -> Result<(), CgroupError> {
        Manager::connect(self.user)?.attach(self, below, pid)
    }
}

/// The version whose properties count: beside v1 hierarchies, v2 has no controllers.
fn cgroup_version(hierarchies: &Hierarchies) -> Version {
    if hierarchies.mode() == Mode::V2 { Version::V2 } else { Version::V1 }
}

/// What is always counted, as in the cgroups that this runtime makes itself.
fn accounting(version: Version) -> impl Iterator<Item = super::Property> {
    let io = if version == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
    let names = ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"];
    names.into_iter().map(|name| (name.to_owned(), crate::dbus::Value::Bool(true)))
}

/// Where systemd has put a process, in the hierarchies that it uses: below their mount points.
///
/// The kernel is asked, since systemd escapes some names, and knows best where its own root is.
fn scope_path(hierarchies: &Hierarchies, plan: &UnitPlan, pid: Pid) -> Result<PathBuf, CgroupError> {
    let its_own = |hierarchy: &&Hierarchy| hierarchy.names.iter().any(|name| name == "name=systemd");
    let v2 = |hierarchy: &&Hierarchy| hierarchy.version() == Version::V2;
    let hierarchy = hierarchies.iter().find(its_own).or_else(|| hierarchies.iter().find(v2));
    let path = cgroup_of(pid, hierarchy.ok_or(CgroupError::NotMounted)?)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.strip_prefix('_').unwrap_or(name) == plan.unit.name || name == plan.unit.name {
        true => Ok(path),
        false => Err(CgroupError::NotInUnit { name: plan.unit.name.clone(), path }),
    }
}
