// SPDX-License-Identifier: Apache-2.0
//! What the machine has.

use std::fs;

use serde::Serialize;

/// The machine's resources, not a container's share of them.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors that are online.
    cpus: u32,
    /// Bytes of memory.
    memory: u64,
}

impl Machine {
    /// Looks; what cannot be read is 0.
    pub(crate) fn look() -> Self {
        let cpus = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self { cpus: count(&cpus), memory: total(&memory) }
    }
}

/// How many numbers a list of ranges (`0-3,8`) holds.
fn count(list: &str) -> u32 {
    let range = |range: &str| -> Option<u32> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.trim().split(',').filter_map(range).sum()
}

fn total(meminfo: &str) -> u64 {
    let kilobytes = |line: &str| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok();
    meminfo.lines().find_map(kilobytes).unwrap_or_default() << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_kilobytes_are_counted() {
        assert_eq!((count("0-3,8\n"), count("0\n"), count("")), (5, 1, 0));
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16 kB\n"), 16384);
    }
}
