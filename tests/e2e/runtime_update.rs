// SPDX-License-Identifier: Apache-2.0
//! `ctr-run update`: new limits of a container that exists, by the control files that they come to.

use std::fs;
use std::path::PathBuf;

use ctr_tests::{Need, Outcome, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

const MB: u64 = 1 << 20;

/// A container that waits, with limits.
fn waiting(resources: &Value) -> Scene {
    let scene = Scene::new("exec sleep 1000").edit(|config| {
        for (name, limit) in resources.as_object().unwrap() {
            config["linux"]["resources"][name] = limit.clone();
        }
    });
    scene.make(&["run", "--detach"]).detaches().run().success();
    scene
}

/// Where a controller's files are, and whether they are v1's.
fn controller(scene: &Scene, name: &str) -> (PathBuf, bool) {
    let state: Value = serde_json::from_slice(&fs::read(scene.dir().join("state.json")).unwrap()).unwrap();
    let on_v1 = !state["cgroup"][name].is_null();
    let path = &state["cgroup"][if on_v1 { name } else { "" }];
    (path.as_str().unwrap().into(), on_v1)
}

/// The content of a control file, by its names in v1 and in v2; `None` without such a file.
fn value(scene: &Scene, name: &str, v1: &str, v2: &str) -> Option<String> {
    let (path, on_v1) = controller(scene, name);
    let text = fs::read_to_string(path.join(if on_v1 { v1 } else { v2 })).ok()?;
    Some(text.trim().to_owned())
}

fn memory(scene: &Scene) -> Option<String> {
    value(scene, "memory", "memory.limit_in_bytes", "memory.max")
}

fn quota(scene: &Scene) -> Option<String> {
    if !controller(scene, "cpu").1 {
        return value(scene, "cpu", "", "cpu.max");
    }
    let quota = value(scene, "cpu", "cpu.cfs_quota_us", "")?.replace("-1", "max");
    Some(format!("{quota} {}", value(scene, "cpu", "cpu.cfs_period_us", "")?))
}

fn pids(scene: &Scene) -> Option<String> {
    value(scene, "pids", "pids.max", "pids.max")
}

fn update(scene: &Scene, flags: &[&str]) -> Outcome {
    scene.runtime(&["update"]).args(flags).arg(&scene.id).run()
}

fn update_by(scene: &Scene, resources: &Value) -> Outcome {
    scene.runtime(&["update", "--resources=-", &scene.id]).stdin(resources.to_string()).run()
}

/// The limits as the runtime has recorded them.
fn recorded(scene: &Scene) -> Value {
    let config: Value = serde_json::from_slice(&fs::read(scene.dir().join("config.json")).unwrap()).unwrap();
    config["linux"]["resources"].clone()
}

/// Says that the machine's cgroups lack something.
fn cannot(what: &str) {
    ctr_tests::need::cannot(&format!("the kernel offers no {what} here"));
}

#[test]
fn flags_change_limits_and_leave_the_others() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({"memory": {"limit": 32 * MB}, "pids": {"limit": 20}}));
    if memory(&scene).is_none() || pids(&scene).is_none() {
        scene.delete();
        return cannot("controllers of memory, cpu and pids");
    }
    update(&scene, &["--memory", "64M"]).success();
    assert_eq!(memory(&scene), Some((64 * MB).to_string()));
    assert_eq!(pids(&scene).as_deref(), Some("20"));
    update(&scene, &["--pids-limit", "-1", "--cpu-share", "512", "--memory-reservation", "8m"]).success();
    assert_eq!(pids(&scene).as_deref(), Some("max"));
    let (v1, v2) = ("memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(value(&scene, "memory", v1, v2), Some((8 * MB).to_string()));
    let shares = value(&scene, "cpu", "cpu.shares", "cpu.weight");
    assert_eq!(shares.as_deref(), Some(if controller(&scene, "cpu").1 { "512" } else { "59" }));
    update(&scene, &["-cpuset-cpus", "0", "--cpuset-mems=0", "--cpu-idle", "1"]).success();
    assert_eq!(value(&scene, "cpuset", "cpuset.cpus", "cpuset.cpus").as_deref(), Some("0"));
    assert_eq!(value(&scene, "cpu", "cpu.idle", "cpu.idle").as_deref(), Some("1"));
    update(&scene, &["--pids-limit", "0"]).success();
    assert_eq!(pids(&scene).as_deref(), Some("1"));
    update(&scene, &["--memory", "-1"]).success();
    assert!(memory(&scene).is_some_and(|limit| limit == "max" || limit.parse::<u64>().unwrap() > 1 << 60));
    let expected = json!({"limit": -1, "reservation": 8 * MB});
    assert_eq!((&recorded(&scene)["memory"], &recorded(&scene)["pids"]), (&expected, &json!({"limit": 0})));
    scene.delete();
}

#[test]
fn quota_and_period_each_keep_the_other() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({"cpu": {"quota": 500_000, "period": 1_000_000}}));
    if quota(&scene).is_none() {
        scene.delete();
        return cannot("cpu controller");
    }
    for (flags, expected) in [
        (&["--cpu-period", "900000"][..], "500000 900000"),
        (&["--cpu-quota", "600000"], "600000 900000"),
        (&["--cpu-quota", "-1"], "max 900000"),
        (&["--cpu-period", "10000", "--cpu-quota", "3000"], "3000 10000"),
        (&["--cpu-quota", "0"], "3000 10000"),
    ] {
        update(&scene, flags).success();
        assert_eq!(quota(&scene).as_deref(), Some(expected), "{flags:?}");
    }
    let burst = |scene: &Scene| value(scene, "cpu", "cpu.cfs_burst_us", "cpu.max.burst");
    if burst(&scene).is_some() {
        update(&scene, &["--cpu-burst", "2000"]).success();
        update(&scene, &["--cpu-period", "20000"]).success();
        assert_eq!(burst(&scene).as_deref(), Some("2000"));
        update(&scene, &["--cpu-burst", "0"]).success();
        assert_eq!(burst(&scene).as_deref(), Some("0"));
    }
    scene.delete();
}

#[test]
fn resources_come_from_standard_input_or_a_file() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({}));
    if memory(&scene).is_none() {
        scene.delete();
        return cannot("memory controller");
    }
    update_by(&scene, &json!({"memory": {"limit": 40 * MB}, "PIDS": {"Limit": 7}, "cpu": null})).success();
    assert_eq!(memory(&scene), Some((40 * MB).to_string()));
    assert_eq!(pids(&scene).as_deref(), Some("7"));
    let file = scene.world.dir().join("resources");
    fs::write(&file, json!({"memory": {"limit": 50 * MB}, "pids": {}}).to_string()).unwrap();
    let ignored = update(&scene, &["-r", text(&file), "--pids-limit", "9"]).success();
    assert!(ignored.stderr.contains("--pids-limit"), "{}", ignored.stderr);
    assert_eq!((memory(&scene), pids(&scene).as_deref()), (Some((50 * MB).to_string()), Some("7")));
    scene.delete();
}

#[test]
fn a_limit_of_memory_keeps_that_of_memory_and_swap() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({"memory": {"limit": 64 * MB}}));
    let swap = |scene: &Scene| value(scene, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    if swap(&scene).is_none() {
        scene.delete();
        return cannot("limit of swap");
    }
    // v2 counts swap alone
    let on_v1 = controller(&scene, "memory").1;
    let expect = |memory: u64, both: u64| Some((if on_v1 { both * MB } else { (both - memory) * MB }).to_string());
    for (flags, memory, both) in [
        (&["--memory-swap", "96M"][..], 64, 96),
        (&["--memory", "80M"], 80, 96),
        (&["--memory", "200M", "--memory-swap", "300M"], 200, 300),
        (&["--memory", "10M", "--memory-swap", "20M"], 10, 20),
    ] {
        update(&scene, flags).success();
        assert_eq!(swap(&scene), expect(memory, both), "{flags:?}");
    }
    update(&scene, &["--memory", "30M"]).fails(1, &["memory"]);
    assert_eq!(memory(&scene), Some((10 * MB).to_string()));
    update(&scene, &["--memory", "-1"]).success();
    assert!(swap(&scene).is_some_and(|limit| limit == "max" || limit.parse::<u64>().unwrap() > 1 << 60));
    scene.delete();
}

#[test]
fn a_failed_update_names_the_file_and_changes_nothing() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({"memory": {"limit": 64 * MB}}));
    if memory(&scene).is_none() || value(&scene, "cpuset", "cpuset.cpus", "cpuset.cpus").is_none() {
        scene.delete();
        return cannot("controllers of memory and cpusets");
    }
    let before = recorded(&scene);
    let failed = update_by(&scene, &json!({"memory": {"limit": 32 * MB}, "cpu": {"cpus": "4000"}}));
    failed.fails(1, &["cpuset.cpus", "4000"]);
    assert_eq!(memory(&scene), Some((64 * MB).to_string()));
    update_by(&scene, &json!({"memory": {"limit": 32 * MB}, "unified": {"nope.max": "1"}})).fails(1, &["nope"]);
    assert_eq!(memory(&scene), Some((64 * MB).to_string()));
    assert_eq!(recorded(&scene), before);
    assert!(!scene.dir().join(".config.json").exists());
    scene.delete();
}

#[test]
fn a_limit_below_use_is_refused_with_the_use() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({"memory": {"limit": 64 * MB, "swap": 64 * MB}}));
    if memory(&scene).is_none() {
        scene.delete();
        return cannot("memory controller");
    }
    scene.exec("mkdir -p /dev/shm; dd if=/dev/zero of=/dev/shm/x bs=1M count=16").run().success();
    let resources = json!({"memory": {"limit": 4 * MB, "checkBeforeUpdate": true}});
    update_by(&scene, &resources).fails(1, &["rejecting memory limit 4194304", "bytes are in use"]);
    assert_eq!(memory(&scene), Some((64 * MB).to_string()));
    scene.delete();
}

#[test]
fn senseless_limits_are_refused_by_name() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({}));
    for (flags, part) in [
        (&["--memory", "lots"][..], "invalid value for memory"),
        (&["--cpu-idle", "2"], "cpu.idle"),
        (&["--cpu-period", "100"], "cpu.period"),
        (&["--cpuset-cpus", "all"], "cpu.cpus"),
        (&["--pids-limit", "-5"], "pids.limit"),
        (&["--l3-cache-schema", "L3:0=f"], "Intel RDT"),
        (&["--resources", "/nope"], "/nope"),
    ] {
        update(&scene, flags).fails_with_one_line(&[part]);
    }
    update_by(&scene, &json!([1])).fails(1, &["object"]);
    update_by(&scene, &json!({"memory": {"limit": "5"}})).fails(1, &["linux.resources"]);
    scene.runtime(&["update", "-r", "-", &scene.id]).stdin("{").run().fails(1, &["standard input"]);
    scene.delete();
}

#[test]
fn devices_are_left_alone() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({}));
    update_by(&scene, &json!({"devices": [{"allow": true, "access": "rwm"}], "cpu": {}})).success();
    // fuse, which no container may use unless its config says so
    let opened = scene.exec("rm -f /k; mknod /k c 10 229 && head -c 1 /k").run();
    assert!(opened.stderr.contains("not permitted"), "{}", opened.stderr);
    assert!(!recorded(&scene)["devices"].to_string().contains(r#"{"allow":true,"access":"rwm"}"#));
    scene.delete();
}

#[test]
fn a_paused_container_stays_paused_and_a_stopped_one_has_no_limits() {
    need!(Need::Root, Need::Busybox);
    let scene = waiting(&json!({}));
    scene.runtime(&["pause", &scene.id]).run().success();
    update(&scene, &["--cpuset-cpus", "0"]).success();
    let state = || scene.runtime(&["state", &scene.id]).run().success().stdout;
    assert!(state().contains("\"paused\""), "{}", state());
    scene.runtime(&["resume", &scene.id]).run().success();
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    crate::runtime_lifecycle::wait_until("it has ended", || state().contains("\"stopped\""));
    update(&scene, &["--cpuset-cpus", "0"]).fails(1, &["container not running"]);
    scene.delete();
    update(&scene, &["--cpuset-cpus", "0"]).fails(1, &["container does not exist"]);
}
