// SPDX-License-Identifier: Apache-2.0
//! Statistics from the control files of cgroup v1.

use super::{ControlFiles, HugepageStats, IoEntry, IoStats, MemoryUse, Reader, Stats, hugepage_sizes, number};
use crate::cgroup::CgroupError;
use crate::plan::range;

/// What is read for each controller.
pub(super) const READERS: [(&str, Reader); 7] = [
    ("cpu", throttling),
    ("cpuacct", cpu_usage),
    ("cpuset", cpuset),
    ("memory", memory),
    ("pids", super::v2::pids),
    ("blkio", block_io),
    ("hugetlb", hugepages),
];

fn throttling(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let table = files.table("cpu.stat")?.unwrap_or_default();
    let value = |key: &str| table.get(key).copied().unwrap_or_default();
    let throttling = &mut stats.cpu.throttling;
    throttling.periods = value("nr_periods");
    throttling.throttled_periods = value("nr_throttled");
    throttling.throttled_time = value("throttled_time");
    Ok(())
}

fn cpu_usage(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    // USER_HZ, which is 100 on every architecture that there is a container for
    const TICK: u64 = 10_000_000;
    let table = files.table("cpuacct.stat")?.unwrap_or_default();
    let ticks = |key: &str| table.get(key).copied().unwrap_or_default().saturating_mul(TICK);
    let usage = &mut stats.cpu.usage;
    (usage.user, usage.kernel) = (ticks("user"), ticks("system"));
    usage.total = files.number("cpuacct.usage")?.unwrap_or_default();
    let text = files.text("cpuacct.usage_percpu")?.unwrap_or_default();
    usage.per_cpu = text.split_ascii_whitespace().filter_map(number).collect();
    // lines of processor, user and system below a title
    for line in files.text("cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let mut numbers = line.split_ascii_whitespace().skip(1).filter_map(number);
        if let (Some(user), Some(kernel)) = (numbers.next(), numbers.next()) {
            usage.per_cpu_user.push(user);
            usage.per_cpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn cpuset(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let cpuset = &mut stats.cpuset;
    cpuset.cpus = list(&files.text("cpuset.cpus")?.unwrap_or_default());
    cpuset.mems = list(&files.text("cpuset.mems")?.unwrap_or_default());
    for (file, value) in [
        ("cpuset.cpu_exclusive", &mut cpuset.cpu_exclusive),
        ("cpuset.mem_hardwall", &mut cpuset.mem_hardwall),
        ("cpuset.mem_exclusive", &mut cpuset.mem_exclusive),
        ("cpuset.memory_migrate", &mut cpuset.memory_migrate),
        ("cpuset.memory_spread_page", &mut cpuset.memory_spread_page),
        ("cpuset.memory_spread_slab", &mut cpuset.memory_spread_slab),
        ("cpuset.memory_pressure", &mut cpuset.memory_pressure),
        ("cpuset.sched_load_balance", &mut cpuset.sched_load_balance),
    ] {
        *value = files.number(file)?.unwrap_or_default();
    }
    let level = files.text("cpuset.sched_relax_domain_level")?;
    cpuset.sched_relax_domain_level = level.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    Ok(())
}

/// The members of a list of numbers and ranges.
fn list(text: &str) -> Vec<u16> {
    let numbers = |part: &str| range::parse(part, 1 << u16::BITS).ok();
    text.trim().split(',').filter_map(numbers).flatten().map(|number| number as u16).collect()
}

fn memory(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let memory = &mut stats.memory;
    memory.raw = files.table("memory.stat")?.unwrap_or_default();
    memory.cache = memory.raw.get("cache").copied().unwrap_or_default();
    memory.usage = memory_use(files, "memory")?;
    memory.swap = memory_use(files, "memory.memsw")?;
    memory.kernel = memory_use(files, "memory.kmem")?;
    memory.kernel_tcp = memory_use(files, "memory.kmem.tcp")?;
    Ok(())
}

/// Nothing where the kernel does not count that kind; newer ones have no limit of the kernel's memory.
fn memory_use(files: &ControlFiles<'_>, kind: &str) -> Result<MemoryUse, CgroupError> {
    let value = |name: &str| Ok(files.number(&format!("{kind}.{name}"))?.unwrap_or_default());
    Ok(MemoryUse {
        limit: value("limit_in_bytes")?,
        usage: value("usage_in_bytes")?,
        max_usage: value("max_usage_in_bytes")?,
        failures: value("failcnt")?,
    })
}

/// Which files there are depends on the scheduler: BFQ's with debugging, without, CFQ's (until Linux 5.0), or
/// those of throttling. The first kind that says anything is taken.
fn block_io(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    const ALL: [&str; 8] = [
        "io_service_bytes_recursive",
        "io_serviced_recursive",
        "io_queued_recursive",
        "io_service_time_recursive",
        "io_wait_time_recursive",
        "io_merged_recursive",
        "time_recursive",
        "sectors_recursive",
    ];
    const KINDS: [(&str, &[&str]); 4] = [
        ("blkio.bfq", &ALL),
        ("blkio", &ALL),
        ("blkio.throttle", &["io_service_bytes_recursive", "io_serviced_recursive"]),
        ("blkio.throttle", &["io_service_bytes", "io_serviced"]),
    ];
    for (kind, names) in KINDS {
        let mut tables = Vec::new();
        for name in names {
            tables.push(entries(&files.text(&format!("{kind}.{name}"))?.unwrap_or_default()));
        }
        if tables.iter().any(|table| !table.is_empty()) {
            let mut tables = tables.into_iter();
            let mut next = || tables.next().unwrap_or_default();
            stats.io = IoStats {
                service_bytes: next(),
                serviced: next(),
                queued: next(),
                service_time: next(),
                wait_time: next(),
                merged: next(),
                time: next(),
                sectors: next(),
                pressure: None,
            };
            break;
        }
    }
    Ok(())
}

/// Lines such as `8:0 Read 4096` or `8:0 4096`; the totals at the end belong to no device.
fn entries(text: &str) -> Vec<IoEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (op, value) = rest.trim().rsplit_once(' ').unwrap_or(("", rest));
        Some(IoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.trim().to_owned(),
            value: number(value.trim())?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn hugepages(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    for size in hugepage_sizes() {
        // reserved pages are counted since Linux 5.7
        for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
            let Some(usage) = files.number(&format!("{prefix}.usage_in_bytes"))? else { continue };
            let max_usage = files.number(&format!("{prefix}.max_usage_in_bytes"))?.unwrap_or_default();
            let failures = files.number(&format!("{prefix}.failcnt"))?.unwrap_or_default();
            stats.hugepages.insert(size, HugepageStats { usage, max_usage, failures });
            break;
        }
    }
    Ok(())
}
