// SPDX-License-Identifier: Apache-2.0
//! What a control file had before it was written, so that an update which fails half-way leaves no trace.

use std::path::{Path, PathBuf};

use super::control::{keyed, read_file, write_file};

/// A control file that was written, and what it had before.
#[derive(Debug)]
pub(super) struct Before {
    path: PathBuf,
    written: String,
    text: String,
}

impl Before {
    /// Notes what a file has before `value` is written to it; nothing where that cannot be read.
    pub(super) fn read(path: &Path, value: &str) -> Option<Self> {
        let text = read_file(path).ok()?;
        Some(Self { path: path.to_owned(), written: value.to_owned(), text })
    }

    fn restore(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        write_file(&self.path, &value_before(name, &self.written, &self.text)).is_ok()
    }
}

/// Sets everything back, the last first; returns the files that kept what was written.
pub(super) fn restore(list: Vec<Before>) -> Vec<PathBuf> {
    let failed: Vec<Before> = list.into_iter().rev().filter(|before| !before.restore()).collect();
    // Some bound each other: what the kernel refuses the first time it may take after the rest.
    failed.into_iter().filter(|before| !before.restore()).map(|before| before.path).collect()
}

/// What has to be written to a file, to which `written` was written, to have `text` in it again.
fn value_before(file: &str, written: &str, text: &str) -> String {
    if file == "memory.oom_control" {
        return keyed(text, "oom_kill_disable").unwrap_or("0").to_owned();
    }
    let key = written.split_ascii_whitespace().next().unwrap_or_default();
    let line_of = |key: &str| text.lines().find(|line| line.split_ascii_whitespace().next() == Some(key));
    if let Some(line) = line_of(key) {
        return line.to_owned();
    }
    // an entry of a device that had none
    if key.contains(':') {
        let nothing = match file {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            _ if file.contains("weight") => "default",
            _ => "0",
        };
        return format!("{key} {nothing}");
    }
    if file == "rdma.max" {
        return format!("{key} hca_handle=max hca_object=max");
    }
    let line = line_of("default").or_else(|| text.lines().next()).unwrap_or_default();
    // an empty write is none
    if line.is_empty() { "\n".to_owned() } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_is_set_back_by_what_it_had() {
        for (file, written, text, before) in [
            ("memory.max", "5", "max\n", "max"),
            ("cpu.max", "5000 10000", "max 100000\n", "max 100000"),
            ("cpu.max", "max", "5000 10000\n", "5000 10000"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpuset.cpus", "0", "", "\n"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "0"),
            ("io.weight", "500", "default 100\n8:0 7\n", "default 100"),
            ("io.weight", "8:0 500", "default 100\n8:0 7\n", "8:0 7"),
            ("io.bfq.weight", "8:0 500", "default 100\n", "8:0 default"),
            ("io.max", "8:0 rbps=1", "8:16 rbps=5\n8:0 rbps=2 wbps=max\n", "8:0 rbps=2 wbps=max"),
            ("io.max", "8:0 rbps=1", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("blkio.throttle.read_bps_device", "8:0 1", "8:16 9\n", "8:0 0"),
            ("blkio.bfq.weight_device", "8:0 1", "8:0 9\n", "8:0 9"),
            ("rdma.max", "mlx5_0 hca_handle=1", "", "mlx5_0 hca_handle=max hca_object=max"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 1\n", "eth0 1"),
        ] {
            assert_eq!(value_before(file, written, text), before, "{file} {written}");
        }
    }
}
