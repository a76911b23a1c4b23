// SPDX-License-Identifier: Apache-2.0
//! Statistics from trees of files as the kernel writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

/// Directories with control files, as hierarchies of v1 (by controller) and v2 (the empty name).
struct Tree {
    root: PathBuf,
    cgroup: Cgroup,
}

impl Tree {
    fn new(name: &str, hierarchies: &[(&str, &[(&str, &str)])]) -> Self {
        let root = std::env::temp_dir().join(format!("ctr-stats-{name}-{}", std::process::id()));
        let mut paths = BTreeMap::new();
        for (controller, files) in hierarchies {
            let path = root.join(format!("at-{controller}"));
            fs::create_dir_all(&path).expect("writable");
            for (file, content) in *files {
                fs::write(path.join(file), content).expect("writable");
            }
            paths.insert((*controller).to_owned(), path);
        }
        Self { root, cgroup: Cgroup::try_from(paths).expect("absolute paths") }
    }

    fn json(&self) -> Value {
        serde_json::to_value(self.cgroup.stats().expect("readable")).expect("string keys")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const NO_CPUSET: &str = r#"{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,
    "memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,
    "sched_relax_domain_level":0}"#;

fn no_cpuset() -> Value {
    serde_json::from_str(NO_CPUSET).expect("test JSON")
}

#[test]
fn v2_is_told_in_the_units_and_names_of_v1() {
    let tree = Tree::new(
        "v2",
        &[(
            "",
            &[
                (
                    "cpu.stat",
                    "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
                ),
                ("cpu.pressure", "some avg10=0.00 avg60=1.50 avg300=0.07 total=99\nfull avg10=2.00 total=1\n"),
                ("memory.current", "4096\n"),
                ("memory.max", "8192\n"),
                ("memory.peak", "5000\n"),
                ("memory.swap.current", "10\n"),
                ("memory.swap.max", "1000\n"),
                ("memory.stat", "anon 7\nfile 9\n"),
                ("pids.current", "3\n"),
                ("pids.max", "max\n"),
                ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n"),
            ],
        )],
    );
    let expected = json!({
        "cpu": {
            "usage": {"total": 30_000, "kernel": 10_000, "user": 20_000},
            "throttling": {"periods": 4, "throttledPeriods": 3, "throttledTime": 2000},
            "psi": {
                "some": {"avg10": 0, "avg60": 1.5, "avg300": 0.07, "total": 99},
                "full": {"avg10": 2, "avg60": 0, "avg300": 0, "total": 1}
            }
        },
        "cpuset": no_cpuset(),
        "memory": {
            "cache": 9,
            "usage": {"limit": 8192, "usage": 4096, "max": 5000, "failcnt": 0},
            "swap": {"limit": 9192, "usage": 4106, "failcnt": 0},
            "raw": {"anon": 7, "file": 9}
        },
        "pids": {"current": 3},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}
            ],
            "ioServicedRecursive": [
                {"major": 8, "op": "Read", "value": 3}, {"major": 8, "op": "Write", "value": 4}
            ]
        },
        "hugetlb": {}
    });
    assert_eq!(tree.json(), expected);
}

#[test]
fn no_limit_is_the_largest_number() {
    let files = [("memory.current", "1"), ("memory.max", "max"), ("memory.swap.max", "5"), ("memory.stat", "")];
    let tree = Tree::new("max", &[("", &files)]);
    let stats = tree.cgroup.stats().expect("readable");
    assert_eq!((stats.memory.usage.limit, stats.memory.swap.limit), (u64::MAX, u64::MAX));
}

#[test]
fn v1_is_read_from_each_controllers_hierarchy() {
    let throttled = "8:0 Read 1\n8:0 Write 2\n8:0 Discard 0\n8:0 Total 3\nTotal 3\n";
    let tree = Tree::new(
        "v1",
        &[
            ("cpu", &[("cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n")]),
            (
                "cpuacct",
                &[
                    ("cpuacct.stat", "user 5\nsystem 6\n"),
                    ("cpuacct.usage", "100\n"),
                    ("cpuacct.usage_percpu", "40 60 \n"),
                    ("cpuacct.usage_all", "cpu user system\n0 30 10\n1 50 10\n"),
                ],
            ),
            (
                "cpuset",
                &[("cpuset.cpus", "0-2,7\n"), ("cpuset.mems", "0\n"), ("cpuset.sched_relax_domain_level", "-1\n")],
            ),
            (
                "memory",
                &[
                    ("memory.stat", "cache 11\nrss 22\nswap -4096\n"),
                    ("memory.usage_in_bytes", "10\n"),
                    ("memory.max_usage_in_bytes", "12\n"),
                    ("memory.failcnt", "2\n"),
                    ("memory.limit_in_bytes", "9223372036854771712\n"),
                    ("memory.kmem.usage_in_bytes", "4\n"),
                ],
            ),
            ("pids", &[("pids.current", "2\n"), ("pids.max", "20\n")]),
            (
                "blkio",
                &[
                    ("blkio.bfq.io_serviced_recursive", "Total 0\n"),
                    ("blkio.throttle.io_service_bytes_recursive", throttled),
                    ("blkio.throttle.io_serviced_recursive", "8:0 5\nTotal 5\n"),
                    ("blkio.throttle.io_serviced", "8:0 99\nTotal 99\n"),
                ],
            ),
        ],
    );
    let mut cpuset = no_cpuset();
    cpuset["cpus"] = json!([0, 1, 2, 7]);
    cpuset["mems"] = json!([0]);
    cpuset["sched_relax_domain_level"] = json!(-1);
    let bytes = [("Read", 1), ("Write", 2), ("Total", 3)];
    let mut bytes: Vec<Value> = bytes.iter().map(|(op, value)| json!({"major": 8, "op": op, "value": value})).collect();
    bytes.insert(2, json!({"major": 8, "op": "Discard"}));
    let expected = json!({
        "cpu": {
            "usage": {
                "total": 100, "percpu": [40, 60], "percpu_kernel": [10, 10], "percpu_user": [30, 50],
                "kernel": 60_000_000, "user": 50_000_000
            },
            "throttling": {"periods": 1, "throttledPeriods": 2, "throttledTime": 3}
        },
        "cpuset": cpuset,
        "memory": {
            "cache": 11,
            "usage": {"limit": 9_223_372_036_854_771_712_u64, "usage": 10, "max": 12, "failcnt": 2},
            "kernel": {"limit": 0, "usage": 4, "failcnt": 0},
            "raw": {"cache": 11, "rss": 22, "swap": 0}
        },
        "pids": {"current": 2, "limit": 20},
        "blkio": {"ioServiceBytesRecursive": bytes, "ioServicedRecursive": [{"major": 8, "value": 5}]},
        "hugetlb": {}
    });
    assert_eq!(tree.json(), expected);
}

#[test]
fn hybrid_has_v1s_counts_and_v2s_pressure() {
    let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
    let tree = Tree::new(
        "hybrid",
        &[
            ("", &[("memory.pressure", pressure), ("cpu.stat", "usage_usec 1\n"), ("memory.stat", "file 1\n")]),
            ("cpu", &[]),
            ("cpuacct", &[("cpuacct.usage", "7\n")]),
            ("memory", &[("memory.usage_in_bytes", "9\n")]),
        ],
    );
    let stats = tree.cgroup.stats().expect("readable");
    assert_eq!((stats.cpu.usage.total, stats.memory.usage.usage), (7, 9));
    assert_eq!(stats.memory.pressure.expect("it is there").some.total, 5);
    assert!(stats.memory.raw.is_empty() && stats.cpu.pressure.is_none());
}

#[test]
fn processes_are_counted_where_no_controller_does() {
    let tree = Tree::new("procs", &[("", &[("cgroup.procs", "5\n6\n")])]);
    assert_eq!(tree.cgroup.stats().expect("readable").pids, PidsStats { current: 2, limit: None });
}

#[test]
fn a_cgroup_that_is_gone_has_no_statistics() {
    let tree = Tree::new("gone", &[("", &[])]);
    fs::remove_dir_all(&tree.root).expect("ours");
    assert!(matches!(tree.cgroup.stats(), Err(CgroupError::Read { .. })));
}

#[test]
fn huge_pages_are_named_as_the_kernels_files_are() {
    for (directory, size) in [
        ("hugepages-64kB", Some("64KB")),
        ("hugepages-2048kB", Some("2MB")),
        ("hugepages-1048576kB", Some("1GB")),
        ("hugepages-16777216kB", Some("16GB")),
        ("other", None),
    ] {
        assert_eq!(hugepage_size(directory).as_deref(), size, "{directory}");
    }
}
