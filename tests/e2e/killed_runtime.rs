// SPDX-License-Identifier: Apache-2.0
//! The runtime killed at one system call after the other: `delete --force` always clears up.
//!
//! strace counts the calls of each process apart, so that now the runtime is hit and now the container's
//! process. Every seventh call is tried, from another beginning for each verb.

use ctr_tests::leak::Leaks;
use ctr_tests::{Need, need};

use crate::runtime::Scene;

const STEP: usize = 7;

// Kills the processes of a command at their Nth call until it comes to its end; `prepare` and `clear` go
// before and after each.
fn kill_at_every_call(scene: &Scene, first: usize, words: &[&str], prepare: impl Fn()) {
    for (killed, call) in (first..).step_by(STEP).enumerate() {
        prepare();
        let inject = format!("inject=all:signal=KILL:when={call}");
        // With -D the tracer is beside the command and not its parent: it stays as long as the container does.
        let trace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", &inject];
        let outcome = scene.runtime(words).through(&trace).detaches().run();
        scene.delete(); // and the world's end finds what is left
        let leaks = after_the_tracer(scene);
        assert!(leaks.is_empty(), "killed at call {call} of {words:?}: {leaks:?}");
        if outcome.status.code() == Some(0) {
            assert!(killed >= 3, "{words:?} was killed {killed} times only");
            return;
        }
    }
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
