// SPDX-License-Identifier: Apache-2.0
//! `ctr-shim`: a container that outlives whoever started it, and whose end is known afterwards.

use std::fs;
use std::time::{Duration, Instant};

use ctr_tests::{Need, Outcome, World, need};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A world with one supervised container.
pub(crate) struct Supervised {
    pub(crate) world: World,
    pub(crate) id: String,
}

impl Supervised {
    pub(crate) fn start(flags: &[&str], script: &str) -> Self {
        let (supervised, started) = Self::try_start(flags, &["sh", "-c", script], &[]);
        started.success();
        supervised
    }

    pub(crate) fn try_start(flags: &[&str], command: &[&str], shim: &[&str]) -> (Self, Outcome) {
        let world = World::create();
        let id = world.id("t");
        let record = world.bundle(&world.busybox(None), &id, flags, command);
        let started = world.tool("ctr-shim").args(shim).stdin(record).run();
        (Self { world, id }, started)
    }

    pub(crate) fn task(&self, verb: &str, args: &[&str]) -> Outcome {
        self.world.tool("ctr-task").args([verb, &self.id]).args(args).run()
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.task("logs", &[]).success().stdout.contains(text) {
            assert!(Instant::now() < deadline, "{:?}", self.task("logs", &[]).stdout);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn delete(&self) {
        self.task("delete", &["--force"]).success();
        assert_eq!(self.world.files("tasks/default"), Vec::<String>::new());
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        let events = self.world.tool("ctr-events").run().success().json_lines();
        let of_task = events.iter().filter(|event| event["event"]["container_id"] == self.id.as_str());
        of_task.map(|event| event["topic"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn returns_once_the_container_runs_with_the_task_in_the_record() {
    need!(Need::Root, Need::Busybox);
    let (supervised, started) = Supervised::try_start(&[], &["sleep", "1000"], &[]);
    let record = started.success().json();
    let task = &record["task"];
    assert_eq!((&task["id"], &task["status"]), (&supervised.id.as_str().into(), &"running".into()));
    assert!(record["bundle"]["id"].is_string());
    let pid = task["pid"].as_i64().unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "sleep\n");
    supervised.delete();
}

#[test]
fn the_death_of_the_caller_its_shell_and_its_terminal_changes_nothing() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let id = world.id("t");
    let record = world.bundle(&world.busybox(None), &id, &[], &["sh", "-c", "sleep 0.5; echo survived; exit 3"]);
    fs::write(world.dir().join("record"), record).unwrap();
    // One process to the end: another would outlive it wherever the whole run ignores hang-ups (nohup).
    let shell = world.sh("ctr-shim < record > started; echo up; exec sleep 1000");
    let mut terminal = ctr_tests::pty::Terminal::open(shell, 24, 80);
    terminal.expect("up");
    // The session's leader is killed and its terminal hangs up.
    drop(terminal);
    let waited = world.tool("ctr-task").args(["wait", &id]).run();
    assert_eq!(waited.code(), 3, "{}", waited.stderr);
    assert_eq!(world.tool("ctr-task").args(["logs", &id]).run().success().stdout, "survived\n");
    world.tool("ctr-task").args(["delete", &id]).run().success();
}

#[test]
fn both_streams_are_logged_to_the_last_byte() {
    need!(Need::Root, Need::Busybox);
    let script =
        "echo to out; echo to err >&2; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf end";
    let supervised = Supervised::start(&[], script);
    assert_eq!(supervised.task("wait", &[]).code(), 0);
    let logs = supervised.task("logs", &[]).success();
    let lines: Vec<&str> = logs.stdout.lines().chain(logs.stderr.lines()).collect();
    for line in ["to out", "to err", "line 0", "line 1999", "end"] {
        assert!(lines.contains(&line), "{line}");
    }
    supervised.delete();
}

#[test]
fn exits_are_recorded_for_later() {
    need!(Need::Root, Need::Busybox);
    for (script, status) in [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$; sh -c 'kill -9 $$'; exit $?", 137)] {
        let supervised = Supervised::start(&[], script);
        assert_eq!(supervised.task("wait", &[]).code(), status);
        // And again, when it is long gone.
        assert_eq!(supervised.task("wait", &[]).code(), status);
        let got = supervised.task("get", &[]).success().json();
        assert_eq!(got["status"], "stopped", "{got:#}");
        supervised.delete();
    }
}

#[test]
fn events_come_in_containerds_order() {
    need!(Need::Root, Need::Busybox);
    let supervised = Supervised::start(&[], "exit 5");
    assert_eq!(supervised.task("wait", &[]).code(), 5);
    supervised.delete();
    assert_eq!(supervised.topics(), ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    let events = supervised.world.tool("ctr-events").run().success().json_lines();
    let exit = events.iter().find(|event| event["topic"] == "/tasks/exit").unwrap();
    assert_eq!(exit["event"]["exit_status"], 5);
    assert_eq!(exit["event"]["id"], supervised.id.as_str());
}

#[test]
fn a_container_that_cannot_start_is_an_error_and_leaves_no_task() {
    need!(Need::Root, Need::Busybox);
    let (supervised, started) = Supervised::try_start(&[], &["no-such-program"], &[]);
    started.fails(3, &["no-such-program"]);
    assert_eq!(supervised.world.files("tasks/default"), Vec::<String>::new());
    assert_eq!(supervised.world.tool("ctr-task").arg("list").run().success().json_lines(), Vec::<Value>::new());
}

#[test]
fn an_id_in_use_is_a_conflict() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let id = world.id("t");
    let record = world.bundle(&world.busybox(None), &id, &[], &["sleep", "1000"]);
    world.tool("ctr-shim").stdin(record.clone()).run().success();
    world.tool("ctr-shim").stdin(record).run().fails(4, &[&id]);
    let supervised = Supervised { world, id };
    assert_eq!(supervised.task("get", &[]).success().json()["status"], "running");
    supervised.delete();
}

#[test]
fn the_container_of_a_killed_shim_lives_on_and_can_be_deleted() {
    need!(Need::Root, Need::Busybox);
    let supervised = Supervised::start(&[], "sleep 1000");
    let shims = ctr_tests::leak::processes(supervised.world.dir(), &supervised.id);
    let shims: Vec<i32> =
        shims.iter().filter(|(_, command)| command.contains("ctr-shim")).map(|(pid, _)| *pid).collect();
    assert!(!shims.is_empty());
    for shim in shims {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let got = supervised.task("get", &[]).success().json();
        assert_eq!(got["status"], "running", "{got:#}");
        if got["supervised"] == false {
            break;
        }
        assert!(Instant::now() < deadline, "{got:#}");
    }
    supervised.delete();
}

#[test]
fn runc_can_be_the_runtime() {
    need!(Need::Root, Need::Busybox, Need::Program("runc"));
    let (supervised, started) =
        Supervised::try_start(&[], &["sh", "-c", "cat /etc/motd; exit 4"], &["--runtime", "runc"]);
    started.success();
    assert_eq!(supervised.task("wait", &[]).code(), 4);
    assert_eq!(supervised.task("logs", &[]).success().stdout, "hello from a container\n");
    supervised.delete();
}
