// SPDX-License-Identifier: Apache-2.0
//! What `ctr-run` promises of speed where no clock is needed: what it tells of it, and that nothing is lost
//! for it.

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
