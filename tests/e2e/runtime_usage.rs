// SPDX-License-Identifier: Apache-2.0
//! `ctr-run events`: lines of JSON as runc prints them, about use of resources and lack of memory.

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::Scene;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn statistics_are_one_line_of_what_the_container_uses() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let line = scene.runtime(&["events", "--stats", &scene.id]).run().success().stdout;
    let begin = format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{\"cpu\":{{\"usage\":{{\"total\":", scene.id);
    assert!(line.starts_with(&begin) && line.ends_with('\n') && line.lines().count() == 1, "{line}");
    let event = &lines(&line)[0];
    let members: Vec<&String> = event["data"].as_object().unwrap().keys().collect();
    let expected = ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"];
    assert_eq!(members, expected);
    let data = &event["data"];
    assert_eq!((&data["pids"]["current"], &data["intel_rdt"]), (&json!(1), &json!({})));
    assert!(data["network_interfaces"].is_null() && data["cpu"]["usage"]["user"].is_u64(), "{line}");
    scene.delete();
}

#[test]
fn statistics_come_at_intervals_until_the_container_ends() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["create"]).detaches().run().success();
    let events = scene.runtime(&["events", "-interval=20ms", &scene.id]).spawn();
    events.wait_for_output("\"stats\"");
    scene.runtime(&["start", &scene.id]).run().success();
    events.wait_for_output("}}\n{\"type\":\"stats\"");
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    let told = lines(&events.wait().success().stdout);
    assert!(told.len() > 1 && told.iter().all(|event| event["type"] == "stats" && event["id"] == scene.id.as_str()));
    scene.runtime(&["events", &scene.id]).run().fails(1, &["not running"]);
    scene.delete();
}

#[test]
fn a_lack_of_memory_is_an_event() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000").edit(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let ran = scene.make(&["run", "--detach"]).detaches().run();
    if ran.code() != 0 {
        assert!(ran.stderr.contains("memory"), "{}", ran.stderr);
        return ctr_tests::need::cannot(&format!("swap cannot be limited here: {}", ran.stderr));
    }
    let events = scene.runtime(&["events", "--interval", "10ms", &scene.id]).spawn();
    events.wait_for_output("\"stats\"");
    assert_eq!(scene.exec("dd if=/dev/zero of=/dev/null bs=64M count=1").run().code(), 128 + 9);
    events.wait_for_output(&format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", scene.id));
    scene.delete();
    events.wait().success();
}

#[test]
fn an_interval_is_a_time_above_0() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    for (interval, part) in [("0s", "greater than 0"), ("-1s", "1m30s"), ("5", "1m30s"), ("", "1m30s")] {
        let flag = format!("--interval={interval}");
        scene.runtime(&["events", &flag, &scene.id]).run().fails(1, &[part]);
    }
    scene.delete();
}
