// SPDX-License-Identifier: Apache-2.0
//! Whether the kernel killed anything in the container's cgroup for want of memory.

use std::fs;
use std::path::PathBuf;

use ctr_store::task::cgroups_of;
use nix::unistd::Pid;

/// The kernel's count of such kills.
pub(crate) struct OomCounter {
    file: PathBuf,
    before: u64,
}

impl OomCounter {
    /// The counter of a process' memory cgroup; none without one.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let cgroups = cgroups_of(pid).ok()?;
        let v1 = cgroups.iter().find(|cgroup| cgroup.controllers.iter().any(|name| name == "memory"));
        let v1 = v1.map(|cgroup| cgroup.directory.join("memory.oom_control"));
        let v2 = || cgroups.iter().find(|cgroup| cgroup.controllers.is_empty());
        let file = v1.or_else(|| Some(v2()?.directory.join("memory.events")))?;
        let before = count(&fs::read_to_string(&file).ok()?)?;
        Some(Self { file, before })
    }

    /// Whether it has counted since.
    pub(crate) fn has_risen(&self) -> bool {
        fs::read_to_string(&self.file).ok().and_then(|text| count(&text)).is_some_and(|now| now > self.before)
    }
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_file_are_read() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count("low 0\n"), None);
    }
}
