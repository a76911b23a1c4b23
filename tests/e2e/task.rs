// SPDX-License-Identifier: Apache-2.0
//! `ctr-task`: the verbs on a supervised container.

use ctr_tests::{Need, World, need};
use serde_json::Value;

use crate::shim::Supervised;

#[test]
fn list_shows_every_task_of_the_namespace() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let list = |world: &World| world.tool("ctr-task").arg("list").run().success();
    assert_eq!(list(&world).stdout, "");
    let record = world.bundle(&world.busybox(None), &world.id("r"), &["--replicas", "3"], &["sleep", "1000"]);
    world.tool("ctr-sched").args(["--each", "ctr-shim"]).stdin(record).run().success();
    let tasks = list(&world).json_lines();
    let mut ids: Vec<&str> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [world.id("r-1"), world.id("r-2"), world.id("r-3")]);
    assert!(tasks.iter().all(|task| task["status"] == "running" && task["pid"].as_i64().unwrap() > 1), "{tasks:?}");
    assert_eq!(world.tool("ctr-task").args(["--namespace", "other", "list"]).run().success().stdout, "");
    for id in ids {
        world.tool("ctr-task").args(["delete", "--force", id]).run().success();
    }
    assert_eq!(list(&world).stdout, "");
}

#[test]
fn get_shows_what_containerds_state_showed() {
    need!(Need::Root, Need::Busybox);
    let supervised = Supervised::start(&[], "sleep 1001 & echo ready; wait");
    supervised.wait_for_log("ready");
    let got = supervised.task("get", &[]).success().json();
    assert_eq!((&got["id"], &got["status"]), (&supervised.id.as_str().into(), &"running".into()));
    let processes = got["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2, "{got:#}");
    let args: Vec<&Value> = processes.iter().map(|process| &process["args"]).collect();
    assert!(args.contains(&&serde_json::json!(["sleep", "1001"])), "{got:#}");
    assert!(processes.iter().all(|process| process["pid"].as_i64().unwrap() > 1), "{got:#}");
    assert!(got["runtime"].is_object() || got["runtime"].is_string(), "{got:#}");
    assert!(got["machine"]["cpus"].as_u64().unwrap() > 0, "{got:#}");
    assert!(got["machine"]["memory"].as_u64().unwrap() > 0, "{got:#}");
    supervised.delete();
}

#[test]
fn kill_sends_the_signal_it_is_given_or_term() {
    need!(Need::Root, Need::Busybox);
    let script = "trap 'echo USR1' USR1; trap 'echo TERM; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let supervised = Supervised::start(&[], script);
    supervised.wait_for_log("ready");
    supervised.task("kill", &["USR1"]).success();
    supervised.wait_for_log("USR1");
    supervised.task("kill", &[]).success();
    assert_eq!(supervised.task("wait", &[]).code(), 3);
    supervised.task("kill", &[]).fails(4, &[&supervised.id]);
    supervised.delete();
}

#[test]
fn wait_waits() {
    need!(Need::Root, Need::Busybox);
    let supervised = Supervised::start(&[], "trap 'exit 8' TERM; echo ready; while :; do sleep 0.02; done");
    supervised.wait_for_log("ready");
    let mut waiting = supervised.world.tool("ctr-task").args(["wait", &supervised.id]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(waiting.is_running());
    supervised.task("kill", &["TERM"]).success();
    assert_eq!(waiting.wait().code(), 8);
    supervised.delete();
}

#[test]
fn delete_refuses_what_runs() {
    need!(Need::Root, Need::Busybox);
    let supervised = Supervised::start(&[], "sleep 1000");
    supervised.task("delete", &[]).fails(4, &[&supervised.id]);
    assert_eq!(supervised.task("get", &[]).success().json()["status"], "running");
    supervised.delete();
    supervised.task("get", &[]).fails(3, &[&supervised.id]);
    supervised.task("delete", &[]).fails(3, &[&supervised.id]);
}

#[test]
fn logs_can_be_followed_to_the_end() {
    need!(Need::Root, Need::Busybox);
    let supervised = Supervised::start(&[], "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two");
    let following = supervised.world.tool("ctr-task").args(["logs", "--follow", &supervised.id]).spawn();
    following.wait_for_output("one\n");
    let pid = supervised.task("get", &[]).success().json()["pid"].clone();
    std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
    assert_eq!(following.wait().success().stdout, "one\ntwo\n");
    supervised.delete();
}

#[test]
fn an_unknown_task_is_not_found() {
    let world = World::create();
    for verb in ["get", "kill", "wait", "delete", "logs"] {
        world.tool("ctr-task").args([verb, "nobody"]).run().fails_with_one_line(&["nobody"]);
    }
    world.tool("ctr-task").args(["get", "nobody"]).run().fails(3, &["nobody"]);
}
