// SPDX-License-Identifier: Apache-2.0
//! A container's group in the resctrl file system (Linux, Documentation/filesystems/resctrl.rst): found or
//! made, set up, entered by the container's processes, and removed if it was the container's own.

mod stats;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};
use serde::{Deserialize, Serialize};

use crate::RuntimeError;
use crate::plan::RdtPlan;

pub use stats::{CmtStats, L3CacheInfo, MbmStats, MemBwInfo, RdtStats};

const RDTGROUP_SUPER_MAGIC: FsType = FsType(0x0765_5821);
const USUAL: &str = "/sys/fs/resctrl";

/// The resctrl file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resctrl(PathBuf);

/// The group of a container, as its state records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdtGroup {
    root: Resctrl,
    path: PathBuf,
    /// Whether it is the container's own, made for it: then it ends with the container.
    own: bool,
    /// The container's monitoring group within.
    monitoring: Option<PathBuf>,
}

impl RdtGroup {
    /// Finds the place of a container, and makes nothing yet.
    pub(crate) fn plan(plan: &RdtPlan, id: &str) -> Result<Self, RuntimeError> {
        Resctrl::find()?.group(plan, id)
    }

    /// Makes what is missing of the group and gives it its schemata. One that it has made does not outlive a failure.
    pub(crate) fn establish(&mut self, plan: &RdtPlan) -> Result<(), RuntimeError> {
        let is_new = self.make()?;
        if !is_new && plan.group.is_some() {
            return self.compare_schemata(&plan.schemata);
        }
        let written = self.write_schemata(&plan.schemata);
        if is_new && written.is_err() {
            let _ = fs::remove_dir(&self.path);
        }
        written
    }

    // Whether it was not there.
    fn make(&mut self) -> Result<bool, RuntimeError> {
        let is_new = make_dir(&self.path).map_err(|error| self.root.failure("make", &self.path, error))?;
        self.own &= is_new;
        if let Some(path) = &self.monitoring {
            make_dir(path).map_err(|error| self.root.failure("make", path, error))?;
        }
        Ok(is_new)
    }

    /// Replaces the schemata of the lines' kinds.
    pub(crate) fn write_schemata(&self, lines: &[String]) -> Result<(), RuntimeError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.root.check_features(lines)?;
        let path = self.path.join("schemata");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // The kernel takes them in one write.
        let written = File::options()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|error| self.root.failure("write", &path, error))
    }

    // A group that others are in has the schemata that it has.
    fn compare_schemata(&self, lines: &[String]) -> Result<(), RuntimeError> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.path.join("schemata");
        let text = fs::read_to_string(&path).map_err(RuntimeError::io("read", &path))?;
        let there = parse_schemata(text.lines());
        let differs = |(key, value): &(&(String, String), &String)| there.get(*key) != Some(value);
        match parse_schemata(lines.iter().map(String::as_str)).iter().find(differs) {
            None => Ok(()),
            Some(((kind, domain), value)) => {
                let there = there.get(&(kind.clone(), domain.clone())).map_or("nothing", String::as_str);
                let reason = format!("the group exists and has {there} for {kind}:{domain}, not {value}");
                Err(RuntimeError::config("linux.intelRdt", reason))
            }
        }
    }

    /// The files by which a process enters the group: each takes "0" from it.
    pub(crate) fn entrances(&self) -> Result<Vec<File>, RuntimeError> {
        let open = |dir: &PathBuf| {
            let path = dir.join("tasks");
            File::options().write(true).open(&path).map_err(RuntimeError::io("open", &path))
        };
        [Some(&self.path), self.monitoring.as_ref()].into_iter().flatten().map(open).collect()
    }

    /// Puts processes that run already into the group.
    pub(crate) fn add(&self, pids: &[i32]) -> Result<(), RuntimeError> {
        let path = self.path.join("tasks");
        for pid in pids {
            match fs::write(&path, pid.to_string()) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {} // it has ended
                result => result.map_err(|error| self.root.failure("write", &path, error))?,
            }
        }
        Ok(())
    }

    /// Removes what was made for the container.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        let path = if self.own { Some(&self.path) } else { self.monitoring.as_ref() };
        match path.map_or(Ok(()), fs::remove_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::io("remove", path.unwrap_or(&self.path))(error))
            }
            _ => Ok(()),
        }
    }
}

impl Resctrl {
    fn find() -> Result<Self, RuntimeError> {
        let is_resctrl = |path: &str| statfs(path).is_ok_and(|fs| fs.filesystem_type() == RDTGROUP_SUPER_MAGIC);
        let mounted = || {
            let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
            mounts
                .lines()
                .find(|line| line.contains(" - resctrl "))
                .and_then(|line| line.split(' ').nth(4).map(PathBuf::from))
        };
        let root = if is_resctrl(USUAL) { Some(PathBuf::from(USUAL)) } else { mounted() };
        root.map(Self).ok_or_else(|| {
            let reason =
                "intelRdt is specified in config, but Intel RDT is not enabled: no resctrl file system is mounted";
            RuntimeError::config("linux.intelRdt", reason)
        })
    }

    fn group(self, plan: &RdtPlan, id: &str) -> Result<RdtGroup, RuntimeError> {
        let path = match plan.group.as_deref() {
            None => self.0.join(id),
            Some("/") => self.0.clone(),
            Some(name) => self.0.join(name),
        };
        let exists = path.is_dir();
        if plan.group.is_some() && plan.schemata.is_empty() && !exists {
            let reason = format!("clos dir {} does not exist, and without schemata it has to", path.display());
            return Err(RuntimeError::config("linux.intelRdt.closID", reason));
        }
        let monitoring = plan.monitoring.then(|| path.join("mon_groups").join(id));
        Ok(RdtGroup { own: plan.group.is_none() && !exists, root: self, path, monitoring })
    }

    fn check_features(&self, lines: &[String]) -> Result<(), RuntimeError> {
        let info = self.0.join("info");
        for (kind, names, feature) in [
            ("L3", &["L3", "L3CODE", "L3DATA"][..], "l3CacheSchema is specified in config, but Intel RDT/CAT"),
            ("MB", &["MB"], "memBwSchema is specified in config, but Intel RDT/MBA"),
        ] {
            if lines.iter().any(|line| line.starts_with(kind)) && !names.iter().any(|name| info.join(name).is_dir()) {
                return Err(RuntimeError::config("linux.intelRdt", format!("intelRdt.{feature} is not enabled")));
            }
        }
        Ok(())
    }

    // What the kernel has to say of the last operation, beyond an errno.
    fn failure(&self, action: &'static str, path: &Path, error: io::Error) -> RuntimeError {
        let status = fs::read_to_string(self.0.join("info/last_cmd_status")).unwrap_or_default();
        match status.trim() {
            "" | "ok" => RuntimeError::io(action, path)(error),
            said => RuntimeError::config(
                "linux.intelRdt",
                format!("unable to {action} {}: {said} ({error})", path.display()),
            ),
        }
    }
}

// Whether it was not there.
fn make_dir(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

// `L3:0=7f0;1=01f` to values by kind and domain.
fn parse_schemata<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<(String, String), String> {
    let mut values = BTreeMap::new();
    for (kind, domains) in lines.flat_map(str::lines).filter_map(|line| line.trim().split_once(':')) {
        for (domain, value) in domains.split(';').filter_map(|domain| domain.split_once('=')) {
            let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
            values.insert((kind.trim().to_owned(), domain.trim().to_owned()), value);
        }
    }
    values
}

#[cfg(test)]
mod tests;
