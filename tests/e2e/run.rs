// SPDX-License-Identifier: Apache-2.0
//! `ctr-run` at the end of a pipe: a container in the foreground.

use std::fs;

use ctr_tests::pty::Terminal;
use ctr_tests::{Need, World, need};
use nix::sys::signal::Signal;
use serde_json::Value;

fn bundle(world: &World, name: &str, flags: &[&str], command: &[&str]) -> String {
    world.bundle(&world.busybox(None), &world.id(name), flags, command)
}

#[test]
fn the_pipeline_prints_the_containers_output_and_exits_with_its_status() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let (reference, id) = (world.busybox(None), world.id("main"));
    let ran = world.sh(&format!("ctr-pull {reference} | ctr-unpack | ctr-bundle --id {id} | ctr-run")).run().success();
    assert_eq!(ran.stdout, "hello from a container\n");
    assert_eq!(ran.stderr, "");
    for status in [0, 1, 42, 255] {
        let id = world.id(&format!("exit-{status}"));
        let script = format!(
            "ctr-pull {reference} | ctr-unpack | ctr-bundle --id {id} -- sh -c 'echo out; echo err >&2; exit {status}' | ctr-run"
        );
        let ran = world.sh(&script).run();
        assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.as_str()), (status, "out\n", "err\n"));
    }
}

#[test]
fn a_containers_death_by_a_signal_is_128_and_the_signal() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["sh", "-c", "kill -KILL 1; sh -c 'kill -KILL $$'; exit $?"]);
    assert_eq!(world.tool("ctr-run").stdin(record).run().code(), 128 + 9);
}

#[test]
fn a_record_in_a_file_leaves_standard_input_to_the_container() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["wc", "-c"]);
    fs::write(world.dir().join("record"), record).unwrap();
    let ran = world.tool("ctr-run").args(["--record", "record"]).stdin("x".repeat(100_000)).run().success();
    assert_eq!(ran.stdout.trim(), "100000");
}

#[test]
fn signals_reach_the_container() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let script =
        "trap 'echo got TERM; exit 3' TERM; trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.05; done";
    let record = bundle(&world, "t", &[], &["sh", "-c", script]);
    let running = world.tool("ctr-run").stdin(record).spawn();
    running.wait_for_output("ready");
    running.signal(Signal::SIGUSR1);
    running.wait_for_output("got USR1");
    running.signal(Signal::SIGTERM);
    let ran = running.wait();
    assert_eq!((ran.code(), ran.stdout.ends_with("got TERM\n")), (3, true), "{}", ran.stdout);
}

// As with any runtime: what the kernel does not take back, `delete` does.
#[test]
fn the_container_of_a_killed_ctr_run_can_be_deleted() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["sh", "-c", "echo ready; sleep 1000"]);
    let running = world.tool("ctr-run").stdin(record).spawn();
    running.wait_for_output("ready");
    running.signal(Signal::SIGKILL);
    world.tool("ctr-run").args(["delete", "--force", &world.id("t")]).run().success();
    assert_eq!(running.wait().code(), 128 + 9);
    assert_eq!(fs::read_dir(world.run_root()).unwrap().count(), 0);
}

#[test]
fn a_terminal_is_one_inside_too() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let script = "tty; stty size; read line; echo \"read $line\"; exit 5";
    let record = bundle(&world, "t", &["--tty"], &["sh", "-c", script]);
    fs::write(world.dir().join("record"), record).unwrap();
    let mut terminal = Terminal::open(world.tool("ctr-run").args(["--record", "record"]), 33, 99);
    terminal.expect("/dev/");
    terminal.expect("33 99");
    terminal.write("typed\n");
    terminal.expect("read typed");
    assert_eq!(terminal.wait().0, 5);
}

#[test]
fn a_terminals_interrupt_reaches_the_container() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    // A shell runs its trap between two commands: one long sleep, begun after the interrupt, would hide it.
    let script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.1; done";
    let record = bundle(&world, "t", &["--tty"], &["sh", "-c", script]);
    fs::write(world.dir().join("record"), record).unwrap();
    let mut terminal = Terminal::open(world.tool("ctr-run").args(["--record", "record"]), 24, 80);
    terminal.expect("ready");
    terminal.write("\x03");
    terminal.expect("interrupted");
    assert_eq!(terminal.wait().0, 4);
}

#[test]
fn a_command_that_is_not_in_the_image_is_127() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["no-such-program"]);
    world.tool("ctr-run").stdin(record).run().fails(127, &["no-such-program"]);
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["/etc/motd"]);
    world.tool("ctr-run").stdin(record).run().fails(126, &["/etc/motd"]);
}

#[test]
fn a_bundle_without_a_config_is_named() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["true"]);
    let path = serde_json::from_str::<Value>(&record).unwrap()["bundle"]["path"].as_str().unwrap().to_owned();
    fs::remove_file(format!("{path}/config.json")).unwrap();
    let failed = world.tool("ctr-run").stdin(record).run();
    failed.fails(125, &["config.json"]);
}

#[test]
fn a_record_without_a_bundle_is_refused() {
    let world = World::create();
    let record = serde_json::json!({ "ctr": 1, "stateDir": world.state(), "namespace": "default" });
    world.tool("ctr-run").stdin(record.to_string()).run().fails(125, &["bundle"]);
}

#[test]
fn an_id_that_runs_already_is_in_use() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["sh", "-c", "echo ready; sleep 1000"]);
    let running = world.tool("ctr-run").stdin(record.clone()).spawn();
    running.wait_for_output("ready");
    world.tool("ctr-run").stdin(record).run().fails(125, &[&world.id("t")]);
    world.tool("ctr-run").args(["kill", &world.id("t"), "KILL"]).run().success();
    assert_eq!(running.wait().code(), 128 + 9);
}

#[test]
fn nothing_is_mounted_on_the_host() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["sh", "-c", "echo ready; sleep 1000"]);
    let running = world.tool("ctr-run").stdin(record).spawn();
    running.wait_for_output("ready");
    assert_eq!(ctr_tests::leak::mounts(world.dir()), Vec::<std::path::PathBuf>::new());
    world.tool("ctr-run").args(["kill", &world.id("t"), "KILL"]).run().success();
    assert_eq!(running.wait().code(), 128 + 9);
}

#[test]
fn what_a_container_writes_stays_in_its_bundle() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let first = bundle(&world, "a", &[], &["sh", "-c", "echo mine > /etc/motd; rm /etc/passwd; cat /etc/motd"]);
    assert_eq!(world.tool("ctr-run").stdin(first).run().success().stdout, "mine\n");
    let second = bundle(&world, "b", &[], &["sh", "-c", "cat /etc/motd; ls /etc"]);
    let ran = world.tool("ctr-run").stdin(second).run().success();
    assert_eq!(ran.stdout, "hello from a container\ngreeting\ngroup\nmotd\npasswd\n");
}

#[test]
fn rm_removes_the_bundle_too() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let record = bundle(&world, "t", &[], &["sh", "-c", "exit 3"]);
    assert_eq!(world.tool("ctr-run").arg("--rm").stdin(record).run().code(), 3);
    assert_eq!(world.files("bundles/default"), Vec::<String>::new());
    assert_eq!(fs::read_dir(world.run_root()).map_or(0, Iterator::count), 0);
}
