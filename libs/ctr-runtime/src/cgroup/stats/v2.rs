// SPDX-License-Identifier: Apache-2.0
//! Statistics from the control files of cgroup v2, under the names that v1 has for them.

use super::{ControlFiles, HugepageStats, IoEntry, MemoryUse, Pressure, Reader, Stats, hugepage_sizes, number};
use crate::cgroup::CgroupError;

/// What is read for each controller that no v1 hierarchy holds, by its v1 name.
pub(super) const READERS: [(&str, Reader); 5] =
    [("cpu", cpu), ("memory", memory), ("pids", pids), ("blkio", io), ("hugetlb", hugepages)];

fn cpu(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let table = files.table("cpu.stat")?.unwrap_or_default();
    let value = |key: &str| table.get(key).copied().unwrap_or_default();
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    let usage = &mut stats.cpu.usage;
    usage.total = nanoseconds("usage_usec");
    usage.user = nanoseconds("user_usec");
    usage.kernel = nanoseconds("system_usec");
    let throttling = &mut stats.cpu.throttling;
    throttling.periods = value("nr_periods");
    throttling.throttled_periods = value("nr_throttled");
    throttling.throttled_time = nanoseconds("throttled_usec");
    Ok(())
}

/// Pressure of processors, memory and block devices, where the kernel keeps account of it.
pub(super) fn pressure(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let read = |file| Ok::<_, CgroupError>(files.text(file)?.as_deref().map(parse_pressure));
    stats.cpu.pressure = read("cpu.pressure")?;
    stats.memory.pressure = read("memory.pressure")?;
    stats.io.pressure = read("io.pressure")?;
    Ok(())
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let stall = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let average = || value.parse().unwrap_or_default();
            match key {
                "avg10" => stall.avg10 = average(),
                "avg60" => stall.avg60 = average(),
                "avg300" => stall.avg300 = average(),
                "total" => stall.total = number(value).unwrap_or_default(),
                _ => {}
            }
        }
    }
    pressure
}

fn memory(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let Some(raw) = files.table("memory.stat")? else { return Ok(()) };
    let memory = &mut stats.memory;
    memory.cache = raw.get("file").copied().unwrap_or_default();
    memory.raw = raw;
    memory.usage = memory_use(files, "memory")?;
    let swap = memory_use(files, "memory.swap")?;
    memory.swap = MemoryUse {
        limit: swap.limit.saturating_add(memory.usage.limit),
        usage: swap.usage.saturating_add(memory.usage.usage),
        // the two were not highest at the same time
        max_usage: 0,
        failures: 0,
    };
    Ok(())
}

/// The highest use is told since Linux 5.19, that of swap since 6.5; there is no `swap` without swap accounting.
fn memory_use(files: &ControlFiles<'_>, kind: &str) -> Result<MemoryUse, CgroupError> {
    let value = |name: &str| Ok(files.number(&format!("{kind}.{name}"))?.unwrap_or_default());
    Ok(MemoryUse { limit: value("max")?, usage: value("current")?, max_usage: value("peak")?, failures: 0 })
}

/// The same files in both versions.
pub(super) fn pids(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    stats.pids.current = files.number("pids.current")?.unwrap_or_default();
    stats.pids.limit = files.number("pids.max")?.filter(|limit| *limit != u64::MAX);
    Ok(())
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    let text = files.text("io.stat")?.unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.io.service_bytes, "Read"),
                "wbytes" => (&mut stats.io.service_bytes, "Write"),
                "rios" => (&mut stats.io.serviced, "Read"),
                "wios" => (&mut stats.io.serviced, "Write"),
                _ => continue,
            };
            if let Some(value) = number(value) {
                list.push(IoEntry { major, minor, op: op.to_owned(), value });
            }
        }
    }
    Ok(())
}

fn hugepages(files: &ControlFiles<'_>, stats: &mut Stats) -> Result<(), CgroupError> {
    for size in hugepage_sizes() {
        // reserved pages are counted since Linux 5.7
        let reserved = files.number(&format!("hugetlb.{size}.rsvd.current"))?;
        let usage = match reserved {
            None => files.number(&format!("hugetlb.{size}.current"))?,
            reserved => reserved,
        };
        let Some(usage) = usage else { continue };
        let events = files.table(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let failures = events.get("max").copied().unwrap_or_default();
        stats.hugepages.insert(size, HugepageStats { usage, max_usage: 0, failures });
    }
    Ok(())
}
