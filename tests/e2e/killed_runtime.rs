// SPDX-License-Identifier: Apache-2.0
//! The runtime killed at one system call after the other: `delete --force` always clears up.
//!
//! strace counts the calls of each name and process apart, so that now the runtime is hit and now the
//! container's process. Every seventh call is tried, from another beginning for each verb.

use std::collections::HashMap;
use std::fs;

use ctr_tests::leak::Leaks;
use ctr_tests::{Need, Outcome, need};

use crate::runtime::Scene;

const STEP: usize = 7;

// Kills the processes of a command at one of its calls after the other; `prepare` goes before each.
fn kill_at_every_call(scene: &Scene, first: usize, words: &[&str], prepare: impl Fn()) {
    let calls = calls_of(scene, words, &prepare);
    assert!(calls.len() > 4 * STEP, "{words:?} makes {} calls only", calls.len());
    let mut killed = 0;
    for (name, count) in calls.iter().skip(first).step_by(STEP) {
        prepare();
        let inject = format!("inject={name}:signal=KILL:when={count}");
        let outcome = trace(scene, words, &["-o", "/dev/null", "-e", &inject]);
        scene.delete(); // and the world's end finds what is left
        let leaks = after_the_tracer(scene);
        assert!(leaks.is_empty(), "killed at call {count} of {name} of {words:?}: {leaks:?}");
        killed += usize::from(outcome.status.code() != Some(0));
    }
    assert!(killed >= 3, "{words:?} was killed {killed} times only");
}

// With -D the tracer is beside the command and not its parent: it stays as long as the container does.
fn trace(scene: &Scene, words: &[&str], options: &[&str]) -> Outcome {
    let tracer: Vec<&str> = ["strace", "-D", "-f"].iter().chain(options).copied().collect();
    scene.runtime(words).through(&tracer).detaches().run()
}

// The calls of a command that runs to its end, as strace counts them: the name, and the how manieth of that
// name in its process.
fn calls_of(scene: &Scene, words: &[&str], prepare: &impl Fn()) -> Vec<(String, usize)> {
    let file = scene.world.dir().join("trace");
    prepare();
    trace(scene, words, &["-o", file.to_str().unwrap()]).success();
    scene.delete();
    after_the_tracer(scene);
    let mut counts = HashMap::new();
    let mut calls = Vec::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
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
