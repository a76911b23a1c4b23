// SPDX-License-Identifier: Apache-2.0
//! Resources on a pure cgroup v2 with all its controllers: what config.json asks for is in the control files, and
//! what is used and had to be waited for is in the statistics.

use std::fs;
use std::path::{Path, PathBuf};

use ctr_tests::need::cannot;
use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::Scene;

/// Why these cannot be had here.
fn lacking(controllers: &[&str]) -> Option<String> {
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let missing = controllers.iter().find(|name| !there.split_whitespace().any(|word| word == **name))?;
    Some(format!("cgroup v2 has no {missing} controller here"))
}

/// The number of a disk.
fn disk() -> Option<(u64, u64)> {
    let numbers = fs::read_dir("/sys/block").ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let is_disk = !["loop", "ram", "zram", "sr"].iter().any(|kind| name.to_string_lossy().starts_with(kind));
        let number = fs::read_to_string(entry.path().join("dev")).ok().filter(|_| is_disk)?;
        let (major, minor) = number.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.min()
}

fn started(scene: &Scene) -> PathBuf {
    scene.make(&["run", "--detach"]).detaches().run().success();
    let pid = scene.runtime(&["ps", "--format", "json", &scene.id]).run().success().stdout;
    let pid = pid.trim().trim_matches(['[', ']']).to_owned();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    Path::new("/sys/fs/cgroup").join(cgroup.trim().strip_prefix("0::/").unwrap())
}

#[test]
fn each_controller_is_told_what_the_config_says() {
    need!(Need::Root, Need::Busybox);
    if let Some(reason) = lacking(&["cpu", "cpuset", "memory", "pids", "io", "hugetlb"]) {
        return cannot(&reason);
    }
    let Some((major, minor)) = disk() else { return cannot("there is no disk") };
    let limit = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let scene = Scene::new("exec sleep 1000").edit(|config| {
        config["linux"]["resources"] = json!({
            "cpu": {"shares": 2048, "quota": 20_000, "period": 50_000, "burst": 10_000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
            "pids": {"limit": 9},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
            "blockIO": {"throttleReadBpsDevice": limit(1 << 20), "throttleWriteIOPSDevice": limit(100)},
            "unified": {"memory.high": "50331648", "memory.oom.group": "1"},
        });
    });
    let cgroup = started(&scene);
    let io = format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100");
    for (file, value) in [
        ("cpu.weight", "174"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "33554432"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("pids.max", "9"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("io.max", &io),
    ] {
        assert_eq!(fs::read_to_string(cgroup.join(file)).unwrap().trim(), value, "{file}");
    }
    let data = statistics(&scene);
    assert_eq!((&data["pids"]["limit"], &data["memory"]["usage"]["limit"]), (&json!(9), &json!(64 << 20)));
    assert_eq!(data["hugetlb"]["2MB"]["failcnt"], 0, "{data}");
    assert!(data["cpu"]["throttling"]["periods"].is_u64(), "{data}");
    scene.delete();
}

fn statistics(scene: &Scene) -> Value {
    let line = scene.runtime(&["events", "--stats", &scene.id]).run().success().stdout;
    serde_json::from_str::<Value>(&line).unwrap()["data"].take()
}

#[test]
fn what_was_waited_for_is_in_the_statistics() {
    need!(Need::Root, Need::Busybox);
    if let Some(reason) = lacking(&["cpu", "memory", "io"]) {
        return cannot(&reason);
    }
    let busy = "while :; do :; done";
    let scene = Scene::new(busy).edit(|config| {
        config["linux"]["resources"]["cpu"] = json!({"quota": 1000, "period": 10_000});
    });
    let cgroup = started(&scene);
    if !cgroup.join("cpu.pressure").exists() {
        scene.delete();
        return cannot("this kernel does not count what is waited for (PSI)");
    }
    crate::runtime_lifecycle::wait_until("it has waited for the CPU", || {
        let cpu = &statistics(&scene)["cpu"];
        cpu["psi"]["some"]["total"].as_u64().unwrap() > 0 && cpu["throttling"]["throttledPeriods"].as_u64() > Some(0)
    });
    let data = statistics(&scene);
    // A kind that nobody had to wait for is left out.
    for part in ["memory", "blkio"] {
        assert!(data[part]["psi"].is_object(), "{part}: {data}");
    }
    scene.delete();
}

#[test]
fn a_limit_for_what_is_not_there_is_named() {
    need!(Need::Root, Need::Busybox);
    if let Some(reason) = lacking(&["hugetlb", "rdma"]) {
        return cannot(&reason);
    }
    let refused = |resources: Value, words: &[&str]| {
        let scene = Scene::new("true").edit(|config| config["linux"]["resources"] = resources);
        scene.make(&["run"]).run().fails(1, words);
        assert!(!scene.dir().exists());
    };
    refused(json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}), &["3MB"]);
    refused(json!({"rdma": {"nonesuch0": {"hcaHandles": 2}}}), &["rdma.max", "nonesuch0"]);
    refused(json!({"unified": {"memory.nonesuch": "1"}}), &["memory.nonesuch"]);
}
