// SPDX-License-Identifier: Apache-2.0
//! Whose cgroup a container is in, and who makes it.

use std::fs;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

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

#[test]
fn limits_without_a_cgroup_are_refused() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| config["linux"]["resources"] = json!({"pids": {"limit": 10}}));
    scene.make(&["--cgroup-manager=disabled", "run"]).run().fails(1, &["cannot set limits without cgroups"]);
    assert!(!scene.dir().exists());
}
