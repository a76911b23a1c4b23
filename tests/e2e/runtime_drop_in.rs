// SPDX-License-Identifier: Apache-2.0
//! What the test suites of other runtimes expect of any: fine points that a caller may rely on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ctr_tests::{Need, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::runtime::{Scene, add_hook};

fn state(scene: &Scene) -> Value {
    serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().success().stdout).unwrap()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_until_stopped(scene: &Scene) {
    wait_until("the container does not stop", || state(scene)["status"] == "stopped");
}

fn without_pid_namespace(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
}

fn forbid(config: &mut Value, calls: &[&str], action: &str) {
    config["linux"]["seccomp"] =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": calls, "action": action}]});
}

#[test]
fn even_signal_0_is_refused_by_a_stopped_container() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    scene.runtime(&["kill", &scene.id, "0"]).run().success();
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    wait_until_stopped(&scene);
    scene.runtime(&["kill", &scene.id, "0"]).run().fails(1, &["container not running"]);
    scene.runtime(&["kill", "--all", &scene.id, "0"]).run().success();
    scene.delete();
}

#[test]
fn killing_reaches_what_outlived_the_first_process_in_a_shared_pid_namespace() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000 & exec sleep 1000").edit(without_pid_namespace);
    scene.make(&["run", "--detach"]).detaches().run().success();
    let pids = || scene.runtime(&["ps", "--format", "json", &scene.id]).run().success().json();
    wait_until("the second process does not start", || pids().as_array().unwrap().len() == 2);
    let first = i32::try_from(state(&scene)["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    wait_until_stopped(&scene);
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    wait_until("a process survives", || pids() == json!([]));
    scene.runtime(&["kill", &scene.id, "KILL"]).run().fails(1, &["container not running"]);
    scene.delete();
}

#[test]
fn a_created_container_ends_when_it_is_asked_to() {
    need!(Need::Root, Need::Busybox);
    for signal in ["TERM", "INT", "HUP"] {
        let scene = Scene::new("exec sleep 1000");
        scene.make(&["create"]).detaches().run().success();
        scene.runtime(&["kill", &scene.id, signal]).run().success();
        wait_until_stopped(&scene);
        scene.delete();
    }
}

#[test]
fn a_program_catches_nothing_although_it_waited_for_its_start() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["create"]).detaches().run().success();
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", state(&scene)["pid"])).unwrap();
        status.lines().find_map(|line| line.strip_prefix("SigCgt:\t").map(str::to_owned)).unwrap()
    };
    assert_ne!(caught(), "0000000000000000", "it would ignore what asks it to end");
    scene.runtime(&["start", &scene.id]).run().success();
    assert_eq!(caught(), "0000000000000000");
    scene.delete();
}

#[test]
fn hooks_that_start_the_container_are_as_confined_as_its_program() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        forbid(config, &["mkdir", "mkdirat"], "SCMP_ACT_KILL");
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        add_hook(config, "startContainer", "exec mkdir /tmp/made");
    });
    scene.make(&["run"]).run().fails(1, &["startContainer", "bad system call"]);
}

#[test]
fn a_profile_loaded_early_may_forbid_what_the_runtime_uses() {
    need!(Need::Root, Need::Busybox);
    let calls = ["close_range", "fsopen", "fsconfig", "fspick", "openat2", "open_tree", "move_mount", "mount_setattr"];
    let scene = Scene::new("echo runs").edit(|config| {
        forbid(config, &calls, "SCMP_ACT_ERRNO");
        config["process"]["noNewPrivileges"] = json!(false);
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "runs\n");
}

#[test]
fn a_user_who_may_override_permissions_may_execute() {
    need!(Need::Root, Need::Busybox);
    let with = |capabilities: &[&str]| {
        let scene = Scene::new("true").edit(|config| {
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                config["process"]["capabilities"][set] = json!(capabilities);
            }
        });
        let program = scene.world.dir().join("program");
        fs::copy(need::program("busybox").unwrap(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let scene = scene.edit(|config| {
            let mount = json!({"destination": "/tmp/true", "source": program, "options": ["bind"]});
            config["mounts"].as_array_mut().unwrap().push(mount);
            config["process"]["args"] = json!(["/tmp/true"]);
        });
        scene.make(&["run"]).run()
    };
    with(&[]).fails(1, &["permission denied"]);
    with(&["CAP_DAC_OVERRIDE"]).success();
}

#[test]
fn a_container_whose_config_names_no_cgroup_has_one_of_its_name() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000").edit(|config| {
        config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    scene.make(&["run", "--detach"]).detaches().run().success();
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", state(&scene)["pid"])).unwrap();
    let name = format!(":/{}", scene.id);
    assert!(cgroups.lines().any(|line| line.ends_with(&name)), "{cgroups}");
    scene.delete();
}
