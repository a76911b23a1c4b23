// SPDX-License-Identifier: Apache-2.0
//! Whose cgroup a container is in, and who makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ctr_tests::leak::Leaks;
use ctr_tests::pty::Terminal;
use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::killed_runtime::status;
use crate::runtime::Scene;

/// Leaves the container in the caller's cgroup namespace, where it sees what cgroups it is really in.
fn share_cgroup_namespace(config: &mut Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
}

#[test]
fn without_a_cgroup_manager_the_container_stays_in_its_callers_cgroups() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /proc/self/cgroup; sleep 1000").edit(|config| {
        share_cgroup_namespace(config);
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    });
    let disabled = ["--cgroup-manager", "disabled"];
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let running = scene.make(&[&disabled[..], &["run"]].concat()).spawn();
    running.wait_for_output(&own);
    let state: Value = serde_json::from_slice(&fs::read(scene.dir().join("state.json")).unwrap()).unwrap();
    assert_eq!((&state["cgroupManager"], &state["cgroup"]), (&json!("disabled"), &json!({})));
    assert_eq!(scene.exec("cat /proc/self/cgroup").run().success().stdout, own);
    for verb in ["pause", "ps"] {
        scene.runtime(&[verb, &scene.id]).run().fails(1, &["has no cgroup"]);
    }
    scene.runtime(&["kill", "--all", &scene.id, "KILL"]).run().success();
    assert_eq!(running.wait().code(), 137);
}

// As runc: with the host's cgroup namespace, the host's cgroups.
#[test]
fn without_a_cgroup_namespace_the_container_sees_all_cgroups() {
    need!(Need::Root, Need::Busybox);
    if fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_err() {
        return ctr_tests::need::cannot("cgroup v2 is not all that there is");
    }
    let shared = |scene: Scene| scene.edit(share_cgroup_namespace);
    let script = "test -d /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup) && cat /sys/fs/cgroup/cgroup.stat";
    shared(Scene::new(script)).make(&["run"]).run().success();
    let own = Scene::new("cat /sys/fs/cgroup/cgroup.procs").make(&["run"]).run().success();
    assert_eq!(own.stdout, "1\n");
    // One that goes elsewhere is where further processes go, too, even if its first place is gone.
    let left = shared(Scene::new("sleep 1000"));
    left.make(&["run", "--detach"]).detaches().run().success();
    let state: Value = serde_json::from_slice(&fs::read(left.dir().join("state.json")).unwrap()).unwrap();
    let place = std::path::Path::new(state["cgroup"][""].as_str().unwrap());
    let elsewhere = place.with_file_name(format!("{}-elsewhere", left.id));
    fs::create_dir(&elsewhere).unwrap();
    let pid = fs::read_to_string(place.join("cgroup.procs")).unwrap();
    fs::write(elsewhere.join("cgroup.procs"), pid).unwrap();
    fs::remove_dir(place).unwrap();
    let name = elsewhere.file_name().unwrap().to_str().unwrap();
    let further = left.exec("sed -n s/^0:://p /proc/self/cgroup").run().success().stdout;
    assert!(further.trim().ends_with(name), "{further}");
    left.delete();
    fs::remove_dir(elsewhere).unwrap();
}

#[test]
fn a_slow_runtime_does_not_keep_its_containers_process_from_its_devices() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("tty").edit(|config| {
        config["process"]["terminal"] = json!(true);
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    // After it has denied all of them, on cgroup v1, and before it allows any. Only the runtime is slowed down; the container's process is not traced.
    let trace = scene.world.dir().join("trace");
    let denial = format!("/sys/fs/cgroup/devices/{}/devices.deny", scene.id);
    let trace = crate::runtime::text(&trace);
    let slowly = ["strace", "-o", trace, "-P", &denial, "--inject=write:delay_exit=300000"];
    let (code, screen) = Terminal::open(scene.make(&["run"]).through(&slowly), 24, 80).wait();
    assert!(code == 0 && screen.contains("/dev/pts/0"), "{code}: {screen}");
}

#[test]
fn limits_without_a_cgroup_are_refused() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| config["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    scene.make(&["--cgroup-manager=disabled", "run"]).run().fails(1, &["cannot set limits without cgroups"]);
    assert!(!scene.dir().exists());
}

/// The container's directories, by the names of hierarchies.
fn directories(scene: &Scene) -> BTreeMap<String, PathBuf> {
    let state: Value = serde_json::from_slice(&fs::read(scene.dir().join("state.json")).unwrap()).unwrap();
    serde_json::from_value(state["cgroup"].clone()).unwrap()
}

#[test]
fn delete_removes_the_cgroups_that_a_container_has_made_with_whoever_is_in_them() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let mut stray = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let mut frozen = false;
    for (name, directory) in directories(&scene) {
        let (inner, empty) = (directory.join("a/b"), directory.join("c/d/e"));
        // those that are mounted together have the same
        fs::create_dir_all(&inner).and_then(|()| fs::create_dir_all(&empty)).unwrap();
        if name == "cpuset" {
            for dir in [directory.join("a"), inner.clone()] {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    fs::write(dir.join(file), fs::read(directory.join(file)).unwrap()).unwrap();
                }
            }
        }
        fs::write(inner.join("cgroup.procs"), stray.id().to_string()).unwrap();
        frozen |= fs::write(inner.join("freezer.state"), "FROZEN").is_ok();
    }
    scene.delete();
    assert_eq!(stray.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
    if !frozen {
        ctr_tests::need::cannot("the part about frozen processes: the machine has no freezer of cgroup v1");
    }
}

#[test]
fn a_kill_of_a_container_without_its_own_pids_ends_what_outlives_its_first_process() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::of(None, &["--pid", "host"], "sleep 1000 & sleep 1000 & echo started; exit 0");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let killed = || scene.runtime(&["kill", &scene.id, "KILL"]).run();
    let state = || scene.runtime(&["state", &scene.id]).run().success().stdout;
    crate::runtime_lifecycle::wait_until("the first process has ended", || state().contains("stopped"));
    let members = || scene.runtime(&["ps", "--format", "json", &scene.id]).run().success().stdout;
    assert_eq!(members().matches(',').count(), 1, "two are left: {}", members());
    killed().success();
    crate::runtime_lifecycle::wait_until("all have ended", || members() == "[]\n" || members() == "null\n");
    killed().fails(1, &["container not running"]);
    scene.delete();
}

#[test]
fn a_cgroup_below_is_the_containers_and_its_limits_are_not() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /proc/self/cgroup; ls -d /sys/fs/cgroup/cgroup.procs; sleep 1000").edit(|config| {
        config["annotations"]["run.oci.delegate-cgroup"] = json!("in/ner");
        config["linux"]["resources"] = json!({});
    });
    if fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_err() {
        scene.make(&["run"]).run().fails(1, &["delegate-cgroup not supported on cgroup v1"]);
        return ctr_tests::need::cannot("cgroup v2 is not all that there is: delegation was only refused");
    }
    let running = scene.make(&["run"]).spawn();
    running.wait_for_output("0::/\n/sys/fs/cgroup/cgroup.procs\n");
    let inner = directories(&scene)[""].join("in/ner");
    assert_eq!(fs::read_to_string(inner.join("cgroup.procs")).unwrap().lines().count(), 1);
    assert_eq!(scene.exec("grep ^0: /proc/self/cgroup").run().success().stdout, "0::/\n");
    scene.delete();
    assert_eq!(running.wait().code(), 137);
    let outside = scene.edit(|config| config["annotations"]["run.oci.delegate-cgroup"] = json!("../x"));
    outside.make(&["run"]).run().fails(1, &["run.oci.delegate-cgroup=../x"]);
}

#[test]
fn a_cgroup_with_processes_stays_what_it_is_when_a_container_is_below() {
    need!(Need::Root, Need::Busybox);
    if !fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|names| names.contains("pids")) {
        return ctr_tests::need::cannot("no controller is in cgroup v2 alone");
    }
    let scene = Scene::new("sleep 1000");
    let above = PathBuf::from("/sys/fs/cgroup").join(format!("above-{}", scene.id));
    fs::create_dir(&above).unwrap();
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    fs::write(above.join("cgroup.procs"), other.id().to_string()).unwrap();
    let path = format!("/above-{}/below", scene.id);
    let scene = scene.edit(|config| {
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = json!({});
    });
    let kind = || fs::read_to_string(above.join("cgroup.type")).unwrap();
    scene.make(&["run", "--detach"]).detaches().run().success();
    assert_eq!(kind(), "domain\n");
    scene.delete();
    let scene = scene.edit(|config| config["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    scene.make(&["run"]).run().fails(1, &["enable the pids controller", "that cgroup holds processes of its own"]);
    assert_eq!(kind(), "domain\n");
    other.kill().and_then(|()| other.wait()).unwrap();
    fs::remove_dir(&above).unwrap();
}

#[test]
fn a_cgroup_below_new_ones_has_all_their_controllers() {
    need!(Need::Root, Need::Busybox);
    let root = PathBuf::from("/sys/fs/cgroup");
    let Ok(all) = fs::read_to_string(root.join("cgroup.subtree_control")) else {
        return ctr_tests::need::cannot("cgroup v2 is not all that there is");
    };
    let scene = Scene::new("sleep 1000");
    let path = format!("{}/deep/er", scene.id);
    let scene = scene.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{path}")));
    scene.make(&["run", "--detach"]).detaches().run().success();
    let sorted = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let there = sorted(&fs::read_to_string(root.join(&path).join("cgroup.controllers")).unwrap());
    assert!(there.is_superset(&sorted(&all)), "{there:?} {all}");
    scene.delete();
    fs::remove_dir(root.join(&scene.id).join("deep")).and_then(|()| fs::remove_dir(root.join(&scene.id))).unwrap();
}

#[test]
fn a_container_owns_the_cgroup_that_it_may_write_to() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000").edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (mapping.clone(), mapping);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []}));
    });
    if fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_err() {
        return ctr_tests::need::cannot("cgroup v2 is not all that there is");
    }
    let owner = |file: &str| scene.exec(&format!("stat -c %u /sys/fs/cgroup/{file}")).run().success().stdout;
    scene.make(&["run", "--detach"]).detaches().run().success();
    for (file, uid) in
        [(".", "0\n"), ("cgroup.procs", "0\n"), ("cgroup.subtree_control", "0\n"), ("cgroup.events", "65534\n")]
    {
        assert_eq!(owner(file), uid, "{file}");
    }
    scene.delete();
}

/// What a file of the container's memory cgroup says, by its name in v2 or in v1.
fn memory(scene: &Scene, v2: &str, v1: &str) -> String {
    let cgroups = Leaks::find(scene.world.dir(), &scene.id).cgroups;
    let read = |name: &str| cgroups.iter().find_map(|cgroup| fs::read_to_string(cgroup.join(name)).ok());
    read(v2).or_else(|| read(v1)).expect("memory is counted")
}

// The container's process is charged for all that is its own of the runtime's memory.
#[test]
fn a_container_is_made_in_512_kib_more_than_its_program_uses() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    let begin = || {
        scene.make(&["create"]).detaches().run().success();
        scene.runtime(&["start", &scene.id]).run().success();
    };
    begin();
    let used: u64 = memory(&scene, "memory.current", "memory.usage_in_bytes").trim().parse().unwrap();
    scene.delete();
    scene.rewrite(|config| config["linux"]["resources"]["memory"] = json!({ "limit": used + (512 << 10) }));
    for _ in 0..5 {
        begin();
        assert_eq!(status(&scene), "running");
        let events = memory(&scene, "memory.events", "memory.oom_control");
        assert!(events.contains("oom_kill 0"), "{used}: {events}");
        scene.delete();
    }
}
