// SPDX-License-Identifier: Apache-2.0
//! The runtime killed at one system call after the other: `delete --force` always clears up, and so does
//! `ctr-gc --repair`, which leaves alone what is whole.
//!
//! strace counts the calls of each name and process apart, so that now the runtime is hit and now the
//! container's process. Every seventh call is tried, from another beginning for each verb.

use std::collections::HashMap;
use std::fs;

use ctr_tests::leak::Leaks;
use ctr_tests::{Need, Outcome, need};

use crate::checkpoint::{Checkpointed, LONG, need_criu};
use crate::runtime::{Scene, text};

const STEP: usize = 7;

/// Hits the runtime and all that it makes.
const ALL: &[&str] = &["strace", "-D", "-f"];
/// Hits the runtime alone: criu traces what it makes itself. The streams are of the kind that they were.
const RUNTIME: &[&str] = &["sh", "-c", "exec strace -D \"$@\" < /dev/null >> out 2>&1", "sh"];

// Kills the processes of a command at one of its calls after the other; `prepare` goes before each.
fn kill_at_every_call(scene: &Scene, first: usize, words: &[&str], prepare: impl Fn()) {
    kill_with(ALL, scene, first, words, prepare, || scene.delete());
}

fn kill_with(
    tracer: &[&str],
    scene: &Scene,
    first: usize,
    words: &[&str],
    prepare: impl Fn(),
    mut clear: impl FnMut(),
) {
    let calls = calls_of(tracer, scene, words, &prepare);
    assert!(calls.len() > 4 * STEP, "{words:?} makes {} calls only", calls.len());
    let mut killed = 0;
    for (name, count) in calls.iter().skip(first).step_by(STEP) {
        prepare();
        let inject = format!("inject={name}:signal=KILL:when={count}");
        let outcome = trace(tracer, scene, words, &["-o", "/dev/null", "-e", &inject]);
        clear(); // and the world's end finds what is left
        let leaks = after_the_tracer(scene);
        assert!(leaks.is_empty(), "killed at call {count} of {name} of {words:?}: {leaks:?}");
        killed += usize::from(outcome.status.code() != Some(0));
    }
    assert!(killed >= 3, "{words:?} was killed {killed} times only");
}

/// What a repair after each kill has found.
#[derive(Debug, Default)]
struct Repairs {
    cleared: usize,
    whole: usize,
}

impl Repairs {
    // What is left of a container that is killed at its start takes a moment to end.
    fn repair(&mut self, scene: &Scene) {
        for _ in 0..500 {
            scene.world.tool("ctr-gc").arg("--repair").run().success();
            if !scene.dir().exists() {
                self.cleared += 1;
                return;
            }
            if scene.dir().join("complete").is_symlink() || status(scene) == "running" {
                self.whole += 1;
                return scene.delete();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("a repair leaves a container that is {}", status(scene));
    }
}

/// What the container does, or why that is not known.
pub(crate) fn status(scene: &Scene) -> String {
    let state = scene.runtime(&["state", &scene.id]).run();
    match serde_json::from_str::<serde_json::Value>(&state.stdout) {
        Ok(object) => object["status"].as_str().unwrap().to_owned(),
        Err(_) => state.stderr,
    }
}

fn repair_after_every_call(scene: &Scene, first: usize, words: &[&str], prepare: impl Fn()) -> Repairs {
    let mut repairs = Repairs::default();
    kill_with(ALL, scene, first, words, prepare, || repairs.repair(scene));
    repairs
}

// With -D the tracer is beside the command and not its parent: it stays as long as the container does.
fn trace(tracer: &[&str], scene: &Scene, words: &[&str], options: &[&str]) -> Outcome {
    scene.runtime(words).through(&[tracer, options].concat()).timeout(LONG).detaches().run()
}

// The calls of a command that runs to its end, as strace counts them: the name, and the how manieth of that
// name in its process.
fn calls_of(tracer: &[&str], scene: &Scene, words: &[&str], prepare: &impl Fn()) -> Vec<(String, usize)> {
    let file = scene.world.dir().join("trace");
    prepare();
    trace(tracer, scene, words, &["-o", file.to_str().unwrap()]).success();
    scene.delete();
    after_the_tracer(scene);
    let mut counts = HashMap::new();
    let mut calls = Vec::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        // Of one process alone there is no number before it.
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let pid = &line[..line.len() - call.len()];
        let Some((name, _)) = call.split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let count = counts.entry((pid.to_owned(), name.to_owned())).or_insert(0);
            *count += 1;
            calls.push((name.to_owned(), *count));
        }
    }
    calls
}

// What is left once the tracer, which names the world in its command line, has ended.
fn after_the_tracer(scene: &Scene) -> Leaks {
    let find = || Leaks::find(scene.world.dir(), &scene.id);
    let mut leaks = find();
    for _ in 0..500 {
        if leaks.processes.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        leaks = find();
    }
    leaks
}

fn bundle_of(scene: &Scene) -> String {
    scene.bundle.to_str().unwrap().to_owned()
}

fn create(scene: &Scene) {
    scene.make(&["create"]).detaches().run().success();
}

#[test]
fn a_killed_create_leaves_nothing_that_delete_does_not_remove() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    kill_at_every_call(&scene, 1, &["create", "--bundle", &bundle_of(&scene), &scene.id], || {});
}

#[test]
fn a_killed_run_leaves_nothing_that_delete_does_not_remove() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    kill_at_every_call(&scene, 3, &["run", "--detach", "--bundle", &bundle_of(&scene), &scene.id], || {});
}

#[test]
fn a_killed_exec_leaves_nothing_that_delete_does_not_remove() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    kill_at_every_call(&scene, 5, &["exec", &scene.id, "true"], || {
        scene.make(&["run", "--detach"]).detaches().run().success();
    });
}

#[test]
fn a_killed_start_or_delete_leaves_nothing_that_delete_does_not_remove() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    kill_at_every_call(&scene, 2, &["start", &scene.id], || create(&scene));
    kill_at_every_call(&scene, 4, &["delete", "--force", &scene.id], || create(&scene));
}

#[test]
fn a_repair_clears_up_after_a_killed_create() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    let words = ["create", "--bundle", &bundle_of(&scene), &scene.id];
    let repairs = repair_after_every_call(&scene, 5, &words, || {});
    assert!(repairs.cleared > 5 * repairs.whole, "{repairs:?}");
}

#[test]
fn a_repair_clears_up_after_a_killed_run() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    let words = ["run", "--detach", "--bundle", &bundle_of(&scene), &scene.id];
    let repairs = repair_after_every_call(&scene, 0, &words, || {});
    assert!(repairs.cleared > 2 * repairs.whole, "{repairs:?}");
}

#[test]
fn a_repair_finishes_a_killed_delete() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    let repairs = repair_after_every_call(&scene, 1, &["delete", "--force", &scene.id], || create(&scene));
    // At most of its calls it has not begun to delete.
    assert!(repairs.cleared > 2, "{repairs:?}");
}

#[test]
fn a_repair_leaves_a_container_whose_start_or_exec_was_killed() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    let repairs = repair_after_every_call(&scene, 6, &["start", &scene.id], || create(&scene));
    assert_eq!(repairs.cleared, 0);
    let repairs = repair_after_every_call(&scene, 2, &["exec", &scene.id, "true"], || {
        scene.make(&["run", "--detach"]).detaches().run().success();
    });
    assert_eq!(repairs.cleared, 0);
}

#[test]
fn a_killed_restore_leaves_nothing_that_is_not_removed() {
    need_criu!();
    need!(Need::Program("strace"));
    let container = Checkpointed::run("touch /ready; exec sleep 1000", |_| {});
    container.wait_for("test -e /ready");
    container.checkpoint(&[]).success();
    let scene = &container.scene;
    let (bundle, images) = (bundle_of(scene), container.path("images"));
    let words = ["restore", "--detach", "--image-path", text(&images), "--bundle", &bundle, &scene.id];
    kill_with(RUNTIME, scene, 6, &words, || {}, || scene.delete());
    let mut repairs = Repairs::default();
    kill_with(RUNTIME, scene, 2, &words, || {}, || repairs.repair(scene));
    assert!(repairs.cleared > 2, "{repairs:?}");
}
