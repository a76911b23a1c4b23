// SPDX-License-Identifier: Apache-2.0
//! What every tool has in common: help, version, completions, a page of the manual, errors, signals.

use std::fs;
use std::process::Stdio;

use ctr_tests::layer::Entry;
use ctr_tests::{Image, Layer, Need, World, need};
use serde_json::{Value, json};

const TOOLS: [&str; 9] =
    ["ctr-pull", "ctr-unpack", "ctr-bundle", "ctr-run", "ctr-shim", "ctr-sched", "ctr-events", "ctr-task", "ctr-gc"];

#[test]
fn this_file_knows_every_tool() {
    let bins = ctr_tests::need::repository().join("bins");
    let mut found: Vec<String> =
        fs::read_dir(bins).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    let mut known = TOOLS;
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let world = World::create();
    for tool in TOOLS {
        let help = world.tool(tool).arg("--help").run().success();
        assert!(help.stdout.contains("Usage:") && help.stdout.contains(tool), "{}", help.stdout);
        assert_eq!(help.stderr, "");
        let version = world.tool(tool).arg("--version").run().success().stdout;
        let first = version.lines().next().unwrap();
        assert!(first.starts_with(tool) && first.contains(env!("CARGO_PKG_VERSION")), "{version}");
    }
}

#[test]
fn shells_can_complete_every_tool() {
    let world = World::create();
    for tool in TOOLS {
        for shell in ["bash", "zsh", "fish"] {
            let script = world.tool(tool).args(["--completions", shell]).run().success().stdout;
            assert!(script.contains(tool), "{tool} {shell}");
        }
        world.tool(tool).args(["--completions", "tcsh"]).run().fails(2, &["tcsh", "bash"]);
    }
    let script = "eval \"$(ctr-pull --completions bash)\" && complete -p ctr-pull";
    world.program("bash").args(["-c", script]).run().success();
}

#[test]
fn every_tool_has_a_page_in_the_manual() {
    for tool in TOOLS {
        let page = ctr_tests::need::repository().join(format!("man/{tool}.1"));
        let text = fs::read_to_string(page).unwrap();
        for part in [".Sh NAME", ".Sh SYNOPSIS", ".Sh DESCRIPTION", ".Sh EXIT STATUS", ".Sh EXAMPLES"] {
            assert!(text.contains(part), "{tool}: {part}");
        }
    }
}

#[test]
fn an_unknown_flag_is_misuse() {
    let world = World::create();
    for tool in TOOLS {
        let code = world.tool(tool).arg("--no-such-flag").run().fails_with_one_line(&["--no-such-flag"]).code();
        // A tool that relays a container's status has no 2 of its own.
        assert!(code == 2 || (tool == "ctr-run" && matches!(code, 1 | 125)), "{tool}: {code}");
    }
}

#[test]
fn errors_can_be_objects() {
    let world = World::create();
    let failed = world.tool("ctr-pull").arg("oci:/nowhere:x").env("CTR_ERRORS", "json").run();
    assert_eq!((failed.code(), failed.stderr.lines().count()), (3, 1), "{}", failed.stderr);
    let error: Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_eq!((&error["tool"], &error["kind"]), (&"ctr-pull".into(), &"not-found".into()));
    assert!(error["message"].as_str().unwrap().starts_with("unable to"), "{error}");
    assert!(!error["causes"].as_array().unwrap().is_empty(), "{error}");
}

#[test]
fn what_is_no_record_is_refused_by_every_reader_of_records() {
    let world = World::create();
    for tool in ["ctr-unpack", "ctr-bundle", "ctr-shim", "ctr-run"] {
        let relays = tool == "ctr-run";
        for (input, word) in [("hello\n", "hello"), ("{\"ctr\":99}\n", "version 99"), ("{}\n", "ctr")] {
            world.tool(tool).stdin(input).run().fails(if relays { 125 } else { 6 }, &[word]);
        }
    }
}

// As on a disk that is full.
#[test]
fn what_cannot_be_told_ends_nothing_amid_its_work() {
    need!(Need::Root);
    let world = World::create();
    let layer = Layer::new().with(Entry::file("a", "").xattr("nonsense.x", b"1"));
    let image = Image::new([layer]).config("Cmd", json!(["x"])).config("Labels", json!({ "run.oci.x": "y" }));
    let pulled = world.tool("ctr-pull").arg(world.layout("a", &image)).run().success().stdout;
    let log = world.state().join("events").join(&world.files("events")[0]);
    let damaged = fs::read_to_string(&log).unwrap() + "nonsense\n";
    fs::write(&log, damaged).unwrap();
    let told = |tool: &str, input: &str| {
        let make = || world.tool(tool).stdin(input);
        let full = make().through(&["sh", "-c", "exec \"$@\" 2> /dev/full", "sh"]).stdin(input).run();
        assert_eq!(full.code(), 0, "{full:?}");
        if tool == "ctr-unpack" {
            // What is unpacked already gives no reason to warn.
            fs::remove_dir_all(world.state().join("snapshots")).unwrap();
        }
        let told = make().run().success();
        assert!(told.stderr.contains("warning"), "{told:?}");
        told.stdout
    };
    told("ctr-events", "");
    let unpacked = told("ctr-unpack", &pulled);
    told("ctr-bundle", &unpacked);
    let completions = world.sh("ctr-task --completions bash > /dev/full").run();
    completions.fails(75, &["write to standard output", "No space left"]);
}

// A tool that ignored SIGPIPE would go on, or complain.
#[test]
fn a_closed_pipe_ends_a_tool_quietly() {
    let world = World::create();
    for n in 0..40 {
        let reference = world.layout(&format!("n{n}"), &Image::new([Layer::new().file(&format!("{n}"), "")]));
        world.tool("ctr-pull").arg(reference).run().success();
    }
    let ran = world.sh("{ ctr-events; echo \"status $?\" >&2; } | head -n 1").run().success();
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(matches!(ran.stderr.as_str(), "status 141\n" | "status 0\n"), "{}", ran.stderr);
    let ran = world.sh("sleep 0.2 | { sleep 0.1; ctr-events; echo \"status $?\" >&2; } | true").run().success();
    assert_eq!(ran.stderr, "status 141\n");
}

#[test]
fn an_interrupt_ends_a_follower_as_it_does_any_program() {
    let world = World::create();
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        let reference = world.layout("a", &Image::new([Layer::new().file("a", "")]));
        world.tool("ctr-pull").arg(reference).run().success();
        let following = world.tool("ctr-events").arg("--follow").spawn();
        following.wait_for_output("/images/create");
        following.signal(signal);
        assert_eq!(following.wait().code(), 128 + signal as i32);
        fs::remove_dir_all(world.dir().join("layout-a")).unwrap();
        fs::remove_dir_all(world.state()).unwrap();
    }
}

#[test]
fn a_short_name_and_the_state_directory_come_from_the_environment_or_a_flag() {
    let world = World::create();
    let reference = world.layout("a", &Image::new([Layer::new().file("a", "")]));
    let elsewhere = world.dir().join("elsewhere");
    let record = world.tool("ctr-pull").arg("--state-dir").arg(&elsewhere).arg(&reference).run().success().json();
    assert_eq!(record["stateDir"], serde_json::json!(elsewhere));
    assert!(!world.state().exists());
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&elsewhere).unwrap());
    assert_eq!(mode & 0o777, 0o700);
    let record = world.tool("ctr-pull").arg(&reference).env("CTR_NAMESPACE", "team").run().success().json();
    assert_eq!(record["namespace"], "team");
}

#[test]
fn a_record_of_another_state_directory_contradicts_the_flag() {
    need!(Need::Root);
    let world = World::create();
    let record = world.tool("ctr-pull").arg(world.layout("a", &Image::new([Layer::new()]))).run().success().stdout;
    world.tool("ctr-unpack").args(["--state-dir", "/other"]).stdin(record).run().fails(2, &["/other"]);
}

// The tools are started by every line of a script; nothing that they do not need may be loaded.
#[test]
fn no_tool_off_the_network_links_what_speaks_to_it() {
    let tree = |tool: &str| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = std::process::Command::new(cargo);
        command.args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", tool]);
        let output = command.current_dir(ctr_tests::need::repository()).stderr(Stdio::inherit()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for tool in TOOLS {
        let tree = tree(tool);
        let links = |name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
        assert!(links("ctr-cli"), "{tool}: {tree}");
        assert_eq!(links("reqwest") || links("tokio"), tool == "ctr-pull", "{tool}");
    }
}
