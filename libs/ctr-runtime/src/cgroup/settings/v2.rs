// SPDX-License-Identifier: Apache-2.0
//! The control files of cgroup v2, with what v1 says converted; what v2 does not have is an error.

use std::borrow::Cow;
use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork};

use super::{First, IfAbsent, Setting};
use crate::cgroup::convert::{cpu_weight, io_weight, or_max, swap_max};
use crate::cgroup::limits::set;
use crate::cgroup::{CgroupError, Version};

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting::new(Version::V2, controller, file, value)
}

fn no_counterpart(field: &'static str) -> CgroupError {
    CgroupError::NoCounterpart { field, version: Version::V2 }
}

pub(super) fn memory(memory: &LinuxMemory, list: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if memory.swappiness().is_some() {
        return Err(no_counterpart("linux.resources.memory.swappiness"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(no_counterpart("linux.resources.memory.disableOOMKiller"));
    }
    let (limit, swap) = (set(memory.limit()), set(memory.swap()));
    let swap_max = swap_max(limit, swap)?;
    // v1 refuses a limit below use; v2 would reclaim, and then kill
    let check = |limit: Option<i64>| match limit.and_then(|limit| u64::try_from(limit).ok()) {
        Some(limit) if memory.check_before_update() == Some(true) => First::CompareUse("memory.current", limit),
        _ => First::Nothing,
    };
    if let Some(max) = swap_max {
        // without swap in the kernel there is none to limit, unless some was asked for
        let if_absent = if max <= 0 { IfAbsent::Skip } else { IfAbsent::Fail };
        list.push(setting("memory", "memory.swap.max", or_max(max)).if_absent(if_absent).first(check(swap)));
    }
    if let Some(limit) = limit {
        list.push(setting("memory", "memory.max", or_max(limit)).first(check(Some(limit))));
    }
    if let Some(reservation) = set(memory.reservation()) {
        list.push(setting("memory", "memory.low", or_max(reservation)));
    }
    Ok(())
}

pub(super) fn cpuset(cpu: &LinuxCpu, list: &mut Vec<Setting>) {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            list.push(setting("cpuset", file, value));
        }
    }
}

/// Burst and quota bound one another: what the kernel refuses the first time is written again last.
pub(super) fn cpu(cpu: &LinuxCpu, list: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if set(cpu.realtime_runtime()).is_some() {
        return Err(no_counterpart("linux.resources.cpu.realtimeRuntime"));
    }
    if set(cpu.realtime_period()).is_some() {
        return Err(no_counterpart("linux.resources.cpu.realtimePeriod"));
    }
    if let Some(shares) = set(cpu.shares()) {
        list.push(setting("cpu", "cpu.weight", cpu_weight(shares)));
    }
    if let Some(burst) = cpu.burst() {
        list.push(setting("cpu", "cpu.max.burst", burst));
    }
    match (set(cpu.quota()), set(cpu.period())) {
        (None, None) => {}
        (Some(quota), None) => list.push(setting("cpu", "cpu.max", or_max(quota))),
        (Some(quota), Some(period)) => {
            list.push(setting("cpu", "cpu.max", format!("{} {period}", or_max(quota))));
        }
        (None, Some(period)) => list.push(setting("cpu", "cpu.max", period).first(First::KeepQuota)),
    }
    // after the weight: an idle cgroup refuses it
    if let Some(idle) = cpu.idle() {
        list.push(setting("cpu", "cpu.idle", idle));
    }
    Ok(())
}

pub(super) fn block_io(block_io: &LinuxBlockIo, list: &mut Vec<Setting>) -> Result<(), CgroupError> {
    let devices = || block_io.weight_device().iter().flatten();
    if set(block_io.leaf_weight()).is_some() || devices().any(|device| set(device.leaf_weight()).is_some()) {
        return Err(no_counterpart("linux.resources.blockIO.leafWeight"));
    }
    // BFQ has its own file, where it is loaded, with the range of v1.
    if let Some(weight) = set(block_io.weight()) {
        let converted = IfAbsent::Write("io.weight", io_weight(weight).to_string());
        list.push(setting("io", "io.bfq.weight", weight).if_absent(converted));
    }
    for device in devices() {
        let value = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = set(device.weight()) {
            let converted = IfAbsent::Write("io.weight", value(io_weight(weight)));
            list.push(setting("io", "io.bfq.weight", value(weight.into())).if_absent(converted));
        }
    }
    let throttles = [
        ("rbps", block_io.throttle_read_bps_device()),
        ("wbps", block_io.throttle_write_bps_device()),
        ("riops", block_io.throttle_read_iops_device()),
        ("wiops", block_io.throttle_write_iops_device()),
    ];
    for (key, devices) in throttles {
        for device in devices.iter().flatten() {
            // v1 lifts the limit with 0, which v2 refuses
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            list.push(setting("io", "io.max", format!("{}:{} {key}={rate}", device.major(), device.minor())));
        }
    }
    Ok(())
}

pub(super) fn hugepages(limit: &LinuxHugepageLimit, list: &mut Vec<Setting>) {
    let file = |name: &str| format!("hugetlb.{}.{name}", limit.page_size());
    list.push(Setting::new(Version::V2, "hugetlb", file("max"), or_max(limit.limit())));
    // reservations have a limit of their own since Linux 5.7
    let reserved = Setting::new(Version::V2, "hugetlb", file("rsvd.max"), or_max(limit.limit()));
    list.push(reserved.if_absent(IfAbsent::Skip));
}

pub(super) fn network(network: &LinuxNetwork) -> Result<(), CgroupError> {
    if set(network.class_id()).is_some() {
        return Err(no_counterpart("linux.resources.network.classID"));
    }
    if network.priorities().iter().flatten().next().is_some() {
        return Err(no_counterpart("linux.resources.network.priorities"));
    }
    Ok(())
}

/// Each key is a file, each line of its value a write, as the files of one entry a line take them.
pub(super) fn unified(
    unified: &HashMap<String, String>,
    on_v1: impl Fn(&str) -> bool,
    list: &mut Vec<Setting>,
) -> Result<(), CgroupError> {
    let mut entries: Vec<_> = unified.iter().collect();
    entries.sort();
    for (key, value) in entries {
        let controller = key.split('.').next().unwrap_or(key);
        if controller != "cgroup" && on_v1(if controller == "io" { "blkio" } else { controller }) {
            return Err(CgroupError::UnifiedOnV1 { file: key.clone(), controller: controller.to_owned() });
        }
        for line in value.trim_end_matches('\n').split('\n') {
            list.push(Setting {
                controller: Cow::Owned(controller.to_owned()),
                version: Version::V2,
                file: Cow::Owned(key.clone()),
                value: line.to_owned(),
                if_absent: IfAbsent::Fail,
                first: First::Nothing,
            });
        }
    }
    Ok(())
}
