// SPDX-License-Identifier: Apache-2.0
//! `ctr-run plan`: what would be done is what is done, and nothing is.

use std::fs;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

fn plan(scene: &Scene) -> Value {
    let printed = scene.make(&["plan"]).run().success();
    assert_eq!(printed.stderr, "");
    serde_json::from_str(&printed.stdout).unwrap()
}

#[test]
fn a_plan_is_what_create_does() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000").edit(|config| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864}, "cpu": {"shares": 512}, "pids": {"limit": 77}
        });
        let mount =
            json!({"destination": "/data/./x/../y", "source": "/usr", "type": "none", "options": ["rbind", "ro"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let plan = plan(&scene);
    assert_eq!((&plan["version"], &plan["id"]), (&json!(1), &json!(scene.id)));
    let cgroups: Vec<&str> = plan["cgroup"]["paths"].as_object().unwrap().values().filter_map(Value::as_str).collect();
    assert!(!scene.dir().exists() && cgroups.iter().all(|path| !std::path::Path::new(path).exists()));

    scene.make(&["create"]).detaches().run().success();
    for cgroup in cgroups {
        assert!(fs::exists(cgroup).unwrap(), "{cgroup}");
    }
    let files = plan["cgroup"]["files"].as_array().unwrap();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let (path, value) = (file["file"].as_str().unwrap(), file["value"].as_str().unwrap());
        assert_eq!(fs::read_to_string(path).unwrap().trim(), value, "{path}");
    }
    let state: Value = serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().success().stdout).unwrap();
    let mountinfo = fs::read_to_string(format!("/proc/{}/mountinfo", state["pid"])).unwrap();
    let mounted: Vec<&str> = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for mount in plan["mounts"].as_array().unwrap() {
        let destination = mount["destination"].as_str().unwrap();
        assert!(mounted.contains(&destination), "{destination}: {mounted:?}");
    }
    let bind = plan["mounts"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&bind["destination"], &bind["kind"], &bind["source"]),
        (&json!("/data/y"), &json!("bind"), &json!("/usr"))
    );
    assert_eq!(bind["options"]["attributes"], json!(["ro"]));
    scene.delete();
}

#[test]
fn a_plan_says_who_the_process_will_be() {
    need!(Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX}]);
        config["process"]["user"] = json!({"uid": 1, "gid": 2, "umask": 18});
        config["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_BPF"]});
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 2});
        config["process"]["execCPUAffinity"] = json!({"final": "0-1"});
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"}
            ]
        });
        config["hooks"]["poststop"] = json!([{"path": "/bin/true"}]);
    });
    let plan = plan(&scene);
    let process = &plan["process"];
    assert_eq!(process["rlimits"], json!({"RLIMIT_CORE": {"soft": 0, "hard": "unlimited"}}));
    assert_eq!((&process["uid"], &process["gid"], &process["umask"]), (&json!(1), &json!(2), &json!("0022")));
    assert_eq!(process["capabilities"], json!({"bounding": ["CAP_CHOWN", "CAP_BPF"]}));
    assert_eq!(process["scheduler"], json!({"policy": "SCHED_BATCH", "nice": 3}));
    assert_eq!(process["ioPriority"], json!({"class": "IOPRIO_CLASS_BE", "priority": 2}));
    assert_eq!(process["execCPUAffinity"], json!({"final": [0, 1]}));
    let seccomp = &plan["seccomp"];
    assert!(seccomp["instructions"].as_u64().unwrap() > 5, "{seccomp}");
    // To be compared line by line.
    assert!(seccomp.as_object().unwrap().keys().take(3).eq(["instructions", "flags", "listener"]), "{seccomp}");
    assert_eq!((&seccomp["defaultAction"], &seccomp["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(38)));
    assert_eq!(seccomp["syscalls"], json!({"SCMP_ACT_ALLOW": 3, "SCMP_ACT_KILL_PROCESS": 1}));
    assert_eq!(plan["hooks"], json!({"poststop": [{"path": "/bin/true"}]}));
    assert_eq!(plan["namespaces"]["kinds"]["mount"], "new");
    assert!(plan["devices"].as_array().unwrap().iter().any(|device| device["path"] == "/dev/null"));
    assert!(plan["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
}

#[test]
fn a_plan_is_the_same_each_time_and_takes_another_config() {
    need!(Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "net.core.somaxconn": "9"});
    });
    let print = |args: &[&str]| scene.make(args).run().success().stdout;
    assert_eq!(print(&["plan"]), print(&["plan"]));
    let other = scene.world.dir().join("other.json");
    let config = fs::read_to_string(scene.bundle.join("config.json")).unwrap();
    fs::write(&other, config.replace("somaxconn", "optmem_max")).unwrap();
    assert!(print(&["plan", "--config", text(&other)]).contains("optmem_max"));
    // What create would refuse is refused.
    let scene = scene.edit(|config| config["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"}));
    scene.make(&["plan"]).run().fails(1, &["kernel.core_pattern"]);
    scene.runtime(&["plan", "--bundle", "/nowhere"]).run().fails(1, &["/nowhere"]);
    scene.runtime(&["plan", "--bundle", text(&scene.bundle), "a/b"]).run().fails(1, &["a/b"]);
}

#[test]
fn a_container_can_be_made_of_another_config() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("echo one");
    let config = fs::read_to_string(scene.bundle.join("config.json")).unwrap();
    fs::write(scene.world.dir().join("two.json"), config.replace("echo one", "echo two")).unwrap();
    let ran = scene.make(&["run", "-f", "two.json"]).run().success();
    assert_eq!(ran.stdout, "two\n");
    scene.make(&["run", "--config", "three.json"]).run().fails(1, &["three.json"]);
}
