// SPDX-License-Identifier: Apache-2.0
//! Limits as properties of a unit (systemd.resource-control(5)), as far as systemd has them.
//!
//! What it lacks is written to the control files only, as is everything else once more: the values are the
//! same. A property that this systemd is too old for is left out for that reason.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::Property;
use crate::cgroup::convert::{cpu_weight, io_weight, most_pids, swap_max};
use crate::cgroup::limits::set;
use crate::cgroup::{CgroupError, Limits, Version};
use crate::dbus::Value;
use crate::plan::range;
use crate::warn;

/// The first versions of systemd that have a property, or a value of it.
mod since {
    pub(super) const CPU_QUOTA_PERIOD: u32 = 242;
    pub(super) const CPUSET: u32 = 244;
    pub(super) const CPU_IDLE: u32 = 252;
    pub(super) const ZSWAP_AND_SCOPE_OOM_POLICY: u32 = 253;
}

/// The properties that these limits come to with one version of cgroups, and of systemd.
pub(super) fn properties(limits: &Limits, cgroups: Version, systemd: u32) -> Result<Vec<Property>, CgroupError> {
    let resources = limits.resources();
    let mut list = List { properties: Vec::new(), systemd };
    let v1 = cgroups == Version::V1;
    if let Some(memory) = resources.memory() {
        if v1 { list.limit("MemoryLimit", set(memory.limit())) } else { list.memory(memory)? }
    }
    if let Some(cpu) = resources.cpu() {
        list.cpu(cpu, v1)?;
    }
    if let Some(pids) = resources.pids() {
        list.limit("TasksMax", Some(most_pids(pids.limit())));
    }
    if let Some(block_io) = resources.block_io() {
        list.block_io(block_io, v1);
    }
    if let Some(unified) = resources.unified() {
        list.unified(unified)?;
    }
    Ok(list.properties)
}

/// What can be said of a unit only before it exists.
pub(super) fn first_properties(limits: &Limits, systemd: u32) -> Vec<Property> {
    let group = limits.resources().unified().as_ref().and_then(|unified| unified.get("memory.oom.group"));
    let policy = match group.map(|value| value.trim()) {
        Some("0") => "continue",
        Some("1") => "kill",
        _ => return Vec::new(),
    };
    match systemd >= since::ZSWAP_AND_SCOPE_OOM_POLICY {
        true => vec![("OOMPolicy".to_owned(), Value::string(policy))],
        false => Vec::new(),
    }
}

/// The CPU quota as systemd takes it, in hundredths of a CPU: rounded up, so that what is written to the
/// control file is what systemd writes there as well.
pub(in crate::cgroup) fn round_quota(resources: &mut LinuxResources) {
    if let Some(cpu) = resources.cpu_mut()
        && let Some(quota @ 1..) = cpu.quota()
    {
        let period = set(cpu.period()).unwrap_or(DEFAULT_PERIOD);
        let rounded = u128::from(per_second(quota.cast_unsigned(), period)) * u128::from(period) / 1_000_000;
        cpu.set_quota(Some(i64::try_from(rounded).unwrap_or(i64::MAX)));
    }
}

/// Of the kernel, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

const IDLE_AND_WEIGHT: &str = "unable to apply both cpu.weight and cpu.idle to systemd: cpu.weight is ignored";

/// Microseconds of CPU time per second, a multiple of 10 ms.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    u64::try_from(exact.next_multiple_of(10_000)).unwrap_or(u64::MAX)
}

struct List {
    properties: Vec<Property>,
    systemd: u32,
}

impl List {
    fn push(&mut self, name: &str, value: Value) {
        self.properties.push((name.to_owned(), value));
    }

    fn number(&mut self, name: &str, value: u64) {
        self.push(name, Value::Uint64(value));
    }

    /// A limit, of which a negative one is none: systemd's infinity.
    fn limit(&mut self, name: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.number(name, u64::try_from(value).unwrap_or(u64::MAX));
        }
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), CgroupError> {
        let (limit, swap) = (set(memory.limit()), set(memory.swap()));
        self.limit("MemoryMax", limit);
        self.limit("MemoryLow", set(memory.reservation()));
        self.limit("MemorySwapMax", swap_max(limit, swap)?);
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu, v1: bool) -> Result<(), CgroupError> {
        let shares = set(cpu.shares());
        if v1 {
            shares.into_iter().for_each(|shares| self.number("CPUShares", shares));
        } else if cpu.idle() == Some(1) && self.systemd >= since::CPU_IDLE {
            self.number("CPUWeight", 0); // which stands for idle
            if shares.is_some() {
                warn(IDLE_AND_WEIGHT);
            }
        } else {
            shares.into_iter().for_each(|shares| self.number("CPUWeight", cpu_weight(shares)));
        }
        self.quota(set(cpu.quota()), set(cpu.period()));
        self.cpuset("AllowedCPUs", cpu.cpus().as_deref(), "linux.resources.cpu.cpus")?;
        self.cpuset("AllowedMemoryNodes", cpu.mems().as_deref(), "linux.resources.cpu.mems")
    }

    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) {
        if let Some(period) = period
            && self.systemd >= since::CPU_QUOTA_PERIOD
        {
            self.number("CPUQuotaPeriodUSec", period);
        }
        match quota {
            Some(quota @ 1..) => {
                let per_second = per_second(quota.cast_unsigned(), period.unwrap_or(DEFAULT_PERIOD));
                self.number("CPUQuotaPerSecUSec", per_second);
            }
            None if period.is_none() => {}
            _ => self.number("CPUQuotaPerSecUSec", u64::MAX),
        }
    }

    fn cpuset(&mut self, name: &str, list: Option<&str>, field: &'static str) -> Result<(), CgroupError> {
        let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
        let value = || list.to_owned();
        let mask = mask(list).map_err(|rule| CgroupError::Invalid { field, value: value(), rule })?;
        if self.systemd >= since::CPUSET {
            self.push(name, Value::bytes(&mask));
        }
        Ok(())
    }

    fn block_io(&mut self, block_io: &LinuxBlockIo, v1: bool) {
        let weight = set(block_io.weight());
        match (weight, v1) {
            (None, _) => {}
            (Some(weight), true) => self.number("BlockIOWeight", weight.into()),
            (Some(weight), false) => self.number("IOWeight", io_weight(weight)),
        }
    }

    /// Control files of v2, as far as they have a property. They come last, and override.
    fn unified(&mut self, unified: &HashMap<String, String>) -> Result<(), CgroupError> {
        let mut files: Vec<(&str, &str)> = unified.iter().map(|(key, value)| (key.as_str(), value.trim())).collect();
        files.sort_unstable();
        let idle = unified.get("cpu.idle").is_some_and(|value| value.trim() == "1") && self.systemd >= since::CPU_IDLE;
        if idle && unified.contains_key("cpu.weight") {
            warn(IDLE_AND_WEIGHT);
        }
        for (file, value) in files {
            let invalid = |rule| CgroupError::Invalid {
                field: "linux.resources.unified",
                value: format!("{file}={value}"),
                rule,
            };
            let number = || match value {
                "max" => Ok(u64::MAX),
                value => value.parse().map_err(|_| invalid("it must be a number or max")),
            };
            match file {
                "cpu.idle" if idle => self.number("CPUWeight", 0),
                "cpu.weight" if !idle => self.number("CPUWeight", number()?),
                "cpu.max" => {
                    let (quota, period) = cpu_max(value).ok_or_else(|| invalid("it must be a quota and a period"))?;
                    self.quota(quota, Some(period));
                }
                "cpuset.cpus" => self.cpuset("AllowedCPUs", Some(value), "linux.resources.unified")?,
                "cpuset.mems" => self.cpuset("AllowedMemoryNodes", Some(value), "linux.resources.unified")?,
                "io.weight" => {
                    if let Ok(weight) = value.strip_prefix("default ").unwrap_or(value).trim().parse() {
                        self.number("IOWeight", weight);
                    }
                }
                "memory.high" => self.number("MemoryHigh", number()?),
                "memory.low" => self.number("MemoryLow", number()?),
                "memory.max" => self.number("MemoryMax", number()?),
                "memory.min" => self.number("MemoryMin", number()?),
                "memory.swap.max" => self.number("MemorySwapMax", number()?),
                "memory.zswap.max" if self.systemd >= since::ZSWAP_AND_SCOPE_OOM_POLICY => {
                    self.number("MemoryZSwapMax", number()?);
                }
                "pids.max" => self.number("TasksMax", number()?.max(1)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The quota, if there is one, and the period of a value of `cpu.max`.
fn cpu_max(value: &str) -> Option<(Option<i64>, u64)> {
    let mut words = value.split_ascii_whitespace();
    let quota = match words.next()? {
        "max" => None,
        quota => Some(quota.parse().ok()?),
    };
    let period = words.next().map_or(Some(DEFAULT_PERIOD), |period| period.parse().ok())?;
    words.next().is_none().then_some((quota, period))
}

/// A list of numbers and ranges as a mask: the lowest bit of the first byte is number 0.
fn mask(list: &str) -> Result<Vec<u8>, &'static str> {
    const RULE: &str = "it must be a list of numbers and ranges, as 0-2,7, up to 8191";
    const MOST: usize = 8192; // what kernels are built for at most
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let range = range::parse(part, MOST).map_err(|_| RULE)?;
        mask.resize(mask.len().max(range.end() / 8 + 1), 0);
        range.for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    if mask.is_empty() { Err(RULE) } else { Ok(mask) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn limits(resources: Json) -> Limits {
        Limits::from_spec(&serde_json::from_value(resources).expect("test JSON")).expect("valid limits")
    }

    /// The properties as JSON, to compare.
    fn shown(resources: Json, cgroups: Version, systemd: u32) -> Json {
        let properties = properties(&limits(resources), cgroups, systemd).expect("properties");
        json!(properties.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>())
    }

    #[test]
    fn limits_of_v2_have_their_properties() {
        let infinity = u64::MAX;
        for (resources, expected) in [
            (json!({}), json!([])),
            (
                json!({"memory": {"limit": 1000, "swap": 1500, "reservation": 500}}),
                json!([["MemoryMax", 1000], ["MemoryLow", 500], ["MemorySwapMax", 500]]),
            ),
            (json!({"memory": {"limit": 1000, "swap": 1000}}), json!([["MemoryMax", 1000], ["MemorySwapMax", 0]])),
            (json!({"memory": {"limit": -1}}), json!([["MemoryMax", infinity], ["MemorySwapMax", infinity]])),
            (json!({"memory": {"limit": 0, "swap": 0}}), json!([])),
            (json!({"pids": {"limit": 0}}), json!([["TasksMax", 1]])),
            (json!({"pids": {"limit": -1}}), json!([["TasksMax", infinity]])),
            (json!({"cpu": {"shares": 1024}}), json!([["CPUWeight", 100]])),
            (json!({"cpu": {"shares": 1024, "idle": 1}}), json!([["CPUWeight", 0]])),
            (
                json!({"cpu": {"quota": 5000, "period": 10000}}),
                json!([["CPUQuotaPeriodUSec", 10000], ["CPUQuotaPerSecUSec", 500_000]]),
            ),
            (json!({"cpu": {"quota": 12345}}), json!([["CPUQuotaPerSecUSec", 130_000]])),
            (
                json!({"cpu": {"quota": -1, "period": 10000}}),
                json!([["CPUQuotaPeriodUSec", 10000], ["CPUQuotaPerSecUSec", infinity]]),
            ),
            (
                json!({"cpu": {"cpus": "0-2,9", "mems": "0"}}),
                json!([["AllowedCPUs", [7, 2]], ["AllowedMemoryNodes", [1]]]),
            ),
            (json!({"blockIO": {"weight": 500}}), json!([["IOWeight", 4950]])),
            (
                json!({"unified": {
                    "memory.high": " 7 ", "memory.low": "6", "memory.min": "5", "memory.max": "max", "pids.max": "0",
                    "memory.swap.max": "4", "memory.zswap.max": "3", "cpu.max": "50000 100000", "cpu.weight": "77",
                    "cpuset.cpus": "1", "io.weight": "default 40", "hugetlb.2MB.max": "1"
                }}),
                json!([
                    ["CPUQuotaPeriodUSec", 100_000],
                    ["CPUQuotaPerSecUSec", 500_000],
                    ["CPUWeight", 77],
                    ["AllowedCPUs", [2]],
                    ["IOWeight", 40],
                    ["MemoryHigh", 7],
                    ["MemoryLow", 6],
                    ["MemoryMax", infinity],
                    ["MemoryMin", 5],
                    ["MemorySwapMax", 4],
                    ["MemoryZSwapMax", 3],
                    ["TasksMax", 1]
                ]),
            ),
            (json!({"unified": {"cpu.idle": "1", "cpu.weight": "5"}}), json!([["CPUWeight", 0]])),
            (
                json!({"unified": {"cpu.max": "max"}}),
                json!([["CPUQuotaPeriodUSec", 100_000], ["CPUQuotaPerSecUSec", infinity]]),
            ),
            (
                json!({"memory": {"limit": 9}, "unified": {"memory.max": "8"}}),
                json!([["MemoryMax", 9], ["MemoryMax", 8]]),
            ),
        ] {
            assert_eq!(shown(resources.clone(), Version::V2, 255), expected, "{resources}");
        }
    }

    #[test]
    fn limits_of_v1_have_other_names() {
        let resources = json!({
            "memory": {"limit": 1000, "swap": 1500, "reservation": 500}, "cpu": {"shares": 512, "quota": 20000},
            "blockIO": {"weight": 500}, "pids": {"limit": 3}
        });
        let expected = json!([
            ["MemoryLimit", 1000],
            ["CPUShares", 512],
            ["CPUQuotaPerSecUSec", 200_000],
            ["TasksMax", 3],
            ["BlockIOWeight", 500]
        ]);
        assert_eq!(shown(resources, Version::V1, 255), expected);
    }

    #[test]
    fn an_old_systemd_is_not_told_what_it_does_not_know() {
        let resources = json!({
            "cpu": {"quota": 5000, "period": 10000, "cpus": "0", "idle": 1, "shares": 2048},
            "unified": {"memory.zswap.max": "3", "cpu.idle": "1"}
        });
        let expected = json!([["CPUWeight", 174], ["CPUQuotaPerSecUSec", 500_000]]);
        assert_eq!(shown(resources, Version::V2, 241), expected);
        let group = limits(json!({"unified": {"memory.oom.group": "1"}}));
        assert_eq!(first_properties(&group, 252), []);
        assert_eq!(first_properties(&group, 253), [("OOMPolicy".to_owned(), Value::string("kill"))]);
        assert_eq!(shown(json!({"unified": {"memory.oom.group": "1"}}), Version::V2, 255), json!([]));
    }

    #[test]
    fn values_that_systemd_would_misunderstand_are_refused() {
        for unified in [
            json!({"memory.max": "1M"}),
            json!({"pids.max": ""}),
            json!({"cpu.max": ""}),
            json!({"cpu.max": "1 2 3"}),
            json!({"cpu.max": "x"}),
            json!({"cpuset.cpus": "3-1"}),
            json!({"cpuset.cpus": "99999999"}),
            json!({"cpuset.mems": ","}),
        ] {
            let result = properties(&limits(json!({"unified": unified})), Version::V2, 255);
            assert!(result.is_err(), "{unified}: {result:?}");
        }
    }

    #[test]
    fn a_quota_is_rounded_up_as_systemd_does_it() {
        for (cpu, quota) in [
            (json!({"quota": 5000, "period": 10000}), Some(5000)),
            (json!({"quota": 12345}), Some(13000)),
            (json!({"quota": 1001, "period": 100_000}), Some(2000)),
            (json!({"quota": i64::MAX, "period": 1000}), Some(18_446_744_073_709_551)),
            (json!({"quota": -1}), Some(-1)),
            (json!({"period": 1000}), None),
        ] {
            let mut resources: LinuxResources = serde_json::from_value(json!({"cpu": cpu})).expect("test JSON");
            round_quota(&mut resources);
            assert_eq!(resources.cpu().as_ref().expect("it stays").quota(), quota, "{cpu}");
        }
    }
}
