// SPDX-License-Identifier: Apache-2.0
//! How the kernel treats a container's processes, the first and further ones, as config.json asks.

use std::fs;

use ctr_tests::need::cannot;
use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

/// A scene whose container runs, and does nothing.
fn running(change: impl FnOnce(&mut Value)) -> Scene {
    let scene = Scene::new("exec sleep 1000").edit(change);
    scene.make(&["run", "--detach"]).detaches().run().success();
    scene
}

/// What a script prints as the container's own program, and as a further process of it.
fn prints(change: impl Fn(&mut Value), script: &str, expected: &str) {
    let first = Scene::new(script).edit(&change);
    assert_eq!(first.make(&["run"]).run().success().stdout, expected);
    let scene = running(&change);
    assert_eq!(scene.exec(script).run().success().stdout, expected);
    scene.delete();
}

/// Executes what `process` describes, with a script for arguments.
fn exec_process(scene: &Scene, mut process: Value, script: &str) -> String {
    let file = scene.world.dir().join("process.json");
    process["cwd"] = json!("/");
    process["args"] = json!(["/bin/sh", "-c", script]);
    fs::write(&file, process.to_string()).unwrap();
    scene.runtime(&["exec", "--process", text(&file), &scene.id]).run().success().stdout
}

#[test]
fn a_personality_is_set_even_where_the_profile_forbids_it() {
    need!(Need::Root, Need::Busybox);
    let ask = |domain: &'static str| {
        move |config: &mut Value| {
            config["linux"]["personality"] = json!({ "domain": domain });
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_ERRNO" }] });
        }
    };
    let machine = nix::sys::utsname::uname().unwrap().machine().to_owned();
    if machine == "x86_64" {
        prints(ask("LINUX32"), "busybox uname -m", "i686\n");
    }
    prints(ask("LINUX"), "busybox uname -m", &format!("{}\n", machine.to_str().unwrap()));
}

#[test]
fn a_memory_policy_is_set() {
    need!(Need::Root, Need::Busybox);
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return cannot("this kernel has no memory policies");
    }
    let show = "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2";
    for (policy, expected) in [
        (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" }), "interleave:0\n"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), "bind=static:0\n"),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"] }), "prefer=relative:0\n"),
        (json!({ "mode": "MPOL_DEFAULT" }), "default\n"),
        (json!({ "mode": "MPOL_LOCAL" }), "local\n"),
    ] {
        prints(|config| config["linux"]["memoryPolicy"] = policy.clone(), show, expected);
    }
    for (policy, reason) in [
        (json!({}), "invalid memory policy mode"),
        (json!({ "mode": "INTERLEAVE", "nodes": "0" }), "invalid memory policy mode \"INTERLEAVE\""),
        (json!({ "mode": "MPOL_DEFAULT", "nodes": "0-7" }), "mode requires 0 nodes but got 8"),
        (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["badflag"] }), "invalid memory policy flag \"badflag\""),
        (json!({ "mode": "MPOL_BIND", "nodes": "1000" }), "set the memory policy: invalid argument"),
    ] {
        let scene = Scene::new("true").edit(|config| config["linux"]["memoryPolicy"] = policy);
        scene.make(&["run"]).run().fails(1, &[reason]);
    }
}

#[test]
fn further_processes_have_the_firsts_priorities_or_their_own() {
    need!(Need::Root, Need::Busybox);
    let scene = running(|config| {
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 4 });
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 19 });
    });
    // Of the fields of stat after the name: nice, and the policy.
    let policy = |pid: &str| format!("busybox ionice -p {pid}; sed 's/.*) //' /proc/{pid}/stat | cut -d ' ' -f 17,39");
    let batch = "best-effort: prio 4\n19 3\n";
    assert_eq!(scene.exec(&policy("1")).run().success().stdout, batch);
    assert_eq!(scene.exec(&policy("$$")).run().success().stdout, batch);
    assert_eq!(exec_process(&scene, json!({}), &policy("$$")), batch);
    let own = json!({ "ioPriority": { "class": "IOPRIO_CLASS_IDLE" },
        "scheduler": { "policy": "SCHED_OTHER", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] } });
    assert_eq!(exec_process(&scene, own, &policy("$$")), "idle\n5 0\n");
    scene.delete();
}

#[test]
fn a_deadline_is_scheduled() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sed 's/.*) //' /proc/$$/stat | cut -d ' ' -f 39").edit(|config| {
        config["process"]["scheduler"] = json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000,
            "deadline": 10_000_000, "period": 20_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "6\n");
}

#[test]
fn further_processes_have_the_umask_of_the_config() {
    need!(Need::Root, Need::Busybox);
    let scene = running(|config| config["process"]["user"]["umask"] = json!(0o77));
    let show = "grep ^Umask: /proc/1/status /proc/self/status";
    assert_eq!(
        scene.exec(show).run().success().stdout,
        "/proc/1/status:Umask:\t0077\n/proc/self/status:Umask:\t0077\n"
    );
    assert_eq!(exec_process(&scene, json!({ "user": { "uid": 0, "gid": 0 } }), "umask"), "0077\n");
    scene.delete();
}

#[test]
fn limits_are_set_and_one_that_cannot_be_is_named() {
    need!(Need::Root, Need::Busybox);
    let limits = |soft: u64, hard: u64| {
        move |config: &mut Value| {
            config["process"]["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX },
            ]);
        }
    };
    prints(limits(33, 44), "ulimit -n; ulimit -Hn; ulimit -c", "33\n44\n0\n");
    let scene = running(limits(33, 44));
    let own = json!({ "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 40, "hard": 41 }] });
    assert_eq!(exec_process(&scene, own, "ulimit -n; ulimit -Hn"), "40\n41\n");
    assert_eq!(exec_process(&scene, json!({}), "ulimit -n; ulimit -Hn"), "33\n44\n");
    scene.delete();
    // Above what the kernel allows anybody.
    let scene = Scene::new("true").edit(limits(5, 1 << 40));
    scene.make(&["run"]).run().fails(1, &["set the limit NOFILE to 5:1099511627776: operation not permitted"]);
}

// The right to raise a limit is lost on entering the user namespace.
#[test]
fn a_limit_is_raised_for_a_user_namespace_as_well() {
    need!(Need::Root, Need::Busybox);
    let script = "ulimit -n 1000; ulimit -n 2000";
    let scene = Scene::new("ulimit -n; ulimit -Hn").edit(|config| {
        let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = mapping.clone();
        config["linux"]["gidMappings"] = mapping;
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 1001, "hard": 2000 }]);
    });
    if scene.world.sh(script).run().code() != 0 {
        return cannot("this root may not raise limits");
    }
    let script = format!("ulimit -n 1000; exec ctr-run run --bundle {} {}", text(&scene.bundle), scene.id);
    assert_eq!(scene.world.sh(&script).run().success().stdout, "1001\n2000\n");
}

#[test]
fn the_processes_of_a_container_share_a_session_keyring() {
    need!(Need::Root, Need::Busybox);
    // The number of keyrings of its name, and which, as the container's program and a further one see them.
    let keyrings = |flags: &str| {
        let scene = Scene::new("").edit(|config| config["linux"]["maskedPaths"] = json!([]));
        let show = format!("grep -c _ses.{0} /proc/keys; grep _ses.{0} /proc/keys | cut -d ' ' -f 1", scene.id);
        let first = format!("{show}; echo; exec sleep 1000");
        let scene = scene.edit(|config| config["process"]["args"][2] = json!(first));
        let output = scene.world.dir().join("output");
        let (bundle, id) = (text(&scene.bundle), &scene.id);
        let script = format!("exec ctr-run run --detach {flags} --bundle {bundle} {id} > {}", text(&output));
        scene.world.sh(&script).detaches().run().success();
        while !fs::read_to_string(&output).unwrap().ends_with("\n\n") {}
        let further = scene.exec(&show).run().stdout;
        scene.delete();
        (fs::read_to_string(&output).unwrap(), further)
    };
    let (first, further) = keyrings("");
    assert!(first.starts_with("1\n"), "{first}");
    assert_eq!(format!("{further}\n"), first);
    assert_eq!(keyrings("--no-new-keyring"), ("0\n\n".to_owned(), "0\n".to_owned()));
}

#[test]
fn kernel_parameters_have_dots_or_slashes_in_their_names() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /proc/sys/net/ipv4/conf/lo/rp_filter /proc/sys/net/ipv4/ip_forward");
    let scene = scene.edit(|config| {
        config["linux"]["sysctl"] = json!({ "net/ipv4/conf/lo/rp_filter": "2", "net.ipv4.ip_forward": "1" });
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "2\n1\n");
}

// The namespace that it names by path is the host's.
#[test]
fn no_kernel_parameter_of_the_hosts_network_is_set() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!("/proc/self/ns/net");
            }
        }
        config["linux"]["sysctl"] = json!({ "net.ipv4.conf.lo.rp_filter": "2" });
    });
    scene.make(&["run"]).run().fails(1, &["host network namespace"]);
}

#[test]
fn clocks_are_offset_for_further_processes_and_user_namespaces_as_well() {
    need!(Need::Root, Need::Busybox);
    if !std::path::Path::new("/proc/self/timens_offsets").exists() {
        return cannot("this kernel has no time namespaces");
    }
    let offsets = |config: &mut Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({
            "monotonic": { "secs": 7881, "nanosecs": 2_718_281 }, "boottime": { "secs": 1337, "nanosecs": 3_141_519 } });
    };
    let show = "cat /proc/self/timens_offsets | tr -s ' '";
    let expected = "monotonic 7881 2718281\nboottime 1337 3141519\n";
    prints(offsets, show, expected);
    let in_user_namespace = |config: &mut Value| {
        offsets(config);
        let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = mapping.clone();
        config["linux"]["gidMappings"] = mapping;
    };
    prints(in_user_namespace, show, expected);
    let scene = Scene::new(show).edit(|config| {
        offsets(config);
        config["linux"]["timeOffsets"] = Value::Null;
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "monotonic 0 0\nboottime 0 0\n");
    let scene = Scene::new(show).edit(|config| {
        offsets(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().pop();
    });
    scene.make(&["run"]).run().fails(1, &["time namespace isn't enabled"]);
}

#[test]
fn the_domain_name_is_the_configs() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /proc/sys/kernel/domainname").edit(|config| config["domainname"] = json!("inside"));
    assert_eq!(scene.make(&["run"]).run().success().stdout, "inside\n");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), "inside\n");
}

#[test]
fn without_resctrl_a_group_in_it_is_refused() {
    need!(Need::Root, Need::Busybox);
    if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        return cannot("resctrl is mounted");
    }
    let scene = Scene::new("true").edit(|config| config["linux"]["intelRdt"] = json!({ "l3CacheSchema": "L3:0=f" }));
    scene.make(&["run"]).run().fails(1, &["no resctrl file system is mounted"]);
    assert!(!scene.dir().exists());
    let scene = scene.edit(|config| config["linux"]["intelRdt"] = json!({ "closID": "../up" }));
    scene.make(&["run"]).run().fails(1, &["invalid intelRdt.ClosID \"../up\""]);
}

#[test]
fn a_label_without_its_security_module_is_a_clear_error() {
    need!(Need::Root, Need::Busybox);
    let enabled = fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
    if enabled || std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return cannot("this kernel has a security module with labels");
    }
    for (member, reason) in [
        ("apparmorProfile", "AppArmor is not enabled in this kernel"),
        ("selinuxLabel", "selinux is disabled or not supported"),
    ] {
        let scene = Scene::new("true").edit(|config| config["process"][member] = json!("unconfined"));
        scene.make(&["run"]).run().fails(1, &[reason]);
    }
    let scene = running(|_| {});
    for (flag, reason) in [("--apparmor", "AppArmor is not enabled"), ("--process-label", "selinux is disabled")] {
        scene.runtime(&["exec", flag, "unconfined", &scene.id, "true"]).run().fails(255, &[reason]);
    }
    scene.delete();
}
