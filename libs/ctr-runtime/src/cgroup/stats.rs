// SPDX-License-Identifier: Apache-2.0
//! What a container uses, as the kernel counts it: one typed value for v1, hybrid and v2.
//!
//! As JSON it is the `data` of runc's events, down to which members are left out when they are 0. Amounts of
//! memory are bytes, times are nanoseconds.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::control::{open_directory, read_file_at};
use super::{Cgroup, CgroupError};

/// Reads what one controller counts.
type Reader = fn(&ControlFiles<'_>, &mut Stats) -> Result<(), CgroupError>;

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Time on the processors.
    pub cpu: CpuStats,
    /// Which processors and memory nodes it may use; told by v1 only.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices.
    #[serde(rename = "blkio")]
    pub io: IoStats,
    /// Huge pages, by their size as in `2MB`.
    #[serde(rename = "hugetlb")]
    pub hugepages: BTreeMap<String, HugepageStats>,
}

/// Time on the processors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: CpuUsage,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttling: Throttling,
    #[serde(rename = "psi", skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Nanoseconds on the processors; what is told of each processor is v1's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(rename = "percpu", skip_serializing_if = "is_zero")]
    pub per_cpu: Vec<u64>,
    #[serde(rename = "percpu_kernel", skip_serializing_if = "is_zero")]
    pub per_cpu_kernel: Vec<u64>,
    #[serde(rename = "percpu_user", skip_serializing_if = "is_zero")]
    pub per_cpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

/// How often and how long the quota held it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// How much of the time its processes waited for a resource (PSI): some of them, or all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pressure {
    #[serde(skip_serializing_if = "is_zero")]
    pub some: Stall,
    #[serde(skip_serializing_if = "is_zero")]
    pub full: Stall,
}

/// Shares of the last 10, 60 and 300 seconds in percent, and the microseconds since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Stall {
    #[serde(serialize_with = "as_go_does")]
    pub avg10: f64,
    #[serde(serialize_with = "as_go_does")]
    pub avg60: f64,
    #[serde(serialize_with = "as_go_does")]
    pub avg300: f64,
    pub total: u64,
}

/// The files of v1's cpuset controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct CpusetStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryStats {
    /// That of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: MemoryUse,
    /// Memory and swap together, as v1 counts them; v2 has no highest use of both.
    #[serde(skip_serializing_if = "is_zero")]
    pub swap: MemoryUse,
    /// The kernel's own, on v1.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel: MemoryUse,
    /// That of TCP's buffers, on v1.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_zero")]
    pub kernel_tcp: MemoryUse,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(rename = "psi", skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// The use of one kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// [`u64::MAX`] where v2 says that there is none; v1 has a number of pages that no machine has.
    pub limit: u64,
    /// What is in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that ever was.
    #[serde(rename = "max", skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// How often the limit was hit, on v1.
    #[serde(rename = "failcnt")]
    pub failures: u64,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Block devices. On v2 only the first two are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct IoStats {
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "is_zero")]
    pub service_bytes: Vec<IoEntry>,
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "is_zero")]
    pub serviced: Vec<IoEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "is_zero")]
    pub queued: Vec<IoEntry>,
    #[serde(rename = "ioServiceTimeRecursive", skip_serializing_if = "is_zero")]
    pub service_time: Vec<IoEntry>,
    #[serde(rename = "ioWaitTimeRecursive", skip_serializing_if = "is_zero")]
    pub wait_time: Vec<IoEntry>,
    #[serde(rename = "ioMergedRecursive", skip_serializing_if = "is_zero")]
    pub merged: Vec<IoEntry>,
    #[serde(rename = "ioTimeRecursive", skip_serializing_if = "is_zero")]
    pub time: Vec<IoEntry>,
    #[serde(rename = "sectorsRecursive", skip_serializing_if = "is_zero")]
    pub sectors: Vec<IoEntry>,
    #[serde(rename = "psi", skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// One number of one device; `op` is `Read`, `Write` and so on, or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct IoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, reserved ones included; v2 does not know the most that ever was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct HugepageStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(rename = "max", skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    #[serde(rename = "failcnt")]
    pub failures: u64,
}

impl Cgroup {
    /// Reads what the container uses, from whichever hierarchies it is in.
    ///
    /// What no controller counts is 0 or empty. A cgroup that is gone is an error.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let mut stats = Stats::default();
        let v2 = self.v2_path().map(ControlFiles::open).transpose()?;
        for (controller, read) in v1::READERS {
            if let Some(path) = self.v1_path(controller) {
                read(&ControlFiles::open(path)?, &mut stats)?;
            }
        }
        if let Some(v2) = &v2 {
            // beside v1, too, v2 has the processors' time and the pressure
            v2::pressure(v2, &mut stats)?;
            for (controller, read) in v2::READERS {
                if self.v1_path(controller).is_none() {
                    read(v2, &mut stats)?;
                }
            }
        }
        if stats.pids.current == 0 {
            stats.pids.current = self.pids()?.len() as u64;
        }
        Ok(stats)
    }
}

/// The control files of one directory. One that is not there has nothing to tell.
struct ControlFiles<'a> {
    directory: OwnedFd,
    path: &'a Path,
}

impl<'a> ControlFiles<'a> {
    fn open(path: &'a Path) -> Result<Self, CgroupError> {
        let directory =
            open_directory(path).map_err(|errno| CgroupError::Read { path: path.to_owned(), source: errno.into() })?;
        Ok(Self { directory, path })
    }

    fn text(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match read_file_at(&self.directory, file) {
            Ok(text) => Ok(Some(text)),
            // pressure may be switched off at boot
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
            Err(source) => Err(CgroupError::Read { path: self.path.join(file), source }),
        }
    }

    fn number(&self, file: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self.text(file)?.and_then(|text| number(text.trim())))
    }

    /// The lines of a file of `key value` lines.
    fn table(&self, file: &str) -> Result<Option<BTreeMap<String, u64>>, CgroupError> {
        let entry = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), number(value)?))
        };
        Ok(self.text(file)?.map(|text| text.lines().filter_map(entry).collect()))
    }
}

/// A number as the kernel writes it: `max` is the largest, and some of v1's fall below 0 by mistake.
fn number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        _ => text.parse().ok().or_else(|| text.parse::<i64>().ok().map(|_| 0)),
    }
}

/// The sizes of huge pages that this machine has, as the names of control files have them.
fn hugepage_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| hugepage_size(entry.file_name().to_str()?)).collect()
}

/// `2MB` for `hugepages-2048kB`.
fn hugepage_size(name: &str) -> Option<String> {
    let mut size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    for unit in ["KB", "MB"] {
        if size < 1024 {
            return Some(format!("{size}{unit}"));
        }
        size /= 1024;
    }
    Some(format!("{size}GB"))
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Without a fraction where there is none.
fn as_go_does<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 { serializer.serialize_u64(*value as u64) } else { serializer.serialize_f64(*value) }
}

#[cfg(test)]
mod tests;
