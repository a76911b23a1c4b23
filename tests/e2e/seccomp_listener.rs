// SPDX-License-Identifier: Apache-2.0
//! Seccomp listeners: an agent that answers system calls for a container.

use std::path::Path;

use ctr_tests::tool::Running;
use ctr_tests::{Need, need};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

/// An agent that runs beside a scene's containers.
pub(crate) struct Agent(Running);

impl Agent {
    pub(crate) fn start(scene: &Scene, socket: &str) -> Self {
        let script = ctr_tests::need::repository().join("tests/src/seccomp_agent.py");
        let running = scene.world.program("python3").arg(script).arg(socket).spawn();
        running.wait_for_output("ready");
        Self(running)
    }

    /// Ends it, and returns what it was told, one object for each listener.
    pub(crate) fn end(self) -> Vec<Value> {
        self.0.signal(Signal::SIGKILL);
        let output = self.0.wait().stdout;
        output.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn socket(scene: &Scene) -> String {
    text(&scene.world.dir().join("agent")).to_owned()
}

/// A scene whose profile puts calls to the agent.
fn scene(script: &str, calls: &[&str], no_new_privileges: bool) -> Scene {
    let scene = Scene::new(script);
    let socket = socket(&scene);
    scene.edit(|config| {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "some data",
            "syscalls": [{ "names": calls, "action": "SCMP_ACT_NOTIFY" }],
        });
    })
}

fn state(scene: &Scene) -> Value {
    serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().success().stdout).unwrap()
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];
const TRY: &str = "mkdir /tmp/made 2>&1; ls /tmp";
const REFUSED: &str = "mkdir: can't create directory '/tmp/made': No medium found\n";

#[test]
fn an_agent_answers_calls_and_is_told_for_whom() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    for no_new_privileges in [false, true] {
        let scene = scene(TRY, &MKDIR, no_new_privileges);
        let agent = Agent::start(&scene, &socket(&scene));
        assert_eq!(scene.make(&["run"]).run().success().stdout, REFUSED);
        scene.make(&["create"]).detaches().run().success();
        let state = state(&scene);
        let told = agent.end();
        assert_eq!(told.len(), 2, "one connection each: {told:?}");
        assert_eq!(told[1]["descriptors"], json!(["anon_inode:seccomp notify"]));
        let told = &told[1]["told"];
        let of_state = json!({ "ociVersion": state["ociVersion"], "id": scene.id, "bundle": scene.bundle,
            "status": "creating", "pid": state["pid"], "annotations": state["annotations"] });
        let mut expected = json!({ "ociVersion": "1.3.0", "fds": ["seccompFd"], "metadata": "some data",
            "pid": state["pid"], "state": of_state });
        if state.get("annotations").is_none() {
            expected["state"].as_object_mut().unwrap().remove("annotations");
        }
        assert_eq!(told, &expected);
        scene.delete();
    }
}

#[test]
fn further_processes_have_listeners_of_their_own() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    for no_new_privileges in [false, true] {
        let scene = scene("exec sleep 1000", &MKDIR, no_new_privileges);
        let agent = Agent::start(&scene, &socket(&scene));
        scene.make(&["create"]).detaches().run().success();
        scene.runtime(&["start", &scene.id]).run().success();
        assert_eq!(scene.exec(TRY).run().success().stdout, REFUSED);
        let first = state(&scene);
        let told = agent.end();
        assert_eq!(told.len(), 2);
        let told = &told[1]["told"];
        assert_eq!((&told["state"]["status"], &told["state"]["pid"]), (&json!("running"), &first["pid"]));
        assert_ne!(told["pid"], first["pid"]);
        scene.delete();
    }
}

// The runtime makes these itself between loading the filter and executing the program.
#[test]
fn the_runtimes_own_calls_may_be_put_to_the_agent() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let calls = [
        "read",
        "close",
        "fcntl",
        "open",
        "openat",
        "stat",
        "newfstatat",
        "fstat",
        "access",
        "faccessat",
        "mmap",
        "brk",
        "setgroups",
        "setresuid",
        "setresgid",
        "prctl",
        "capget",
        "capset",
        "chdir",
        "getcwd",
        "close_range",
        "execve",
        "rt_sigaction",
        "rt_sigprocmask",
        "sendmsg",
        "sendto",
        "recvmsg",
        "statx",
    ];
    for no_new_privileges in [false, true] {
        let scene = scene("exec true", &calls, no_new_privileges);
        let agent = Agent::start(&scene, &socket(&scene));
        scene.make(&["run"]).run().success();
        let scene = scene.edit(|config| config["process"]["args"] = json!(["sleep", "1000"]));
        scene.make(&["create"]).detaches().run().success();
        scene.runtime(&["start", &scene.id]).run().success();
        scene.runtime(&["exec", &scene.id, "true"]).run().success();
        agent.end();
        scene.delete();
    }
}

#[test]
fn without_its_agent_a_container_is_not_made() {
    need!(Need::Root, Need::Busybox);
    for no_new_privileges in [false, true] {
        let absent = scene("echo started", &MKDIR, no_new_privileges);
        let failed = absent.make(&["run"]).run().fails(1, &["failed to connect with seccomp agent", &socket(&absent)]);
        assert_eq!(failed.stdout, "");
        assert!(!absent.dir().exists());
    }
    for (change, reason) in [
        (json!({ "listenerPath": "" }), "listenerPath is not set"),
        (json!({ "listenerPath": "@no-such-agent" }), "failed to connect with seccomp agent"),
        (json!({ "listenerPath": "relative" }), "neither an absolute path"),
        (json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (
            json!({ "syscalls": [{ "names": ["write"], "action": "SCMP_ACT_NOTIFY" }] }),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
    ] {
        let scene = scene("true", &MKDIR, true).edit(|config| {
            let profile = config["linux"]["seccomp"].as_object_mut().unwrap();
            profile.extend(change.as_object().unwrap().clone());
        });
        scene.make(&["run"]).run().fails(1, &[reason]);
    }
    // Without a call to put to it, the listener is of no concern.
    let scene = scene("echo started", &[], true)
        .edit(|config| config["linux"]["seccomp"].as_object_mut().unwrap().remove("syscalls").map(drop).unwrap());
    assert_eq!(scene.make(&["run"]).run().success().stdout, "started\n");
}

#[test]
fn an_agent_may_be_named_by_annotation_and_be_abstract() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = scene(TRY, &MKDIR, false);
    let socket = format!("@{}", scene.id);
    let scene = scene.edit(|config| {
        config["linux"]["seccomp"].as_object_mut().unwrap().remove("listenerPath");
        config["annotations"]["run.oci.seccomp.receiver"] = json!(socket);
        config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    });
    let agent = Agent::start(&scene, &socket);
    assert_eq!(scene.make(&["run"]).run().success().stdout, REFUSED);
    agent.end();
}

#[test]
fn calls_fail_once_the_agent_is_gone() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = scene("exec sleep 1000", &MKDIR, false);
    let script = "until [ -e /go ]; do sleep 0.01; done; mkdir /tmp/made 2>&1; echo over";
    let scene = scene.edit(|config| config["process"]["args"][2] = json!(script));
    let agent = Agent::start(&scene, &socket(&scene));
    let output = scene.world.dir().join("output");
    let run = format!("exec ctr-run run --detach --bundle {} {} > {}", text(&scene.bundle), scene.id, text(&output));
    scene.world.sh(&run).detaches().run().success();
    agent.end();
    let pid = state(&scene)["pid"].as_i64().unwrap();
    std::fs::write(Path::new(&format!("/proc/{pid}/root/go")), "").unwrap();
    while !std::fs::read_to_string(&output).unwrap().contains("over") {}
    let said = std::fs::read_to_string(&output).unwrap();
    assert!(said.contains("Function not implemented"), "{said}");
    scene.delete();
}

#[test]
fn a_hook_inherits_no_listener() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    for no_new_privileges in [false, true] {
        let scene = scene("true", &MKDIR, no_new_privileges).edit(|config| {
            // 3 is the directory that ls reads.
            crate::runtime::add_hook(config, "startContainer", "test \"$(echo $(ls /proc/self/fd))\" = '0 1 2 3'");
        });
        let agent = Agent::start(&scene, &socket(&scene));
        scene.make(&["run"]).run().success();
        agent.end();
    }
}
