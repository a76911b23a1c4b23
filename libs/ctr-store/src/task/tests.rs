// SPDX-License-Identifier: Apache-2.0
//! Tasks: held, ended, abandoned, removed.

use std::fs;

use ctr_record::{Classify, ErrorKind, Timestamp};
use nix::unistd::Pid;

use super::*;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scratch(name: &str) -> (Scratch, Tasks) {
    let root = std::env::temp_dir().join(format!("ctr-store-task-{name}-{}", std::process::id()));
    let tasks = Tasks::of(&StateDir::open(&root).unwrap(), "default");
    (Scratch(root), tasks)
}

fn order(id: &str) -> Order {
    Order {
        id: id.into(),
        bundle: "/b".into(),
        runtime: "/usr/bin/true".into(),
        runtime_root: "/run/x".into(),
        log_path: None,
        log_format: LogFormat::Cri,
        terminal: false,
        mounted: false,
    }
}

fn exit(status: u32) -> Exit {
    let exited_at = Timestamp::now();
    Exit { exit_status: status, exited_at, signal: None, oom_killed: false, dropped_bytes: 0 }
}

fn this() -> Process {
    Process::of(Pid::this()).unwrap()
}

fn status(tasks: &Tasks, id: &str) -> TaskStatus {
    tasks.open(id).unwrap().state().unwrap().status
}

#[test]
fn a_task_goes_from_creating_to_stopped_and_is_gone_when_removed() {
    let (_scratch, tasks) = scratch("life");
    let mut held = tasks.create(order("web")).unwrap();
    assert_eq!(status(&tasks, "web"), TaskStatus::Creating);
    held.record_start(this(), Timestamp::now()).unwrap();
    assert_eq!(status(&tasks, "web"), TaskStatus::Running);
    held.record_exit(&exit(7)).unwrap();
    assert_eq!(status(&tasks, "web"), TaskStatus::Stopped);
    drop(held);
    let task = tasks.open("web").unwrap();
    assert_eq!(task.exit().unwrap().unwrap().exit_status, 7);
    assert_eq!(task.file().log.path, task.path().join("log"));
    task.hold().unwrap().remove().unwrap();
    assert_eq!(tasks.open("web").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(&tasks.directory).unwrap().count(), 0);
}

#[test]
fn an_id_is_in_use_until_its_task_is_removed() {
    let (_scratch, tasks) = scratch("inuse");
    let held = tasks.create(order("web")).unwrap();
    let refused = |how: &str| {
        let error = tasks.create(order("web")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(how), "{error}");
    };
    refused("creating");
    held.record_exit(&exit(0)).unwrap();
    refused("stopped");
    held.remove().unwrap();
    drop(tasks.create(order("web")).unwrap());
    refused("unknown");
}

#[test]
fn without_a_supervisor_only_a_live_process_tells() {
    let (_scratch, tasks) = scratch("abandoned");
    let mut held = tasks.create(order("web")).unwrap();
    held.record_start(this(), Timestamp::now()).unwrap();
    drop(held); // as if killed
    let state = tasks.open("web").unwrap().state().unwrap();
    assert_eq!((state.status, state.supervised), (TaskStatus::Running, false));

    let mut held = tasks.create(order("dead")).unwrap();
    held.record_start(Process { start_time: 1, ..this() }, Timestamp::now()).unwrap();
    drop(held);
    assert_eq!(status(&tasks, "dead"), TaskStatus::Unknown);

    let mut held = tasks.create(order("rebooted")).unwrap();
    held.task.file.boot_id = "another".into();
    held.record_start(this(), Timestamp::now()).unwrap();
    drop(held);
    assert_eq!(status(&tasks, "rebooted"), TaskStatus::Unknown);
}

#[test]
fn what_a_killed_process_left_half_made_is_in_nobodys_way() {
    let (_scratch, tasks) = scratch("halfmade");
    fs::create_dir_all(tasks.directory.join("@web")).unwrap();
    fs::write(tasks.directory.join("@web/task.json"), "{").unwrap();
    assert!(tasks.ids().unwrap().is_empty());
    let held = tasks.create(order("web")).unwrap();
    assert_eq!(tasks.ids().unwrap(), ["web"]);
    fs::create_dir(tasks.directory.join("@web")).unwrap();
    held.remove().unwrap();
    assert_eq!(fs::read_dir(&tasks.directory).unwrap().count(), 0);
}

#[test]
fn what_is_abandoned_or_damaged_can_be_removed_and_what_is_held_cannot() {
    let (_scratch, tasks) = scratch("sweep");
    fs::create_dir_all(tasks.directory.join("@old/sub")).unwrap();
    tasks.sweep().unwrap();
    assert_eq!(fs::read_dir(&tasks.directory).unwrap().count(), 0);
    let held = tasks.create(order("web")).unwrap();
    assert_eq!(tasks.discard("web").unwrap_err().kind(), ErrorKind::Conflict);
    fs::write(held.task().path().join("task.json"), "").unwrap();
    drop(held);
    assert!(matches!(tasks.open("web"), Err(TaskError::Store(StoreError::Damaged { .. }))));
    tasks.discard("web").unwrap();
    assert!(tasks.ids().unwrap().is_empty());
}

#[test]
fn a_task_that_is_held_is_waited_for() {
    let (_scratch, tasks) = scratch("wait");
    let held = tasks.create(order("web")).unwrap();
    let task = tasks.open("web").unwrap();
    let waiter = std::thread::spawn(move || task.hold().unwrap().task().exit().unwrap().unwrap().exit_status);
    held.record_exit(&exit(9)).unwrap();
    assert!(!waiter.is_finished());
    drop(held);
    assert_eq!(waiter.join().unwrap(), 9);
}

#[test]
fn names_stay_inside_the_directory() {
    let (_scratch, tasks) = scratch("names");
    for bad in ["../x", "@web", "a/b", ""] {
        assert_eq!(tasks.open(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        assert_eq!(tasks.create(order(bad)).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
    assert_eq!(tasks.open("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(tasks.ids().unwrap().is_empty());
}
