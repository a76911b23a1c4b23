// SPDX-License-Identifier: Apache-2.0
//! Finds what a test has left on the machine: processes, mounts, cgroups.

use std::fs;
use std::path::{Path, PathBuf};

/// What carries a mark: a directory that belongs to one test, or an id that only it uses.
#[derive(Debug, Default)]
pub struct Leaks {
    /// Processes: pid and command line.
    pub processes: Vec<(i32, String)>,
    /// Mount points in this mount namespace.
    pub mounts: Vec<PathBuf>,
    /// Cgroup directories, innermost first.
    pub cgroups: Vec<PathBuf>,
}

impl Leaks {
    /// Looks for what names `dir`, and for cgroups whose path contains `id`.
    pub fn find(dir: &Path, id: &str) -> Self {
        let mut cgroups = Vec::new();
        find_cgroups(Path::new("/sys/fs/cgroup"), id, &mut cgroups);
        Self { processes: processes(dir, id), mounts: mounts(dir), cgroups }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.mounts.is_empty() && self.cgroups.is_empty()
    }
}

/// The processes that name `dir` in their command line or environment, whose root file system is made of it,
/// or whose cgroup's path contains `id`.
pub fn processes(dir: &Path, id: &str) -> Vec<(i32, String)> {
    let own_namespace = fs::read_link("/proc/self/ns/mnt").ok();
    let dir = dir.as_os_str().as_encoded_bytes();
    let has =
        |path: PathBuf, mark: &[u8]| fs::read(path).is_ok_and(|bytes| bytes.windows(mark.len()).any(|w| w == mark));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let proc = entry.path();
        let Ok(command) = fs::read(proc.join("cmdline")) else { continue };
        // A zombie or a kernel thread has no command line; the first is its parent's business.
        if command.is_empty() || pid.cast_unsigned() == std::process::id() {
            continue;
        }
        let elsewhere = fs::read_link(proc.join("ns/mnt")).ok() != own_namespace;
        if has(proc.join("cmdline"), dir)
            || has(proc.join("environ"), dir)
            || has(proc.join("cgroup"), id.as_bytes())
            || (elsewhere && has(proc.join("mountinfo"), dir))
        {
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// The mount points at or below `dir`, the last mounted first.
pub fn mounts(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
    table.lines().rev().filter_map(point).filter(|point| point.starts_with(dir)).collect()
}

fn find_cgroups(dir: &Path, id: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_cgroups(&entry.path(), id, found);
            if entry.path().to_string_lossy().contains(id) {
                found.push(entry.path());
            }
        }
    }
}
