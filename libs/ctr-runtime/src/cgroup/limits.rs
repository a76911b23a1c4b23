// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` of config.json, checked: what no kernel could take is refused before anything is made.
//!
//! Device rules are another matter, and another file.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};
use serde::Serialize;

use super::{CgroupError, convert, systemd};

/// Resource limits whose values make sense, of a whole configuration or of an update.
///
/// As in runc, 0 means "not set" for memory, CPU time, shares and block I/O weight; `pids.limit` 0 is a limit: a
/// process that has no other beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Limits(LinuxResources);

impl Limits {
    /// Checks the limits in `linux.resources` (runtime-spec, config-linux, "Control groups").
    pub fn from_spec(resources: &LinuxResources) -> Result<Self, CgroupError> {
        if let Some(memory) = resources.memory() {
            check_memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            check_cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            at_least_minus_one("linux.resources.pids.limit", Some(pids.limit()))?;
        }
        if let Some(block_io) = resources.block_io() {
            check_block_io(block_io)?;
        }
        if let Some(network) = resources.network() {
            check_network(network)?;
        }
        check_hugepages(resources)?;
        for name in resources.rdma().iter().flat_map(|devices| devices.keys()) {
            check_word("linux.resources.rdma", name)?;
        }
        for (key, value) in resources.unified().iter().flatten() {
            check_unified(key, value)?;
        }
        let mut limits = resources.clone();
        limits.set_devices(None);
        Ok(Self(limits))
    }

    /// Whether there is nothing to limit.
    pub(super) fn is_empty(&self) -> bool {
        self.settings(|_| true).is_ok_and(|settings| settings.is_empty())
    }

    /// What systemd cannot express is raised to what it can.
    pub(super) fn round_for_systemd(&mut self) {
        systemd::round_quota(&mut self.0);
    }

    /// What is idle has no weight, and what is given one is idle no more: systemd sees to that by itself, and the
    /// kernel refuses it. `idle`: it is so far.
    pub(super) fn settle_idleness(&mut self, idle: bool) {
        if let Some(cpu) = self.0.cpu_mut()
            && idle
            && cpu.shares().is_some_and(|shares| shares != 0)
            && cpu.idle().is_none()
        {
            cpu.set_idle(Some(0));
        }
        let Some(unified) = self.0.unified_mut() else { return };
        match unified.get("cpu.idle").map(|value| value.trim() == "1") {
            Some(true) => drop(unified.remove("cpu.weight")),
            None if idle && unified.contains_key("cpu.weight") => {
                unified.insert("cpu.idle".to_owned(), "0".to_owned());
            }
            _ => {}
        }
    }

    pub(super) fn resources(&self) -> &LinuxResources {
        &self.0
    }
}

/// What is set: runc's callers write 0 for "leave it".
pub(super) fn set<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn check_memory(memory: &LinuxMemory) -> Result<(), CgroupError> {
    at_least_minus_one("linux.resources.memory.limit", memory.limit())?;
    at_least_minus_one("linux.resources.memory.reservation", memory.reservation())?;
    at_least_minus_one("linux.resources.memory.swap", memory.swap())?;
    // without a limit of memory v1 may have one, and so may what an update leaves as it is
    if let Some(limit) = set(memory.limit()) {
        convert::swap_max(Some(limit), set(memory.swap()))?;
    }
    match memory.swappiness() {
        Some(value @ 101..) => invalid("linux.resources.memory.swappiness", value, "it must be 0 to 100"),
        _ => Ok(()),
    }
}

fn check_cpu(cpu: &LinuxCpu) -> Result<(), CgroupError> {
    const PERIODS: &str = "it must be 1000 to 1000000 (microseconds)";
    if let Some(period) = set(cpu.period())
        && !(1000..=1_000_000).contains(&period)
    {
        return invalid("linux.resources.cpu.period", period, PERIODS);
    }
    if let Some(quota @ 1..1000) = cpu.quota() {
        return invalid("linux.resources.cpu.quota", quota, "it must be negative or at least 1000 (microseconds)");
    }
    if let Some(idle) = cpu.idle()
        && !(0..=1).contains(&idle)
    {
        return invalid("linux.resources.cpu.idle", idle, "it must be 0 or 1");
    }
    check_list("linux.resources.cpu.cpus", cpu.cpus().as_deref())?;
    check_list("linux.resources.cpu.mems", cpu.mems().as_deref())
}

/// A list of numbers and ranges, as in cpuset(7).
fn check_list(field: &'static str, list: Option<&str>) -> Result<(), CgroupError> {
    let ascending = |range: &str| {
        let mut ends = range.split('-').map(|end| (!end.starts_with('+')).then(|| end.parse::<u32>().ok()).flatten());
        match (ends.next(), ends.next(), ends.next()) {
            (Some(Some(_)), None, None) => true,
            (Some(Some(first)), Some(Some(last)), None) => first <= last,
            _ => false,
        }
    };
    match list {
        None | Some("") => Ok(()),
        Some(list) if list.split(',').map(str::trim).all(ascending) => Ok(()),
        Some(list) => invalid(field, format!("{list:?}"), "it must be a list of numbers and ranges, as 0-2,7"),
    }
}

fn check_block_io(block_io: &LinuxBlockIo) -> Result<(), CgroupError> {
    let weights = |field, weight: Option<u16>| match set(weight) {
        Some(weight) if !(10..=1000).contains(&weight) => invalid(field, weight, "it must be 10 to 1000"),
        _ => Ok(()),
    };
    weights("linux.resources.blockIO.weight", block_io.weight())?;
    weights("linux.resources.blockIO.leafWeight", block_io.leaf_weight())?;
    // Of a device that is given twice, here and below, the last limit is in force in the end.
    for device in block_io.weight_device().iter().flatten() {
        const FIELD: &str = "linux.resources.blockIO.weightDevice";
        weights(FIELD, device.weight())?;
        weights(FIELD, device.leaf_weight())?;
        check_device(FIELD, device.major(), device.minor())?;
    }
    let throttles = [
        ("linux.resources.blockIO.throttleReadBpsDevice", block_io.throttle_read_bps_device()),
        ("linux.resources.blockIO.throttleWriteBpsDevice", block_io.throttle_write_bps_device()),
        ("linux.resources.blockIO.throttleReadIOPSDevice", block_io.throttle_read_iops_device()),
        ("linux.resources.blockIO.throttleWriteIOPSDevice", block_io.throttle_write_iops_device()),
    ];
    for (field, devices) in throttles {
        for device in devices.iter().flatten() {
            check_device(field, device.major(), device.minor())?;
        }
    }
    Ok(())
}

fn check_device(field: &'static str, major: i64, minor: i64) -> Result<(), CgroupError> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(_), Ok(_)) => Ok(()),
        _ => invalid(field, format!("{major}:{minor}"), "it is no device number"),
    }
}

fn check_network(network: &LinuxNetwork) -> Result<(), CgroupError> {
    const FIELD: &str = "linux.resources.network.priorities";
    for priority in network.priorities().iter().flatten() {
        check_word(FIELD, priority.name())?;
    }
    Ok(())
}

fn check_hugepages(resources: &LinuxResources) -> Result<(), CgroupError> {
    const FIELD: &str = "linux.resources.hugepageLimits";
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
        if !number.is_some_and(|n| !n.starts_with('0') && n.parse::<u32>().is_ok() && !n.starts_with('+')) {
            return invalid(FIELD, format!("{size:?}"), "a page size is a number and KB, MB or GB");
        }
        at_least_minus_one(FIELD, Some(limit.limit()))?;
    }
    Ok(())
}

/// Keys are file names in the cgroup: whoever writes config.json may set any of its files, but no other.
fn check_unified(key: &str, value: &str) -> Result<(), CgroupError> {
    const FIELD: &str = "linux.resources.unified";
    if key.is_empty() || key.starts_with('.') || key.contains(['/', '\0']) {
        return invalid(FIELD, format!("{key:?}"), "a key must be a file name");
    }
    if !key.contains('.') {
        return invalid(FIELD, format!("{key:?}"), "a key must begin with the name of a controller");
    }
    if value.contains('\0') {
        return invalid(FIELD, format!("{value:?}"), "it must not contain NUL");
    }
    Ok(())
}

fn check_word(field: &'static str, word: &str) -> Result<(), CgroupError> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return invalid(field, format!("{word:?}"), "a name must not be empty nor contain white space");
    }
    Ok(())
}

fn at_least_minus_one(field: &'static str, value: Option<i64>) -> Result<(), CgroupError> {
    match value {
        Some(value) if value < -1 => invalid(field, value, "it must be -1 (no limit) or more"),
        _ => Ok(()),
    }
}

fn invalid(field: &'static str, value: impl ToString, rule: &'static str) -> Result<(), CgroupError> {
    Err(CgroupError::Invalid { field, value: value.to_string(), rule })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(resources: serde_json::Value) -> Result<Limits, String> {
        let resources = serde_json::from_value(resources).expect("test JSON");
        Limits::from_spec(&resources).map_err(|error| error.to_string())
    }

    #[test]
    fn accepts_what_callers_write() {
        for good in [
            json!({}),
            json!({"memory": {"limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": false}}),
            json!({"memory": {"limit": -1, "swap": -1, "swappiness": 100}}),
            json!({"memory": {"limit": 1000, "swap": 1000}}),
            json!({"memory": {"swap": 1000}}),
            json!({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "0"}}),
            json!({"cpu": {"shares": 1, "quota": -1, "period": 100000, "cpus": "0-3,5, 7", "idle": 1, "burst": 0}}),
            json!({"pids": {"limit": -1}}),
            json!({"pids": {"limit": 0}}),
            json!({"blockIO": {"weight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 9}]}),
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "rate": 1}, {"major": 8, "rate": 2}]}}),
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
            json!({"unified": {"memory.high": "100", "io.max": "8:0 rbps=1\n8:16 rbps=2"}}),
        ] {
            assert!(check(good.clone()).is_ok(), "{good}");
        }
    }

    #[test]
    fn refuses_what_no_kernel_could_take() {
        for (bad, part) in [
            (json!({"memory": {"limit": -2}}), "memory.limit to -2"),
            (json!({"memory": {"reservation": -5}}), "reservation"),
            (json!({"memory": {"limit": 1000, "swap": 999}}), "below the limit of memory"),
            (json!({"memory": {"swappiness": 101}}), "0 to 100"),
            (json!({"cpu": {"period": 999}}), "period"),
            (json!({"cpu": {"period": 1000001}}), "period"),
            (json!({"cpu": {"quota": 999}}), "quota"),
            (json!({"cpu": {"idle": 2}}), "0 or 1"),
            (json!({"cpu": {"cpus": "0-"}}), "list of numbers"),
            (json!({"cpu": {"cpus": "3-1"}}), "list of numbers"),
            (json!({"cpu": {"cpus": "0,,1"}}), "list of numbers"),
            (json!({"cpu": {"mems": "all"}}), "list of numbers"),
            (json!({"cpu": {"mems": "+1"}}), "list of numbers"),
            (json!({"pids": {"limit": -2}}), "pids.limit to -2"),
            (json!({"blockIO": {"weight": 9}}), "10 to 1000"),
            (json!({"blockIO": {"weight": 1001}}), "10 to 1000"),
            (json!({"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}}), "no device number"),
            (json!({"hugepageLimits": [{"pageSize": "2MB/../x", "limit": 0}]}), "page size"),
            (json!({"hugepageLimits": [{"pageSize": "02MB", "limit": 0}]}), "page size"),
            (json!({"rdma": {"a b": {}}}), "white space"),
            (json!({"unified": {"../memory.max": "1"}}), "file name"),
            (json!({"unified": {"": "1"}}), "file name"),
            (json!({"unified": {"memory": "1"}}), "name of a controller"),
            (json!({"network": {"priorities": [{"name": "eth0\nx", "priority": 1}]}}), "white space"),
        ] {
            let error = check(bad.clone()).expect_err(&bad.to_string());
            assert!(error.contains(part), "{error}");
        }
    }
}
