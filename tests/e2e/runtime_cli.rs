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

// The words are those of runc, which scripts look for.
#[test]
fn the_steps_of_a_start_are_told_in_runcs_words() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    let log = scene.world.dir().join("log");
    let logged = |args: &[&str]| {
        let words = ["--debug", "--log", text(&log)].iter().chain(args).copied().collect::<Vec<_>>();
        let ran = scene.runtime(&words).detaches().run().success();
        assert_eq!(ran.stderr, "");
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        text
    };
    let run = logged(&["run", "--detach", "--bundle", text(&scene.bundle), &scene.id]);
    let mut rest = run.as_str();
    for words in [
        "nsexec container setup: namespaces: new cgroup ipc mount network pid uts, joined none",
        "seccomp filter flags: 4",
        "child process in init(): it has pid ",
        "init: closing the pipe to signal completion",
    ] {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words} in {run}")).1;
    }
    let process = scene.world.dir().join("process.json");
    fs::write(&process, r#"{"args":["/bin/true"],"cwd":"/","execCPUAffinity":{"initial":"0"}}"#).unwrap();
    let exec = logged(&["exec", "--process", text(&process), &scene.id]);
    let mut rest = exec.as_str();
    for words in [
        "nsexec container setup: joining the namespaces of process ",
        "nsexec: affinity: 0x1",
        "child process in init()",
        "setns_init: about to exec \\\"/bin/true\\\"",
    ] {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("{words} in {exec}")).1;
    }
    scene.delete();
}

#[test]
fn help_and_version_have_runcs_form() {
    let world = World::create();
    let output = |words: &[&str]| world.tool("ctr-run").args(words).run().success().stdout;
    assert!(output(&["-h"]).starts_with("NAME:\n   ctr-run - Open Container Initiative runtime"));
    assert!(output(&["run", "--help"]).starts_with("NAME:\n   ctr-run run - Create a container and run its program\n"));
    world.tool("ctr-run").args(["--root", "/r", "nope", "-h"]).run().fails(2, &["No help topic for 'nope'"]);
    let version = output(&["--version"]);
    let mut lines = version.lines();
    assert!(lines.next().unwrap().starts_with("ctr-run version "), "{version}");
    let next = lines.next().unwrap();
    let spec = next.strip_prefix("commit: ").map_or(Some(next), |_| lines.next());
    assert_eq!(spec, Some("spec: 1.3.0"), "{version}");
}

// Docker and others look for it in $PATH and read what it says.
#[test]
fn called_as_runc_it_answers_as_runc() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let runc = scene.world.dir().join("runc");
    std::os::unix::fs::symlink(ctr_tests::tool::bin_dir().join("ctr-run"), &runc).unwrap();
    let output = |words: &[&str]| scene.world.program(&runc).args(words).run().success().stdout;
    assert!(output(&["-v"]).starts_with("runc version "));
    assert!(output(&["-h"]).starts_with("NAME:\n   runc - Open Container Initiative runtime"));
    let failed = |verb: &[&str], words: &str| {
        let root = scene.world.run_root();
        let failed = scene.world.program(&runc).args(["--root", text(&root)]).args(verb).run();
        assert_eq!(failed.code(), 1);
        assert!(failed.stderr.starts_with("time=\"") && failed.stderr.contains("\" level=error msg=\""), "{words}");
        assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
    };
    let run = ["run", "--bundle", text(&scene.bundle), &scene.id];
    scene.rewrite(|config| {
        config["mounts"].as_array_mut().unwrap().push(serde_json::json!({ "destination": "/x", "type": "nofs" }));
    });
    failed(&run, "runc run failed: unable to start container process: error during container init: ");
    scene.rewrite(|config| drop(config["mounts"].as_array_mut().unwrap().pop()));
    scene.rewrite(|config| config["process"]["args"] = serde_json::json!(["nope"]));
    failed(&run, "runc run failed: unable to start container process: exec: ");
    failed(&["state", "nobody"], "msg=\"container does not exist: nobody");
}

#[test]
fn a_standard_error_that_is_full_ends_nothing() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("echo done");
    let full = &["sh", "-c", "exec \"$@\" 2> /dev/full", "sh"];
    let ran = scene.make(&["--debug", "--timing", "run"]).through(full).run().success();
    assert_eq!(ran.stdout, "done\n");
    let runc = scene.world.dir().join("runc");
    std::os::unix::fs::symlink(ctr_tests::tool::bin_dir().join("ctr-run"), &runc).unwrap();
    assert_eq!(scene.world.program(&runc).args(["state", "nobody"]).through(full).run().code(), 1);
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

// Only what Debian's runc, an old one, had otherwise is put right in what it writes.
#[test]
fn spec_writes_what_runc_writes_to_the_byte() {
    need!(Need::Program("runc"));
    let world = World::create();
    for flags in [&[][..], &["--rootless"]] {
        let write = |tool: ctr_tests::Tool| {
            tool.arg("spec").args(flags).run().success();
            let path = world.dir().join("config.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            text
        };
        let ours = write(world.tool("ctr-run"));
        let mut runcs = write(world.program("runc"));
        let version = runcs.lines().nth(1).unwrap().to_owned();
        runcs = runcs.replacen(&version, "\t\"ociVersion\": \"1.3.0\",", 1);
        let ambient = runcs.find(",\n\t\t\t\"ambient\"").map(|at| (at, at + runcs[at..].find(']').unwrap() + 1));
        if let Some((from, to)) = ambient {
            runcs.replace_range(from..to, "");
        }
        assert_eq!(ours, runcs, "{flags:?}");
    }
    let bundle = world.dir().join("bundle");
    fs::create_dir(&bundle).unwrap();
    world.tool("ctr-run").args(["spec", "-b", text(&bundle)]).run().success();
    let again = world.tool("ctr-run").args(["spec", "--bundle", text(&bundle)]).run();
    again.fails(1, &["File config.json exists. Remove it first"]);
    world.tool("ctr-run").args(["spec", "-b", "/no/where"]).run().fails(1, &["/no/where/config.json"]);
}

// Enough of them are looked at several at a time.
#[test]
fn many_containers_are_listed_in_the_order_of_their_ids() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    scene.make(&["run", "--keep"]).run().success();
    let state = fs::read_to_string(scene.dir().join("state.json")).unwrap();
    let mut ids: Vec<String> = (0..300).map(|n| format!("{}-{n}", scene.id)).collect();
    for id in &ids {
        let dir = scene.world.run_root().join(id);
        fs::create_dir(&dir).unwrap();
        let own = state.replace(&format!("\"id\":\"{}\"", scene.id), &format!("\"id\":\"{id}\""));
        fs::write(dir.join("state.json"), own).unwrap();
    }
    fs::write(scene.world.run_root().join(&ids[150]).join("state.json"), "{").unwrap();
    let damaged = ids.remove(150);
    ids.push(scene.id.clone());
    ids.sort();
    for flags in [&["list", "--quiet"][..], &["list"], &["list", "--format", "json"]] {
        let listed = scene.runtime(flags).run().success();
        assert!(listed.stderr.contains(&damaged) && listed.stderr.lines().count() == 1, "{}", listed.stderr);
        let listed: Vec<String> = match flags.last() {
            Some(&"json") => {
                let states: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
                states.iter().map(|state| state["id"].as_str().unwrap().to_owned()).collect()
            }
            _ => listed.stdout.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect(),
        };
        let listed: Vec<String> = listed.into_iter().filter(|id| id != "ID").collect();
        assert_eq!(listed, ids, "{flags:?}");
    }
    scene.delete();
}

#[test]
fn containers_can_be_meant_by_a_pattern() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("trap 'exit 0' TERM; touch /tmp/ready; while :; do sleep 0.01; done");
    let ids = ["a1", "a2", "b1"].map(|name| format!("{}{name}", scene.id));
    for id in &ids {
        let flags = ["run", "--detach", "--bundle", text(&scene.bundle)];
        let unique = scene.world.dir().join(format!("{id}.json"));
        let config = fs::read_to_string(scene.bundle.join("config.json")).unwrap();
        fs::write(&unique, config.replace(&scene.id, id)).unwrap();
        scene.runtime(&flags).arg("--config").arg(unique).arg(id).detaches().run().success();
        while scene.runtime(&["exec", id, "ls", "/tmp/ready"]).run().code() != 0 {}
    }
    let status = |id: &str| -> String {
        let state = scene.runtime(&["state", id]).run().success().stdout;
        serde_json::from_str::<Value>(&state).unwrap()["status"].as_str().unwrap().to_owned()
    };
    scene.runtime(&["kill", "--regex", "a[12]$", "TERM"]).run().success();
    for id in &ids[..2] {
        while status(id) != "stopped" {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    assert_eq!(status(&ids[2]), "running");
    // Each that can be deleted is, though one of them cannot.
    scene.runtime(&["delete", "-r", "^.*(a|b)[0-9]$"]).run().fails(1, &["not stopped", &ids[2]]);
    assert_eq!(scene.runtime(&["list", "-q"]).run().success().stdout, format!("{}\n", ids[2]));
    scene.runtime(&["delete", "--regex", "a("]).run().fails(1, &["regular expression", "a("]);
    scene.runtime(&["delete", "--force", "--regex", "."]).run().success();
    assert_eq!(scene.runtime(&["list", "-q"]).run().success().stdout, "");
    scene.runtime(&["delete", "--regex", "."]).run().success();
}

#[test]
fn what_cannot_be_done_now_is_refused_in_runcs_words() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    let refused = |verb: &str, words: &str| {
        scene.runtime(&[verb, &scene.id]).run().fails(1, &[words]);
    };
    scene.make(&["create"]).detaches().run().success();
    refused("resume", "not paused");
    scene.runtime(&["start", &scene.id]).run().success();
    refused("start", "cannot start an already running container");
    refused("delete", "that is not stopped: running");
    scene.runtime(&["kill", &scene.id, "0"]).run().success();
    scene.runtime(&["pause", &scene.id]).run().success();
    refused("pause", "container not running");
    scene.runtime(&["resume", &scene.id]).run().success();
    scene.runtime(&["kill", "--all", &scene.id, "9"]).run().success();
    let state = || -> Value { serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().stdout).unwrap() };
    while state()["status"] != "stopped" {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    refused("start", "cannot start a container that has stopped");
    refused("pause", "container not running");
    refused("kill", "container not running");
    scene.runtime(&["exec", &scene.id, "true"]).run().fails(255, &["cannot exec in a stopped container"]);
    let state = state();
    let members: Vec<&str> = state.as_object().unwrap().keys().map(String::as_str).collect();
    for member in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"] {
        assert!(members.contains(&member), "{member}: {members:?}");
    }
    assert_eq!(state["pid"], 0);
    // All of nothing is signalled.
    scene.runtime(&["kill", "--all", &scene.id, "9"]).run().success();
    scene.runtime(&["delete", &scene.id]).run().success();
    refused("delete", "container does not exist");
    scene.runtime(&["delete", "--force", &scene.id]).run().success();
}

#[test]
fn a_root_that_was_named_must_be_there() {
    let world = World::create();
    assert_eq!(world.tool("ctr-run").args(["list", "-f", "json"]).run().success().stdout, "null\n");
    world.tool("ctr-run").args(["--root", "/no/such/root", "list"]).run().fails(1, &["/no/such/root"]);
    for root in ["/", "/..", "/tmp/../..", "/tmp/./.."] {
        world.tool("ctr-run").args(["--root", root, "list"]).run().fails(1, &["--root must not be /"]);
    }
    fs::write(world.dir().join("file"), "").unwrap();
    let listed = world.tool("ctr-run").args(["--root", text(world.dir()), "list", "--quiet"]).run().success();
    assert_eq!((listed.stdout.as_str(), listed.stderr.as_str()), ("", ""), "what is no directory is no container");
    world.tool("ctr-run").args(["list", "--format", "xml"]).run().fails(1, &["xml"]);
}

// Where there is a command they would be without effect, and --namespace would show another's containers.
#[test]
fn what_is_for_the_pipeline_is_refused_with_a_command() {
    let world = World::create();
    for options in [&["--rm"][..], &["--record", "x"], &["--namespace", "x"], &["--state-dir", "x"]] {
        let refused = world.tool("ctr-run").args(options).args(["list", "-q"]).run();
        refused.fails(1, &[options[0], "pipeline"]);
        let refused = world.tool("ctr-run").args(["list", "-q"]).args(options).run();
        refused.fails(1, &[options[0]]);
    }
    let help = world.tool("ctr-run").args(["list", "--help"]).run().success().stdout;
    assert!(!help.contains("--namespace"), "{help}");
}
