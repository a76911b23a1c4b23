// SPDX-License-Identifier: Apache-2.0
//! What `ctr-run` promises of speed where no clock is needed: what it tells of it, and that nothing is lost
//! for it.

use std::fs;

use ctr_tests::{Need, World, need};
use serde_json::Value;

use crate::runtime::Scene;

fn timing(errors: &str) -> Value {
    let line: Value = serde_json::from_str(errors.lines().last().expect("a line")).expect("JSON");
    line["timing"].clone()
}

#[test]
fn timing_tells_the_stages_of_a_start_by_whose_they_are() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let ran = scene.make(&["--timing", "run"]).run().success();
    let told = timing(&ran.stderr);
    for stage in ["startup", "plan", "claim", "cgroup", "clone", "record", "container", "hooks", "wait", "delete"] {
        assert!(told["runtime"][stage].is_u64(), "{stage}: {told}");
    }
    for stage in ["birth", "namespaces", "mounts", "runtime", "finalise", "rights", "opening"] {
        assert!(told["container"][stage].as_u64().is_some_and(|took| took > 0), "{stage}: {told}");
    }
    assert_eq!(scene.make(&["run"]).run().success().stderr, "");
}

#[test]
fn timing_tells_the_stages_of_each_command() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    let created = scene.make(&["--timing", "create"]);
    // Its standard error is the container's too, which stays.
    created.detaches().run().success();
    let id = &*scene.id;
    for (command, stages) in [
        (&["start", id][..], &["gate"][..]),
        (&["exec", id, "true"], &["plan", "clone", "container"]),
        (&["delete", "--force", id], &["delete"]),
    ] {
        let told = timing(&scene.runtime(&[&["--timing"], command].concat()).run().success().stderr);
        for stage in stages {
            assert!(told["runtime"][stage].as_u64().is_some_and(|took| took > 0), "{stage}: {told}");
        }
    }
}

#[test]
fn programs_that_end_at_once_lose_no_status_and_leave_nothing() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"), Need::Program("unshare"));
    let world = World::create();
    let script = ctr_tests::need::repository().join("scripts/soak");
    let ran = world.program(script).args(["24", "--bin"]).arg(ctr_tests::tool::bin_dir()).run().success();
    let kinds = ["native-foreground", "native-detached", "v2-foreground", "v2-detached"];
    let told: Vec<&str> = ran.stdout.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(told, kinds, "{}", ran.stdout);
}

/// The kernel is asked for it before anything else is ready, and by another process than the container's.
#[test]
fn the_network_namespace_is_the_containers_own_and_its_loopback_is_up() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("readlink /proc/self/ns/net; ls /sys/class/net; cat /sys/class/net/lo/flags");
    let shown = scene.make(&["run"]).run().success().stdout;
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("net:[") && lines[0] != own.to_str().unwrap(), "{shown}");
    assert_eq!(lines[1..], ["lo", "0x9"]);
}

#[test]
fn a_network_namespace_that_cannot_be_made_is_named() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let forbid = "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" \"$@\"";
    let failed = scene.make(&["run"]).through(&["unshare", "--user", "--map-root-user", "sh", "-c", forbid]).run();
    assert_eq!(failed.code(), 1);
    assert!(failed.stderr.contains("make the network namespace: No space left on device"), "{}", failed.stderr);
    assert!(!scene.dir().exists());
}
