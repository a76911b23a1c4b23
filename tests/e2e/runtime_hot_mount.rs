// SPDX-License-Identifier: Apache-2.0
//! `mounts add` and `mounts remove`: what a running container gets and loses, and what stays as it is.

use std::fs;
use std::path::PathBuf;

use ctr_tests::{Layer, Need, Tool, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};
use crate::runtime_mounts::USER_NAMESPACE;

fn mounts(scene: &Scene, action: &str, mounts: Value) -> Tool {
    let file = scene.world.dir().join("mounts.json");
    fs::write(&file, mounts.to_string()).unwrap();
    scene.runtime(&["mounts", action, &scene.id, text(&file)])
}

fn volume(scene: &Scene) -> PathBuf {
    let volume = scene.world.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    volume
}

#[test]
fn a_running_container_gets_mounts_and_loses_them() {
    need!(Need::Root, Need::Busybox);
    for flags in [&[][..], &USER_NAMESPACE] {
        let scene = Scene::of(None, flags, "exec sleep 1000");
        let volume = volume(&scene);
        // Before its start as well as after.
        scene.make(&["create"]).detaches().run().success();
        let wanted = json!([
            { "destination": "/tmp/new/volume", "source": volume, "options": ["rbind", "ro", "nosuid"] },
            { "destination": "/tmp/new/volume/file", "source": "/dev/null", "options": ["bind"] },
            { "destination": "/tmp/tmpfs", "type": "tmpfs", "source": "x", "options": ["size=64k", "ro", "mode=711"] },
        ]);
        mounts(&scene, "add", wanted.clone()).run().success();
        scene.runtime(&["start", &scene.id]).run().success();
        let shown =
            scene.exec("cat /proc/self/mountinfo; touch /tmp/new/volume/x || echo refused").run().success().stdout;
        let line =
            |destination: &str| shown.lines().find(|line| line.contains(destination)).unwrap_or_default().to_owned();
        assert!(line(" /tmp/new/volume ").contains(" ro,nosuid,"), "{shown}");
        assert!(line(" /tmp/tmpfs ").contains(" ro,") && line(" /tmp/tmpfs ").contains("size=64k"), "{shown}");
        assert!(shown.ends_with("refused\n"), "{shown}");
        let script = "stat -c '%u %a' /tmp/new /tmp/tmpfs; cat /tmp/new/volume/file | wc -c";
        assert_eq!(scene.exec(script).run().success().stdout, "0 755\n0 711\n0\n");
        scene.runtime(&["pause", &scene.id]).run().success();
        mounts(&scene, "remove", json!({ "mounts": wanted })).run().success();
        scene.runtime(&["resume", &scene.id]).run().success();
        let left = scene.exec("grep -c /tmp/ /proc/self/mountinfo; ls /tmp/new/volume").run();
        assert_eq!(left.stdout, "0\n", "{}", left.stderr);
        assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "content\n");
        scene.delete();
    }
}

#[test]
fn of_several_mounts_all_are_made_or_none() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    let volume = volume(&scene);
    scene.make(&["run", "--detach"]).detaches().run().success();
    let first = json!({ "destination": "/mnt", "source": volume, "options": ["bind"] });
    for (second, why) in [
        (json!({ "destination": "/tmp", "type": "tmpfs", "options": ["nonsense"] }), "nonsense"),
        (json!({ "destination": "/tmp", "source": "/missing", "options": ["bind"] }), "/missing"),
        (json!({ "destination": "/proc/self", "source": volume, "options": ["bind"] }), "/proc"),
        (json!({ "destination": "/etc/passwd/x", "source": volume, "options": ["bind"] }), "/etc/passwd/x"),
    ] {
        mounts(&scene, "add", json!([first, second])).run().fails(1, &[why]);
        assert_eq!(scene.exec("grep -c ' /mnt ' /proc/self/mountinfo").run().stdout, "0\n");
    }
    scene.delete();
}

#[test]
fn a_link_in_the_container_leads_an_added_mount_nowhere_else() {
    need!(Need::Root, Need::Busybox);
    let name = format!("ctr-hot-{}", std::process::id());
    let layer = Layer::new().symlink("up", "../../../../../../../../../tmp").symlink("in-proc", "/proc/sys");
    let scene = Scene::of(Some(layer), &[], "exec sleep 1000");
    let volume = volume(&scene);
    scene.make(&["run", "--detach"]).detaches().run().success();
    let at = |destination: &str| json!([{ "destination": destination, "source": volume, "options": ["bind"] }]);
    mounts(&scene, "add", at(&format!("/up/{name}"))).run().success();
    assert_eq!(scene.exec(&format!("cat /tmp/{name}/file")).run().success().stdout, "content\n");
    assert!(!PathBuf::from("/tmp").join(&name).exists());
    mounts(&scene, "add", at("/in-proc/kernel")).run().fails(1, &["/proc"]);
    // By way of the link another mount could be meant by the time.
    mounts(&scene, "remove", at(&format!("/up/{name}"))).run().fails(1, &["/up"]);
    mounts(&scene, "remove", at(&format!("/tmp/{name}"))).run().success();
    scene.delete();
}

#[test]
fn what_hides_the_hosts_files_is_not_taken_away() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let at = |destination: &str| json!([{ "destination": destination }]);
    for destination in ["/proc/kcore", "/sys/firmware", "/proc/sys", "/sys/../proc/sys"] {
        mounts(&scene, "remove", at(destination)).run().fails(1, &["mounts[0]"]);
    }
    mounts(&scene, "remove", at("/etc")).run().fails(1, &["nothing is mounted on /etc"]);
    mounts(&scene, "remove", at("/")).run().fails(1, &["root"]);
    assert_eq!(scene.exec("cat /proc/kcore | wc -c").run().success().stdout, "0\n");
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    while scene.runtime(&["state", &scene.id]).run().stdout.contains("running") {}
    for action in ["add", "remove"] {
        mounts(&scene, action, json!([])).run().fails(1, &["container not running"]);
    }
    scene.delete();
}

#[test]
fn an_added_mount_may_be_idmapped() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::of(None, &USER_NAMESPACE, "exec sleep 1000");
    let volume = volume(&scene);
    scene.make(&["run", "--detach"]).detaches().run().success();
    let mount = json!([{ "destination": "/tmp/mapped", "source": volume, "options": ["bind", "idmap"] }]);
    let added = mounts(&scene, "add", mount).run();
    // /tmp may be of any file system.
    if !added.stderr.contains("does not support idmapped mounts") {
        added.success();
        let shown = scene.exec("stat -c %u /tmp/mapped/file; touch /tmp/mapped/new").run().success();
        assert_eq!(shown.stdout, "0\n");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(volume.join("new")).unwrap()), 0);
    }
    scene.delete();
}
