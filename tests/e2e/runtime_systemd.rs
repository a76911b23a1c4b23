// SPDX-License-Identifier: Apache-2.0
//! Containers as scopes of systemd's.

use std::fs;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::Scene;
use crate::systemd::Systemd;

fn state(scene: &Scene) -> Value {
    serde_json::from_slice(&fs::read(scene.dir().join("state.json")).unwrap()).unwrap()
}

#[test]
fn a_container_is_a_scope_of_systemds() {
    need!(Need::Root, Need::Busybox, Need::Program("systemctl"));
    let scene = Scene::new("sleep 1000").edit(|config| {
        config["linux"]["cgroupsPath"] = json!("");
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        config["annotations"]["org.systemd.property.TimeoutStopSec"] = json!("uint64 7");
        config["annotations"]["org.systemd.property.Documentation"] = json!("['man:ctr(7)']");
    });
    let Some(systemd) = Systemd::boot(&scene.world) else { return };
    systemd.make(&scene, &["run", "--detach"]).run().success();
    let unit = format!("ctr-{}.scope", scene.id);
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryAccounting", "yes"),
        ("DevicePolicy", "strict"),
        ("TimeoutStopUSec", "7s"),
        ("Documentation", "\"man:ctr(7)\""),
        ("NeedDaemonReload", "no"),
        ("Description", &format!("container {}", scene.id)),
        ("ControlGroup", &format!("/system.slice/{unit}")),
    ] {
        assert_eq!(systemd.property(&scene, &unit, name), value, "{name}");
    }
    let told = systemd.runtime(&scene, &["state", &scene.id]).run().success().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["systemd-scope"], &told["status"]), (&json!(unit), &json!("running")));
    let saved = state(&scene);
    assert_eq!((&saved["systemdUnit"]["name"], &saved["cgroupManager"]), (&json!(unit), &json!("systemd")));
    let procs = systemd.cgroup.join("system.slice").join(&unit).join("cgroup.procs");
    assert_eq!(fs::read_to_string(&procs).unwrap().lines().count(), 1, "nobody else is there");
    systemd.runtime(&scene, &["exec", "--detach", &scene.id, "sleep", "1000"]).detaches().run().success();
    assert_eq!(fs::read_to_string(&procs).unwrap().lines().count(), 2);
    systemd.runtime(&scene, &["delete", "--force", &scene.id]).run().success();
    assert_eq!(systemd.property(&scene, &unit, "LoadState"), "not-found");
    assert!(!procs.parent().unwrap().exists() && !scene.dir().exists());
}

#[test]
fn a_failed_unit_gives_way_and_a_live_one_does_not() {
    need!(Need::Root, Need::Busybox, Need::Program("systemctl"), Need::Program("systemd-run"));
    let scene = Scene::new("sleep 1000").edit(|config| {
        config["linux"]["cgroupsPath"] = json!("a-b.slice:p:x");
        config["linux"].as_object_mut().unwrap().remove("resources");
        config["annotations"]["run.oci.systemd.subgroup"] = json!("in/ner");
    });
    let Some(systemd) = Systemd::boot(&scene.world) else { return };
    let failing = ["--scope", "--unit=p-x", "-p", "RuntimeMaxSec=100ms", "sleep", "1000"];
    systemd.inside(scene.world.program("systemd-run").args(failing)).run();
    crate::runtime_lifecycle::wait_until("the unit has failed", || {
        systemd.property(&scene, "p-x.scope", "ActiveState") == "failed"
    });
    let unit = "p-x.scope";
    let path = systemd.cgroup.join("a.slice/a-b.slice").join(unit).join("in/ner");
    systemd.make(&scene, &["run", "--detach"]).run().success();
    assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap().lines().count(), 1);
    assert_eq!(systemd.property(&scene, unit, "Slice"), "a-b.slice");
    let other = scene.world.dir().join("other");
    let root = ["--root", other.to_str().unwrap(), "--systemd-cgroup", "run"];
    let refused = systemd.inside(scene.make(&root)).run();
    refused.fails(1, &["start unit p-x.scope", "container's cgroup is not empty", "already"]);
    assert!(path.exists(), "what another has made stays");
    systemd.runtime(&scene, &["delete", "--force", &scene.id]).run().success();
    assert!(!path.parent().unwrap().parent().unwrap().exists());
}

#[test]
fn limits_are_set_by_systemd_and_in_the_control_files() {
    need!(Need::Root, Need::Busybox, Need::Program("systemctl"));
    let scene = Scene::new("sleep 1000").edit(|config| {
        config["linux"]["cgroupsPath"] = json!(":p:limits");
        config["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20, "reservation": 32 << 20}, "pids": {"limit": 20},
            "cpu": {"shares": 512, "quota": 12345, "period": 100_000, "cpus": "0"}, "blockIO": {"weight": 500},
            "unified": {"memory.high": "60000000", "hugetlb.2MB.max": "2097152"}
        });
    });
    let Some(systemd) = Systemd::boot(&scene.world) else { return };
    if !systemd.has_controllers() {
        let refused = systemd.make(&scene, &["run", "--detach"]).run();
        refused.fails(1, &["controller is not available"]);
        assert_eq!(systemd.property(&scene, "p-limits.scope", "LoadState"), "not-found");
        return ctr_tests::need::cannot("cgroup v2 has no controllers here: limits were only refused");
    }
    systemd.make(&scene, &["run", "--detach"]).run().success();
    for (property, value) in [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemoryHigh", "60000000"),
        ("TasksMax", "20"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "130ms"),
        ("AllowedCPUs", "0"),
        ("IOWeight", "4950"),
    ] {
        assert_eq!(systemd.property(&scene, "p-limits.scope", property), value, "{property}");
    }
    let cgroup = systemd.cgroup.join("system.slice/p-limits.scope");
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "59998208"),
        ("pids.max", "20"),
        ("cpu.weight", "59"),
        ("cpu.max", "13000 100000"),
        ("cpuset.cpus", "0"),
        ("hugetlb.2MB.max", "2097152"),
    ] {
        assert_eq!(fs::read_to_string(cgroup.join(file)).unwrap().trim(), value, "{file}");
    }
    // systemd has a quota for each second, which depends on what an update leaves as it was
    for (flag, limit, quota, max) in [
        ("--cpu-period", "50000", "250ms", "12500 50000"),
        ("--cpu-quota", "20000", "400ms", "20000 50000"),
        ("--pids-limit", "30", "400ms", "20000 50000"),
        ("--cpu-quota", "-1", "infinity", "max 50000"),
    ] {
        systemd.runtime(&scene, &["update", flag, limit, &scene.id]).run().success();
        assert_eq!(systemd.property(&scene, "p-limits.scope", "CPUQuotaPerSecUSec"), quota, "{flag}");
        assert_eq!(fs::read_to_string(cgroup.join("cpu.max")).unwrap().trim(), max, "{flag}");
    }
    assert_eq!(systemd.property(&scene, "p-limits.scope", "TasksMax"), "30");
    let both = systemd.runtime(&scene, &["update", "--cpu-share", "200", "--cpu-idle", "1", &scene.id]).run().success();
    assert!(both.stderr.contains("unable to apply both cpu.weight and cpu.idle"), "{}", both.stderr);
    let idle = || fs::read_to_string(cgroup.join("cpu.idle")).unwrap();
    assert_eq!(idle(), "1\n");
    systemd.runtime(&scene, &["update", "--cpu-share", "200", &scene.id]).run().success();
    assert_eq!(idle(), "0\n");
    for (unified, expected) in [(r#"{"cpu.idle": "1", "cpu.weight": "8"}"#, "1\n"), (r#"{"cpu.weight": "8"}"#, "0\n")] {
        let update = systemd.runtime(&scene, &["update", "-r", "-", &scene.id]);
        update.stdin(format!(r#"{{"unified": {unified}}}"#)).run().success();
        assert_eq!(idle(), expected, "{unified}");
    }
    systemd.runtime(&scene, &["delete", "--force", &scene.id]).run().success();
}

#[test]
fn a_container_may_be_one_process_alone() {
    need!(Need::Root, Need::Busybox, Need::Program("systemctl"));
    let scene = Scene::new("").edit(|config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        config["linux"]["cgroupsPath"] = json!(":p:alone");
        config["linux"]["resources"] = json!({"pids": {"limit": 0}});
    });
    let Some(systemd) = Systemd::boot(&scene.world) else { return };
    if !systemd.has_controllers() {
        return ctr_tests::need::cannot("cgroup v2 has no controllers here");
    }
    systemd.make(&scene, &["run", "--detach"]).run().success();
    let limit = systemd.cgroup.join("system.slice/p-alone.scope/pids.max");
    assert_eq!(fs::read_to_string(limit).unwrap().trim(), "1");
    assert_eq!(systemd.property(&scene, "p-alone.scope", "TasksMax"), "1");
    systemd.runtime(&scene, &["delete", "--force", &scene.id]).run().success();
}

#[test]
fn a_scope_whose_cgroup_is_frozen_is_refused() {
    need!(Need::Root, Need::Busybox, Need::Program("systemctl"));
    let scene = Scene::new("true").edit(|config| config["linux"]["cgroupsPath"] = json!(":p:frozen"));
    let Some(systemd) = Systemd::boot(&scene.world) else { return };
    let cgroup = systemd.cgroup.join("system.slice/p-frozen.scope");
    fs::create_dir_all(&cgroup).unwrap();
    fs::write(cgroup.join("cgroup.freeze"), "1").unwrap();
    for _ in 0..2 {
        systemd.make(&scene, &["run"]).run().fails(1, &["container's cgroup unexpectedly frozen"]);
        assert!(cgroup.exists() && !scene.dir().exists());
    }
}

#[test]
fn without_systemd_nothing_is_made() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| config["linux"]["cgroupsPath"] = json!(":p:x"));
    let nobody = format!("unix:path={}", scene.world.dir().join("nobody").display());
    let run = scene.make(&["--systemd-cgroup", "run"]).env("DBUS_SYSTEM_BUS_ADDRESS", nobody);
    run.run().fails(1, &["ask systemd for the container's cgroup", "connect to D-Bus", "(without systemd, use "]);
    assert!(!scene.dir().exists());
    let wrong = scene.edit(|config| config["linux"]["cgroupsPath"] = json!("/a/b"));
    wrong.make(&["--systemd-cgroup", "run"]).run().fails(1, &["expected cgroupsPath to be of format"]);
}
