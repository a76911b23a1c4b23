// SPDX-License-Identifier: Apache-2.0
//! `ctr-gc --repair`: what nobody is at work on goes, and nothing else.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ctr_tests::{Image, Layer, Need, World, need};
use serde_json::{Value, json};

use crate::killed_runtime::status;
use crate::runtime::Scene;

fn repair(world: &World, flags: &[&str]) -> Vec<Value> {
    world.tool("ctr-gc").arg("--repair").args(flags).run().success().json_lines()
}

fn private(path: PathBuf) -> PathBuf {
    DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
    path
}

/// One of everything that a killed process can leave, as (kind, what is to vanish).
fn leave_everything(world: &World) -> Vec<(&'static str, PathBuf)> {
    world.tool("ctr-pull").arg(world.layout("t", &Image::new([Layer::new().file("a", "x")]))).run().success();
    let (state, chain) = (world.state(), "a".repeat(64));
    let file = |path: PathBuf| {
        private(path.parent().unwrap().to_owned());
        fs::write(&path, "x").unwrap();
        path
    };
    let ingest = private(state.join(format!("ingest/sha256-{chain}")));
    file(ingest.join("data"));
    file(ingest.join("lock"));
    let staged = private(state.join(format!("snapshots/@{chain}")));
    file(staged.join("fs/etc/passwd"));
    let unmarked = private(state.join(format!("snapshots/{}", "b".repeat(64))));
    file(unmarked.join("fs/etc/passwd"));
    vec![
        ("container", private(world.run_root().join("unrecorded"))),
        ("ingest", ingest),
        ("file", file(state.join("image/.index.json.77.tmp"))),
        ("snapshot", staged),
        ("snapshot", unmarked),
        ("bundle", private(state.join("bundles/default/@half"))),
        ("task", private(state.join("tasks/default/@half"))),
        ("ticket", file(state.join("sched/queue/7"))),
        ("file", file(state.join("sched/.limit.77.tmp"))),
    ]
}

#[test]
fn everything_that_nobody_holds_goes_once_it_is_asked_for() {
    let world = World::create();
    let left = leave_everything(&world);
    world.tool("ctr-gc").run().fails(2, &["--repair"]);
    let tell = |action: &str| {
        let object = |(kind, path): &(&str, PathBuf)| match *kind {
            "container" => json!({ "kind": kind, "id": "unrecorded", "path": path, "action": action }),
            "bundle" | "task" => json!({ "kind": kind, "id": "half", "path": path, "action": action }),
            _ => json!({ "kind": kind, "path": path, "action": action }),
        };
        left.iter().map(object).collect::<Vec<_>>()
    };
    assert_eq!(repair(&world, &["--dry-run"]), tell("would remove"));
    assert!(left.iter().all(|(_, path)| path.exists()), "{left:?}");
    assert_eq!(repair(&world, &[]), tell("removed"));
    assert!(left.iter().all(|(_, path)| !path.exists()), "{left:?}");
    assert_eq!(repair(&world, &[]), Vec::<Value>::new());
}

#[test]
fn what_somebody_holds_stays() {
    let world = World::create();
    let left = leave_everything(&world);
    let held = |path: &Path| -> File {
        let file = File::open(path).unwrap();
        file.lock().unwrap();
        file
    };
    let lock_of = |(kind, path): &(&str, PathBuf)| match *kind {
        "ingest" => path.join("lock"),
        // Who makes a snapshot works beside its place.
        "snapshot" if !path.ends_with(format!("@{}", "a".repeat(64))) => {
            let beside = format!("@{}", path.file_name().unwrap().to_str().unwrap());
            private(path.with_file_name(beside))
        }
        _ => path.clone(),
    };
    let locks: Vec<File> = left.iter().map(|entry| held(&lock_of(entry))).collect();
    assert_eq!(repair(&world, &[]), Vec::<Value>::new());
    assert!(left.iter().all(|(_, path)| path.exists()), "{left:?}");
    drop(locks);
    assert_eq!(repair(&world, &[]).len(), left.len() + 1);
}

#[test]
fn what_is_no_containers_stays() {
    let world = World::create();
    let root = private(world.run_root());
    fs::create_dir(root.join("public")).unwrap();
    private(root.join("foreign/data"));
    fs::write(root.join("file"), "x").unwrap();
    assert_eq!(repair(&world, &[]), Vec::<Value>::new());
    assert_eq!(fs::read_dir(root).unwrap().count(), 3);
    let elsewhere = world.dir().join("nowhere");
    assert_eq!(repair(&world, &["--root", elsewhere.to_str().unwrap()]), Vec::<Value>::new());
    assert!(!elsewhere.exists());
}

#[test]
fn a_container_that_is_whole_stays_whatever_it_does() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    let status = || status(&scene);
    let stays = |expected: &str| {
        assert_eq!(repair(&scene.world, &[]), Vec::<Value>::new());
        assert_eq!(status(), expected);
    };
    scene.make(&["create"]).detaches().run().success();
    stays("created");
    scene.runtime(&["start", &scene.id]).run().success();
    stays("running");
    fs::write(scene.dir().join(".config.json"), "{").unwrap();
    let path = scene.dir();
    let update = json!({ "kind": "update", "id": scene.id, "path": path, "action": "removed" });
    assert_eq!(repair(&scene.world, &[]), [update]);
    stays("running");
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    while status() != "stopped" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    stays("stopped");
    scene.delete();
}

#[test]
fn a_container_that_was_to_be_deleted_is() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["create"]).detaches().run().success();
    fs::remove_file(scene.dir().join("complete")).unwrap();
    let removed = json!({ "kind": "container", "id": scene.id, "path": scene.dir(), "action": "removed" });
    assert_eq!(repair(&scene.world, &[]), [removed]);
    assert!(!scene.dir().exists()); // and the world's end finds what is left
    // One whose program runs is nobody's to end.
    scene.make(&["run", "--detach"]).detaches().run().success();
    fs::remove_file(scene.dir().join("complete")).unwrap();
    assert_eq!(repair(&scene.world, &[]), Vec::<Value>::new());
    scene.delete();
}
