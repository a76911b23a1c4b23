// SPDX-License-Identifier: Apache-2.0
//! The directories of a container's cgroup, one in each hierarchy, made ready for a first process.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkdir};

use super::control::{read_file, write_file};
use super::hierarchy::{Hierarchy, cgroup_of};
use super::{Cgroup, CgroupError, CgroupPlan, Hierarchies, Holder, Placement, Version, controllers, members};

/// What a container's use of resources is known by, limited or not, by the names of v2 and of v1.
const ACCOUNTED: [(&str, &str); 4] = [("cpu", "cpu"), ("io", "blkio"), ("memory", "memory"), ("pids", "pids")];

impl Cgroup {
    /// The cgroup that [`Cgroup::create`] would make: an intent to record before it does.
    pub fn planned(hierarchies: &Hierarchies, plan: &CgroupPlan) -> Result<Self, CgroupError> {
        let mut cgroup = Self::none();
        // Where a user's systemd has its units, only that knows.
        if matches!(&plan.placement, Placement::Unit(unit) if unit.unit.user) {
            return Ok(cgroup);
        }
        for hierarchy in hierarchies.iter() {
            cgroup.add(hierarchy, &place(hierarchy, &plan.placement)?);
        }
        Ok(cgroup)
    }

    /// Makes a container's cgroup, by whomever the plan says, without limits but for those that systemd sets.
    ///
    /// A holder is to be kept until the container's first process is in the cgroup.
    pub fn establish(hierarchies: &Hierarchies, plan: &CgroupPlan) -> Result<(Self, Option<Holder>), CgroupError> {
        match &plan.placement {
            Placement::Nowhere => Ok((Self::none(), None)),
            Placement::Unit(unit) => {
                Self::in_scope(hierarchies, plan, unit).map(|(cgroup, holder)| (cgroup, Some(holder)))
            }
            Placement::Root(_) | Placement::Own(_) => {
                let mut cgroup = Self::create(hierarchies, plan)?;
                match cgroup.make_inner(hierarchies, plan) {
                    Ok(()) => Ok((cgroup, None)),
                    Err(error) => {
                        let _ = cgroup.delete();
                        Err(error)
                    }
                }
            }
        }
    }

    /// Makes a container's cgroup in every hierarchy, without limits.
    ///
    /// A cgroup that exists is taken only when it holds no process and is not frozen. What was made is
    /// removed when something fails. Where it is optional and the caller may not make it, in some hierarchy or
    /// in all, there is none; a limit that would need it is then an error of [`Cgroup::limit`].
    pub fn create(hierarchies: &Hierarchies, plan: &CgroupPlan) -> Result<Self, CgroupError> {
        let cgroup = Self::create_at(hierarchies, |hierarchy| place(hierarchy, &plan.placement), plan.optional, None)?;
        cgroup.account();
        Ok(cgroup)
    }

    /// The same at the directory that `place` names in each hierarchy, where one process may be already; what
    /// is used there is not counted yet.
    pub(super) fn create_at(
        hierarchies: &Hierarchies,
        place: impl Fn(&Hierarchy) -> Result<PathBuf, CgroupError>,
        optional: bool,
        tenant: Option<Pid>,
    ) -> Result<Self, CgroupError> {
        let mut all = Made(Vec::new());
        let mut cgroup = Self::none();
        for hierarchy in hierarchies.iter() {
            let path = place(hierarchy)?;
            let mut made = Made(Vec::new());
            match prepare(hierarchy, &path, tenant, &mut made) {
                Ok(()) => all.0.append(&mut made.0),
                Err(error) if optional && error.is_denial() => continue,
                Err(error) => return Err(error),
            }
            cgroup.add(hierarchy, &path);
        }
        if cgroup.is_none() && !optional {
            return Err(CgroupError::NotMounted);
        }
        all.0.clear();
        Ok(cgroup)
    }

    /// Has what the container uses counted, as far as the cgroups above it let it.
    pub(super) fn account(&self) {
        let Some(path) = self.v2_path() else { return };
        let absent = |(_, v1): &&(&str, &str)| self.v1_path(v1).is_none();
        let wanted: Vec<&str> = ACCOUNTED.iter().filter(absent).map(|(v2, _)| *v2).collect();
        // What cannot be had is no loss, unless a limit needs it, which says so then.
        let _ = controllers::enable(path, &wanted, &mut Vec::new());
    }

    fn add(&mut self, hierarchy: &Hierarchy, path: &Path) {
        self.paths.extend(hierarchy.names.iter().map(|name| (name.clone(), path.to_owned())));
    }
}

/// Directories that are removed again unless all goes well, the last made first.
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = std::fs::remove_dir(path);
        }
    }
}

fn place(hierarchy: &Hierarchy, placement: &Placement) -> Result<PathBuf, CgroupError> {
    match placement {
        Placement::Root(path) => Ok(hierarchy.mount_point.join(path)),
        Placement::Unit(unit) => Ok(hierarchy.mount_point.join(unit.path())),
        Placement::Nowhere => Err(CgroupError::NotMounted),
        Placement::Own(path) => {
            let mut own = cgroup_of(Pid::this(), hierarchy)?;
            // The caller's own has a process, the caller, and so no controllers for its children.
            if hierarchy.version() == Version::V2 {
                own.pop();
            }
            Ok(hierarchy.mount_point.join(own).join(path))
        }
    }
}

fn prepare(hierarchy: &Hierarchy, path: &Path, tenant: Option<Pid>, made: &mut Made) -> Result<(), CgroupError> {
    make(path, &hierarchy.mount_point, tenant, made)?;
    if hierarchy.names.iter().any(|name| name == "cpuset") {
        fill_cpuset(path)?;
    }
    Ok(())
}

fn make(path: &Path, mount_point: &Path, tenant: Option<Pid>, made: &mut Made) -> Result<(), CgroupError> {
    let fail = |path: &Path, errno: Errno| CgroupError::Create { path: path.to_owned(), source: errno.into() };
    // Another container's end may remove a parent between two of our calls; not again and again.
    for _ in 0..10 {
        match mkdir(path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                made.0.push(path.to_owned());
                return Ok(());
            }
            Err(Errno::EEXIST) => return check_unused(path, tenant),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fail(path, errno)),
        }
        let parents: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| *parent != mount_point).collect();
        for parent in parents.into_iter().rev() {
            match mkdir(parent, Mode::from_bits_truncate(0o755)) {
                Ok(()) => {
                    made.0.push(parent.to_owned());
                    controllers::pass_on(parent);
                }
                Err(Errno::EEXIST) => {}
                Err(Errno::ENOENT) => break,
                Err(errno) => return Err(fail(parent, errno)),
            }
        }
    }
    Err(fail(path, Errno::ENOENT))
}

/// Somebody else's cgroup, or what a crash has left over.
fn check_unused(path: &Path, tenant: Option<Pid>) -> Result<(), CgroupError> {
    let count = members::pids_in(path)?.into_iter().filter(|pid| Some(*pid) != tenant).count();
    if count > 0 {
        return Err(CgroupError::NotEmpty { path: path.to_owned(), count });
    }
    // there is no such file in v1
    let kind = read_file(&path.join("cgroup.type")).unwrap_or_default();
    if let kind @ ("threaded" | "domain threaded" | "domain invalid") = kind.trim_end() {
        return Err(CgroupError::Threaded { path: path.to_owned(), kind: kind.to_owned() });
    }
    check_thawed(path)
}

/// In a cgroup that is frozen, if it is there at all, a new process would never come to anything.
pub(super) fn check_thawed(path: &Path) -> Result<(), CgroupError> {
    for (file, frozen) in [("cgroup.freeze", "1"), ("freezer.state", "FROZEN"), ("freezer.state", "FREEZING")] {
        match read_file(&path.join(file)) {
            Ok(text) if text.trim() == frozen => return Err(CgroupError::Frozen { path: path.to_owned() }),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CgroupError::Read { path: path.to_owned(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A new cpuset of v1 has no CPU and no memory, and takes no process until it has: it gets its parent's.
pub(super) fn fill_cpuset(path: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fill(path, file)?;
    }
    Ok(())
}

/// Fills one file of a cpuset, after those above it; returns what it then has.
fn fill(cgroup: &Path, name: &str) -> Result<String, CgroupError> {
    let file = cgroup.join(name);
    let own = match read_file(&file) {
        Ok(own) => own,
        Err(source) => return Err(CgroupError::Read { path: file, source }),
    };
    // the root's are never empty
    let Some(parent) = cgroup.parent().filter(|_| own.trim().is_empty()) else {
        return Ok(own);
    };
    let value = fill(parent, name)?.trim().to_owned();
    match write_file(&file, &value) {
        Ok(()) => Ok(value),
        Err(errno) => Err(CgroupError::Write { file, value, source: errno.into() }),
    }
}
