// SPDX-License-Identifier: Apache-2.0
//! Tables of limits and what they come to.

use serde_json::{Value, json};

use super::*;

fn lines(resources: Value, on_v1: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let resources = serde_json::from_value(resources).expect("test JSON");
    let settings = Limits::from_spec(&resources).expect("valid limits").settings(on_v1);
    let line = |setting: &Setting| {
        let end = match &setting.if_absent {
            IfAbsent::Fail => String::new(),
            IfAbsent::Skip => "?".to_owned(),
            IfAbsent::Write(file, value) => format!(" else {file}={value}"),
        };
        format!("{}={}{end}", setting.file, setting.value)
    };
    settings.map(|list| list.iter().map(line).collect()).map_err(|error| error.to_string())
}

#[track_caller]
fn expect(resources: Value, v1: &[&str], v2: &[&str]) {
    assert_eq!(lines(resources.clone(), |_| true).expect("v1"), v1);
    assert_eq!(lines(resources, |_| false).expect("v2"), v2);
}

#[test]
fn memory_and_swap() {
    expect(
        json!({"memory": {"limit": 100, "swap": 150, "reservation": 50}}),
        &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150", "memory.soft_limit_in_bytes=50"],
        &["memory.swap.max=50", "memory.max=100", "memory.low=50"],
    );
    expect(
        json!({"memory": {"limit": 100, "swap": 100}}),
        &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=100"],
        &["memory.swap.max=0?", "memory.max=100"],
    );
    expect(
        json!({"memory": {"limit": -1}}),
        &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1?"],
        &["memory.swap.max=max?", "memory.max=max"],
    );
    expect(json!({"memory": {"limit": 7}}), &["memory.limit_in_bytes=7"], &["memory.max=7"]);
    expect(json!({"memory": {"limit": 0, "swap": 0}}), &[], &[]);
    expect(json!({"memory": {"kernel": 5, "kernelTCP": 6, "useHierarchy": true}}), &[], &[]);
    expect(json!({"memory": {"disableOOMKiller": false}}), &["memory.oom_control=0"], &[]);
}

#[test]
fn cpu_time() {
    expect(
        json!({"cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 0}}),
        &["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_burst_us=0", "cpu.cfs_quota_us=50000"],
        &["cpu.weight=100", "cpu.max.burst=0", "cpu.max=50000 100000"],
    );
    expect(json!({"cpu": {"quota": -1}}), &["cpu.cfs_quota_us=-1"], &["cpu.max=max"]);
    expect(
        json!({"cpu": {"quota": -7, "period": 1000}}),
        &["cpu.cfs_period_us=1000", "cpu.cfs_quota_us=-1"],
        &["cpu.max=max 1000"],
    );
    expect(
        json!({"cpu": {"cpus": "0-1", "mems": "0", "idle": 1}}),
        &["cpuset.cpus=0-1", "cpuset.mems=0", "cpu.idle=1"],
        &["cpuset.cpus=0-1", "cpuset.mems=0", "cpu.idle=1"],
    );
}

#[test]
fn period_alone_keeps_the_quota() {
    let resources = serde_json::from_value(json!({"cpu": {"period": 20000}})).expect("test JSON");
    let settings = Limits::from_spec(&resources).expect("valid").settings(|_| false).expect("v2");
    assert_eq!((settings[0].value.as_str(), settings[0].first), ("20000", First::KeepQuota));
}

#[test]
fn use_is_compared_on_request_only() {
    let compare = |limit| First::CompareUse("memory.current", limit);
    for (check, first) in [(true, [compare(150), compare(100)]), (false, [First::Nothing, First::Nothing])] {
        let resources = json!({"memory": {"limit": 100, "swap": 150, "checkBeforeUpdate": check}});
        let resources = serde_json::from_value(resources).expect("test JSON");
        let settings = Limits::from_spec(&resources).expect("valid").settings(|_| false).expect("v2");
        assert_eq!([settings[0].first, settings[1].first], first);
    }
}

#[test]
fn pids_zero_is_a_limit() {
    for (limit, value) in [(0, "pids.max=1"), (-1, "pids.max=max"), (5, "pids.max=5")] {
        expect(json!({"pids": {"limit": limit}}), &[value], &[value]);
    }
}

#[test]
fn block_io() {
    expect(
        json!({"blockIO": {
            "weight": 100,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
        }}),
        &[
            "blkio.weight=100 else blkio.bfq.weight=100",
            "blkio.weight_device=8:0 500 else blkio.bfq.weight_device=8:0 500",
            "blkio.throttle.read_bps_device=8:0 600",
            "blkio.throttle.write_iops_device=8:16 0",
        ],
        &[
            "io.bfq.weight=100 else io.weight=910",
            "io.bfq.weight=8:0 500 else io.weight=8:0 4950",
            "io.max=8:0 rbps=600",
            "io.max=8:16 wiops=max",
        ],
    );
}

#[test]
fn huge_pages_and_rdma() {
    expect(
        json!({
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
            "rdma": {"c": {"hcaObjects": 4, "hcaHandles": 5}, "b": {"hcaHandles": 3}, "a": {}}
        }),
        &[
            "hugetlb.2MB.limit_in_bytes=9",
            "hugetlb.2MB.rsvd.limit_in_bytes=9?",
            "rdma.max=b hca_handle=3",
            "rdma.max=c hca_handle=5 hca_object=4",
        ],
        &[
            "hugetlb.2MB.max=9",
            "hugetlb.2MB.rsvd.max=9?",
            "rdma.max=b hca_handle=3",
            "rdma.max=c hca_handle=5 hca_object=4",
        ],
    );
}

#[test]
fn unified_comes_last_and_line_by_line() {
    let resources = json!({
        "memory": {"limit": 5},
        "unified": {"memory.max": "6", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cpu.weight": "7"},
    });
    let expected = ["memory.max=5", "cpu.weight=7", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.max=6"];
    assert_eq!(lines(resources, |_| false).expect("v2"), expected);
}

#[test]
fn unified_files_of_a_controller_of_v1_are_no_such() {
    for (key, controller) in [("memory.min", "memory"), ("io.max", "io")] {
        let error = lines(json!({"unified": {key: "1"}}), |v1| matches!(v1, "memory" | "blkio")).expect_err(key);
        assert!(error.contains("invalid configuration") && error.contains(controller), "{error}");
    }
    let settings = lines(json!({"unified": {"cgroup.max.depth": "1", "hugetlb.2MB.max": "0"}}), |v1| v1 == "memory");
    assert_eq!(settings.expect("v2 has them"), ["cgroup.max.depth=1", "hugetlb.2MB.max=0"]);
}

#[test]
fn each_controller_goes_where_it_is() {
    let resources = json!({"memory": {"limit": 5}, "hugepageLimits": [{"pageSize": "2MB", "limit": 9}]});
    let hybrid = lines(resources, |controller| controller != "hugetlb").expect("hybrid");
    assert_eq!(hybrid, ["memory.limit_in_bytes=5", "hugetlb.2MB.max=9", "hugetlb.2MB.rsvd.max=9?"]);
}

#[test]
fn what_v2_lacks_is_an_error() {
    for (resources, part) in [
        (json!({"memory": {"swappiness": 10}}), "swappiness"),
        (json!({"memory": {"disableOOMKiller": true}}), "disableOOMKiller"),
        (json!({"memory": {"swap": 10}}), "needs a limit of memory"),
        (json!({"cpu": {"realtimeRuntime": 10}}), "realtimeRuntime"),
        (json!({"cpu": {"realtimePeriod": 10}}), "realtimePeriod"),
        (json!({"blockIO": {"leafWeight": 10}}), "leafWeight"),
        (json!({"network": {"classID": 10}}), "classID"),
        (json!({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}), "priorities"),
    ] {
        assert!(lines(resources.clone(), |_| true).is_ok(), "{resources}");
        let error = lines(resources, |_| false).expect_err(part);
        assert!(error.contains(part), "{error}");
    }
    expect(json!({"network": {}}), &[], &[]);
}
