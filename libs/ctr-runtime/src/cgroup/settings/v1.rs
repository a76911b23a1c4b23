// SPDX-License-Identifier: Apache-2.0
//! The control files of cgroup v1.
//!
//! Kernel memory has no limit of its own any more (the kernel ignores or refuses it), so none is written.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork};

use super::{IfAbsent, Setting};
use crate::cgroup::Version;
use crate::cgroup::limits::set;

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting::new(Version::V1, controller, file, value)
}

/// Which of memory and memory plus swap must come first depends on what is in force: the limit that the
/// kernel refuses the first time is written again after the other.
pub(super) fn memory(memory: &LinuxMemory, list: &mut Vec<Setting>) {
    let limit = set(memory.limit());
    if let Some(limit) = limit {
        list.push(setting("memory", "memory.limit_in_bytes", limit));
    }
    match (limit, set(memory.swap())) {
        (_, Some(swap)) => list.push(setting("memory", "memory.memsw.limit_in_bytes", swap)),
        // no limit of memory is none of memory plus swap, where swap is accounted at all
        (Some(-1), None) => {
            list.push(setting("memory", "memory.memsw.limit_in_bytes", -1).if_absent(IfAbsent::Skip));
        }
        _ => {}
    }
    if let Some(reservation) = set(memory.reservation()) {
        list.push(setting("memory", "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(swappiness) = memory.swappiness() {
        list.push(setting("memory", "memory.swappiness", swappiness));
    }
    if let Some(disable) = memory.disable_oom_killer() {
        list.push(setting("memory", "memory.oom_control", u8::from(disable)));
    }
}

pub(super) fn cpuset(cpu: &LinuxCpu, list: &mut Vec<Setting>) {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            list.push(setting("cpuset", file, value));
        }
    }
}

/// Period, burst and quota bound one another: what the kernel refuses the first time is written again last.
pub(super) fn cpu(cpu: &LinuxCpu, list: &mut Vec<Setting>) {
    if let Some(shares) = set(cpu.shares()) {
        list.push(setting("cpu", "cpu.shares", shares));
    }
    if let Some(period) = set(cpu.period()) {
        list.push(setting("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(burst) = cpu.burst() {
        list.push(setting("cpu", "cpu.cfs_burst_us", burst));
    }
    if let Some(quota) = set(cpu.quota()) {
        list.push(setting("cpu", "cpu.cfs_quota_us", quota.max(-1)));
    }
    if let Some(period) = set(cpu.realtime_period()) {
        list.push(setting("cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = set(cpu.realtime_runtime()) {
        list.push(setting("cpu", "cpu.rt_runtime_us", runtime));
    }
    // after the shares: an idle cgroup refuses them
    if let Some(idle) = cpu.idle() {
        list.push(setting("cpu", "cpu.idle", idle));
    }
}

pub(super) fn block_io(block_io: &LinuxBlockIo, list: &mut Vec<Setting>) {
    // Which weight files exist depends on the scheduler: CFQ's (until Linux 5.0) or BFQ's.
    let weight = |file, bfq, value: String| setting("blkio", file, &value).if_absent(IfAbsent::Write(bfq, value));
    if let Some(value) = set(block_io.weight()) {
        list.push(weight("blkio.weight", "blkio.bfq.weight", value.to_string()));
    }
    if let Some(value) = set(block_io.leaf_weight()) {
        list.push(setting("blkio", "blkio.leaf_weight", value));
    }
    for device in block_io.weight_device().iter().flatten() {
        let value = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(w) = set(device.weight()) {
            list.push(weight("blkio.weight_device", "blkio.bfq.weight_device", value(w)));
        }
        if let Some(w) = set(device.leaf_weight()) {
            list.push(setting("blkio", "blkio.leaf_weight_device", value(w)));
        }
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", block_io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block_io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block_io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block_io.throttle_write_iops_device()),
    ];
    for (file, devices) in throttles {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            list.push(setting("blkio", file, value));
        }
    }
}

pub(super) fn hugepages(limit: &LinuxHugepageLimit, list: &mut Vec<Setting>) {
    let file = |name: &str| format!("hugetlb.{}.{name}", limit.page_size());
    list.push(Setting::new(Version::V1, "hugetlb", file("limit_in_bytes"), limit.limit()));
    // reservations have a limit of their own since Linux 5.7
    let reserved = Setting::new(Version::V1, "hugetlb", file("rsvd.limit_in_bytes"), limit.limit());
    list.push(reserved.if_absent(IfAbsent::Skip));
}

pub(super) fn network(network: &LinuxNetwork, list: &mut Vec<Setting>) {
    if let Some(class) = set(network.class_id()) {
        list.push(setting("net_cls", "net_cls.classid", class));
    }
    for priority in network.priorities().iter().flatten() {
        let value = format!("{} {}", priority.name(), priority.priority());
        list.push(setting("net_prio", "net_prio.ifpriomap", value));
    }
}
