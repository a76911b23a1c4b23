// SPDX-License-Identifier: Apache-2.0
//! `ctr-run`'s command line where it is more than its help says: what Go's flag packages accept, and logs.

use std::fs;

use ctr_tests::{Need, World, need};
use serde_json::Value;

use crate::runtime::{Scene, text};

#[test]
fn options_have_the_forms_of_gos_flag_packages() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    let root = scene.world.run_root();
    let run = ["-root", text(&root), "run", "-detach=true", "--keep=false", &scene.id, "-bundle", text(&scene.bundle)];
    scene.runtime(&run).detaches().run().success();
    let ran =
        scene.runtime(&["exec", "--detach=false", "-env", "A=-x", &scene.id, "sh", "-c", "echo $A -- $0", "-env"]);
    assert_eq!(ran.run().success().stdout, "-x -- -env\n");
    // What follows the id is the program, even if it looks like an option.
    scene.runtime(&["exec", &scene.id, "-e"]).run().fails(255, &["\"-e\"", "not found"]);
    let pids = scene.runtime(&["ps", "-format", "json", &scene.id]).run().success();
    assert!(pids.stdout.starts_with('['), "{}", pids.stdout);
    let table = scene.runtime(&["ps", &scene.id, "-o", "pid,comm"]).run().success();
    assert!(table.stdout.contains("sleep") && !table.stdout.contains("UID"), "{}", table.stdout);
    scene.delete();
}

#[test]
fn an_option_without_its_value_is_told_in_gos_words() {
    let world = World::create();
    for words in [&["exec", "-e"][..], &["run", "--bundle"], &["--root"], &["create", "x", "-pid-file"]] {
        world.tool("ctr-run").args(words).run().fails_with_one_line(&["flag needs an argument: --"]);
    }
    world.tool("ctr-run").args(["run", "--detach=maybe", "x"]).run().fails(1, &["boolean", "maybe", "--detach"]);
}

#[test]
fn help_of_every_command_ends_well() {
    let world = World::create();
    let help = world.tool("ctr-run").arg("-h").run().success().stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names.iter().filter(|name| **name != "help") {
        let help = world.tool("ctr-run").args([name, "--help"]).run().success();
        assert!(help.stdout.contains(&format!("ctr-run {name}")) && help.stderr.is_empty(), "{}", help.stdout);
    }
}

// containerd reads the last error of the log, podman takes the log for one object.
#[test]
fn a_failure_is_one_object_in_the_log_whatever_failed() {
    let world = World::create();
    let log = world.dir().join("log.json");
    for (code, words) in [
        (1, &["run", "--nope", "x"][..]),
        (1, &["create"]),
        (1, &["state", "nobody"]),
        (1, &["kill", "nobody", "NOPE"]),
        (255, &["exec", "nobody", "true"]),
        (1, &["create", "--bundle", "/nowhere", "x"]),
    ] {
        let failed = world.tool("ctr-run").args(["--log", text(&log), "--log-format", "json"]).args(words).run();
        assert_eq!(failed.code(), code, "{words:?} {}", failed.stderr);
        let entry: Value = serde_json::from_slice(&fs::read(&log).unwrap()).expect("exactly one object");
        assert_eq!(entry["level"], "error");
        let message = entry["msg"].as_str().unwrap();
        assert!(!message.is_empty() && failed.stderr.contains(message), "{message} {}", failed.stderr);
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn what_is_done_is_logged_when_asked_for() {
    let world = World::create();
    for option in ["--debug", "--log-level=debug"] {
        let listed = world.tool("ctr-run").args([option, "list", "-q"]).run().success();
        assert!(listed.stderr.contains("level=debug") && listed.stderr.contains("List"), "{}", listed.stderr);
    }
    assert_eq!(world.tool("ctr-run").args(["--log-level", "info", "list", "-q"]).run().success().stderr, "");
    world.tool("ctr-run").args(["--log-level", "loud", "list"]).run().fails(1, &["loud"]);
}

// Both sockets are the machine's, so they are made in a mount namespace of the test's own.
#[test]
fn the_log_can_be_the_journal_or_syslog() {
    need!(Need::Root, Need::Program("python3"), Need::Program("unshare"));
    let world = World::create();
    let receive = "import os, socket, subprocess, sys
for directory, name, target in (('/run/systemd/journal', 'socket', 'journald:web'), ('/dev', 'log', 'syslog:web')):
    os.makedirs(directory, exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', directory], check=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(directory + '/' + name)
    listener.settimeout(20)
    failed = subprocess.run(['ctr-run', '--log', target, 'state', 'nobody'], stderr=subprocess.PIPE)
    print(failed.returncode, repr(listener.recv(4096).decode()))
";
    let wrapper = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\""];
    let logged = world.program("python3").args(["-c", receive]).through(&wrapper).run().success().stdout;
    let lines: Vec<&str> = logged.lines().collect();
    let journal = "1 'MESSAGE=container does not exist: nobody\\nPRIORITY=3\\nSYSLOG_IDENTIFIER=web\\n'";
    assert_eq!(lines[0], journal);
    assert!(
        lines[1].starts_with("1 '<27>web[") && lines[1].ends_with("]: container does not exist: nobody'"),
        "{logged}"
    );
}
