// SPDX-License-Identifier: Apache-2.0
//! `ctr-sched`: never more than N at once, first come first served, and the dead hold nothing.

use std::fs;
use std::time::{Duration, Instant};

use ctr_tests::{Need, World, need};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn status(world: &World) -> Value {
    world.tool("ctr-sched").arg("--status").run().success().json()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn relays_the_status_and_output_of_a_command() {
    let world = World::create();
    let ran = world.tool("ctr-sched").args(["sh", "-c", "cat; echo out; echo err >&2; exit 9"]).stdin("in\n").run();
    assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.as_str()), (9, "in\nout\n", "err\n"));
    world.tool("ctr-sched").arg("no-such-program").run().fails(127, &["no-such-program"]);
    world.tool("ctr-sched").arg("/etc/passwd").run().fails(126, &["/etc/passwd"]);
}

#[test]
fn never_more_than_the_limit_run_at_once() {
    let world = World::create();
    // Each command marks its presence, counts the others, and goes.
    let script = "mkdir here-$$; ls -d here-* | wc -l >> counts; sleep 0.02; rmdir here-$$";
    let running: Vec<_> =
        (0..24).map(|_| world.tool("ctr-sched").args(["-n", "3", "sh", "-c", script]).spawn()).collect();
    for command in running {
        command.wait().success();
    }
    let counts = fs::read_to_string(world.dir().join("counts")).unwrap();
    let counts: Vec<u32> = counts.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts.len(), 24);
    assert!(counts.iter().all(|&count| count <= 3), "{counts:?}");
    assert!(counts.contains(&3), "{counts:?}");
}

#[test]
fn who_comes_first_is_served_first() {
    let world = World::create();
    let holder = world.tool("ctr-sched").args(["-n", "1", "sh", "-c", "echo in; sleep 1000"]).spawn();
    holder.wait_for_output("in");
    let mut waiters = Vec::new();
    for n in 0..8 {
        let script = format!("echo {n} >> order");
        waiters.push(world.tool("ctr-sched").args(["-n", "1", "sh", "-c", &script]).spawn());
        wait_until("it queues", || status(&world)["waiters"].as_array().unwrap().len() == n + 1);
    }
    assert!(!world.dir().join("order").exists());
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(holder.pid()), Signal::SIGKILL).unwrap();
    holder.wait();
    for waiter in waiters {
        waiter.wait().success();
    }
    assert_eq!(fs::read_to_string(world.dir().join("order")).unwrap(), "0\n1\n2\n3\n4\n5\n6\n7\n");
}

#[test]
fn the_dead_give_back_what_they_held_and_leave_the_queue() {
    let world = World::create();
    let holder = world.tool("ctr-sched").args(["-n", "1", "sleep", "1000"]).spawn();
    wait_until("it holds", || status(&world)["holders"].as_array().unwrap().len() == 1);
    let waiter = world.tool("ctr-sched").args(["-n", "1", "sleep", "1000"]).spawn();
    wait_until("it waits", || status(&world)["waiters"].as_array().unwrap().len() == 1);
    waiter.signal(Signal::SIGKILL);
    waiter.wait();
    holder.signal(Signal::SIGKILL);
    holder.wait();
    world.tool("ctr-sched").args(["-n", "1", "true"]).run().success();
    let status = status(&world);
    assert_eq!((&status["holders"], &status["waiters"]), (&json!([]), &json!([])));
}

#[test]
fn status_tells_the_limit_the_holders_and_the_waiters() {
    let world = World::create();
    assert_eq!(status(&world)["limit"], 10);
    let holder = world.tool("ctr-sched").args(["-n", "1", "sleep", "1000"]).spawn();
    wait_until("it holds", || status(&world)["holders"].as_array().unwrap().len() == 1);
    let found = status(&world)["holders"][0].clone();
    assert_eq!(found["pid"], holder.pid());
    holder.signal(Signal::SIGKILL);
    holder.wait();
}

#[test]
fn the_place_is_given_back_once_a_container_has_started() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = world.bundle(&world.busybox(None), &world.id("t"), &[], &["sleep", "1000"]);
    let running = world.tool("ctr-sched").args(["-n", "1", "ctr-run"]).stdin(record).spawn();
    // What it prints is held back until it ends, for the order.
    let listed = || world.tool("ctr-run").args(["list", "--format", "json"]).run().stdout;
    wait_until("it has started", || listed().contains("running"));
    // The one place is free although the container runs on.
    world.tool("ctr-sched").args(["-n", "1", "true"]).run().success();
    world.tool("ctr-run").args(["kill", &world.id("t"), "KILL"]).run().success();
    assert_eq!(running.wait().code(), 128 + 9);
}

#[test]
fn a_command_runs_once_per_record_with_output_in_order() {
    need!(Need::Program("jq"));
    let world = World::create();
    let record = |n: u32| json!({ "ctr": 1, "stateDir": world.state(), "namespace": "default", "n": n }).to_string();
    let records: Vec<String> = (0..12).map(record).collect();
    // The later ones are the faster ones.
    let script = "read record; n=$(echo \"$record\" | jq .n); sleep 0.$(( (12 - n) / 3 )); echo \"$record\"";
    let ran = world
        .tool("ctr-sched")
        .args(["-n", "4", "--each", "sh", "-c", script])
        .stdin(records.join("\n"))
        .run()
        .success();
    let order: Vec<u64> = ran.json_lines().iter().map(|record| record["n"].as_u64().unwrap()).collect();
    assert_eq!(order, (0..12).collect::<Vec<_>>());
}

#[test]
fn the_first_failure_is_the_exit_status_and_the_others_run_on() {
    need!(Need::Program("jq"));
    let world = World::create();
    let record = |n: u32| json!({ "ctr": 1, "stateDir": world.state(), "namespace": "default", "n": n }).to_string();
    let records: Vec<String> = (0..5).map(record).collect();
    let script = "read record; n=$(echo \"$record\" | jq .n); echo $n; [ $n != 2 ] || exit 7; [ $n != 3 ] || exit 8";
    let ran = world.tool("ctr-sched").args(["--each", "sh", "-c", script]).stdin(records.join("\n")).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (7, "0\n1\n2\n3\n4\n"), "{}", ran.stderr);
}
