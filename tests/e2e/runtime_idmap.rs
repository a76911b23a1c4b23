// SPDX-License-Identifier: Apache-2.0
//! Idmapped mounts: the same files with other owners, as the container sees them and as the host stores
//! what the container writes.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use ctr_tests::world::busybox_image;
use ctr_tests::{Image, Layer, Mounted, Need, Outcome, World, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};
use crate::runtime_mounts::{USER_NAMESPACE, add_mount};

/// A tmpfs with a file of user 5 and group 6, and another one below it.
fn source(scene: &Scene) -> (Mounted, Mounted) {
    let tmpfs = json!([{ "type": "tmpfs", "source": "none", "options": ["mode=777"] }]);
    let outer = Mounted::at(&scene.world, "source", &tmpfs);
    fs::create_dir(outer.path().join("below")).unwrap();
    let inner = Mounted::on(&outer.path().join("below"), &tmpfs);
    for mounted in [&outer, &inner] {
        let file = mounted.path().join("file");
        fs::write(&file, "").unwrap();
        chown(file, Some(5), Some(6)).unwrap();
    }
    (outer, inner)
}

fn mappings(container: u32, host: u32, size: u32) -> Value {
    json!([{ "containerID": container, "hostID": host, "size": size }])
}

fn mapped(destination: &str, source: &Path, option: &str, uids: Value, gids: Value) -> Value {
    let options = ["rbind", option];
    json!({ "destination": destination, "source": source, "options": options, "uidMappings": uids, "gidMappings": gids })
}

/// Whether the kernel cannot do it with a tmpfs, which is said so.
fn impossible(ran: &Outcome) -> bool {
    let impossible = ran.stderr.contains("does not support idmapped mounts");
    if impossible {
        ctr_tests::need::cannot(&ran.stderr);
    }
    impossible
}

#[test]
fn a_mount_shows_and_stores_mapped_ids() {
    need!(Need::Root, Need::Busybox);
    let script = "stat -c %u:%g /one/file /one/below/file /all/file /all/below/file /tmp/plain/file
        touch /zero/new && stat -c %u:%g /zero/new; touch /one/denied 2> /dev/null || echo unmapped";
    let scene = Scene::new(script);
    let (outer, _inner) = source(&scene);
    // Nobody may write in a directory whose owner is not mapped.
    chown(outer.path(), Some(7), Some(8)).unwrap();
    scene.rewrite(|config| {
        let ids = || (mappings(0, 1000, 10), mappings(0, 2000, 10));
        add_mount(config, mapped("/one", outer.path(), "rw", mappings(5, 1000, 10), mappings(6, 2000, 10)));
        add_mount(config, mapped("/all", outer.path(), "ridmap", ids().0, ids().1));
        add_mount(config, mapped("/tmp/plain", outer.path(), "rw", json!([]), json!([])));
        add_mount(config, mapped("/zero", outer.path(), "idmap", mappings(7, 0, 1), mappings(8, 0, 1)));
    });
    let ran = scene.make(&["run"]).run();
    if impossible(&ran) {
        return;
    }
    let expected = "1000:2000\n5:6\n1005:2006\n1005:2006\n5:6\n0:0\nunmapped\n";
    assert_eq!(ran.success().stdout, expected);
    let stored = fs::metadata(outer.path().join("new")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (7, 8));
}

#[test]
fn without_mappings_they_are_those_of_the_containers_user_namespace() {
    need!(Need::Root, Need::Busybox);
    let script = "stat -c %u:%g /tmp/mapped/file /tmp/plain/file; touch /tmp/mapped/new; exec sleep 1000";
    let scene = Scene::of(None, &USER_NAMESPACE, script);
    let (outer, _inner) = source(&scene);
    scene.rewrite(|config| {
        for (destination, option) in [("/tmp/mapped", "idmap"), ("/tmp/plain", "rw")] {
            let options = ["bind", option];
            add_mount(config, json!({ "destination": destination, "source": outer.path(), "options": options }));
        }
        // A tmpfs of the host's, which a user namespace's own would not need to map.
        let tmpfs =
            json!({ "destination": "/tmp/tmpfs", "type": "tmpfs", "options": ["ridmap", "nosuid", "mode=750"] });
        add_mount(config, tmpfs);
    });
    let output = scene.world.dir().join("output");
    let script = format!("exec ctr-run run --detach --bundle {} {} > {}", text(&scene.bundle), scene.id, text(&output));
    let ran = scene.world.sh(&script).detaches().run();
    if impossible(&ran) {
        return;
    }
    ran.success();
    while !outer.path().join("new").exists() {
        std::thread::yield_now();
    }
    assert_eq!(fs::read_to_string(output).unwrap(), "5:6\n65534:65534\n");
    let stored = fs::metadata(outer.path().join("new")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (0, 0));
    let tmpfs = scene
        .exec("touch /tmp/tmpfs/x && stat -c %u:%a /tmp/tmpfs /tmp/tmpfs/x; grep ' /tmp/tmpfs ' /proc/self/mountinfo")
        .run();
    let tmpfs = tmpfs.success().stdout;
    assert!(tmpfs.starts_with("0:750\n0:644\n") && tmpfs.contains("nosuid") && tmpfs.contains("idmapped"), "{tmpfs}");

    // Another container that joins the namespace has the same mapping.
    let state: Value = serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().success().stdout).unwrap();
    let joiner = Scene::of(None, &USER_NAMESPACE, "stat -c %u:%g /tmp/mapped/file; readlink /proc/self/ns/user").edit(
        |config| {
            add_mount(
                config,
                json!({ "destination": "/tmp/mapped", "source": outer.path(), "options": ["bind", "idmap"] }),
            );
            let path = format!("/proc/{}/ns/user", state["pid"]);
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "user" {
                    namespace["path"] = json!(path);
                }
            }
            for mappings in ["uidMappings", "gidMappings"] {
                config["linux"].as_object_mut().unwrap().remove(mappings);
            }
        },
    );
    let joined = fs::read_link(format!("/proc/{}/ns/user", state["pid"])).unwrap();
    let expected = format!("5:6\n{}\n", joined.display());
    assert_eq!(joiner.make(&["run"]).run().success().stdout, expected);
    scene.delete();
}

#[test]
fn a_mapping_may_stand_in_the_option() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::of(None, &USER_NAMESPACE, "stat -c %u:%g /tmp/absolute/file /tmp/relative/file");
    let (outer, _inner) = source(&scene);
    scene.rewrite(|config| {
        for (destination, option) in [
            ("/tmp/absolute", "idmap=uids=5-100001-1;gids=6-100002-1"),
            ("/tmp/relative", "ridmap=uids=@5-3-1#9-9-1;gids=@0-4-10"),
        ] {
            let options = ["rbind", option];
            add_mount(config, json!({ "destination": destination, "source": outer.path(), "options": options }));
        }
    });
    let ran = scene.make(&["run"]).run();
    if impossible(&ran) {
        return;
    }
    assert_eq!(ran.success().stdout, "1:2\n3:10\n");
}

#[test]
fn many_mounts_of_one_mapping_take_one_user_namespace() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("true");
    let (outer, _inner) = source(&scene);
    scene.rewrite(|config| {
        for n in 0..5 {
            let destination = format!("/mnt{n}");
            let first = if n == 4 { 7 } else { 5 };
            add_mount(config, mapped(&destination, outer.path(), "idmap", mappings(first, 1, 1), mappings(6, 1, 1)));
        }
    });
    let trace = scene.world.dir().join("trace");
    let strace = ["strace", "-o", text(&trace), "--trace=clone3"];
    let ran = scene.make(&["run"]).through(&strace).run();
    if impossible(&ran) {
        return;
    }
    ran.success();
    let trace = fs::read_to_string(trace).unwrap();
    assert_eq!(trace.matches("CLONE_NEWUSER").count(), 2, "{trace}");
}

#[test]
fn what_cannot_be_mapped_is_said() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let ids = || mappings(0, 1, 1);
    let with = |scene: &Scene, mount: Value| {
        scene.rewrite(|config| {
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/mnt");
            add_mount(config, mount);
        })
    };
    for (mount, why) in [
        // Of the file systems that are everywhere, those that belong to the kernel cannot.
        (
            mapped("/mnt", Path::new("/proc/sys"), "idmap", ids(), ids()),
            &["/mnt", "/proc/sys", "(proc)", "idmapped"][..],
        ),
        (mapped("/mnt", Path::new("/tmp"), "idmap", ids(), json!([])), &["uidMappings", "gidMappings"]),
        (json!({ "destination": "/mnt", "source": "/tmp", "options": ["bind", "idmap"] }), &["user namespace"]),
        (json!({ "destination": "/mnt", "source": "/tmp", "options": ["bind", "idmap=uids=0-1"] }), &["uids"]),
        (
            mapped("/mnt", Path::new("/tmp"), "idmap", json!([ids()[0], ids()[0]]), ids()),
            &["\"0 1 1\\n0 1 1\" to the uid_map", "invalid argument"],
        ),
        (json!({ "destination": "/mnt", "type": "sysfs", "uidMappings": ids(), "gidMappings": ids() }), &["sysfs"]),
    ] {
        with(&scene, mount);
        scene.make(&["run"]).run().fails(1, why);
    }
}

#[test]
fn a_runtime_that_is_killed_leaves_no_process_that_holds_a_mapping() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("true");
    let (outer, _inner) = source(&scene);
    scene.rewrite(|config| {
        add_mount(config, mapped("/mnt", outer.path(), "idmap", mappings(5, 1, 1), mappings(6, 1, 1)));
    });
    let pids = || -> Vec<PathBuf> {
        let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let ours = |path: &PathBuf| {
            fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&scene.id))
        };
        all.filter(ours).collect()
    };
    // When it has made the process and is about to write its mappings.
    let trace = scene.world.dir().join("trace");
    let run = |injected: &[&str]| {
        let strace = [&["strace", "-o", text(&trace), "--trace=openat"], injected].concat();
        scene.make(&["run"]).through(&strace).run();
        fs::read_to_string(&trace).unwrap()
    };
    let number = 1 + run(&[]).lines().position(|line| line.contains("/gid_map")).expect("a mapping is written");
    let killed = run(&[&format!("--inject=openat:signal=KILL:when={number}")]);
    assert!(killed.lines().rev().nth(1).is_some_and(|line| line.contains("/gid_map")), "{killed}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !pids().is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", pids());
        std::thread::yield_now();
    }
    scene.delete();
}

#[test]
fn layers_are_seen_by_the_mappings_of_a_user_namespace_however_many_they_are() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let base = busybox_image(None);
    // Two are named to the kernel in another way than many.
    for count in [1, 15] {
        let more = (0..count).map(|n| Layer::new().file(&format!("layer-{n}"), "x"));
        let image = Image::new(base.layers().iter().cloned().chain(more));
        let reference = world.layout(&format!("image-{count}"), &image);
        let script = "ls -d /layer-* | wc -l; stat -c %u:%g /layer-0; touch /own && stat -c %u:%g /own";
        let record =
            world.bundle(&reference, &world.id(&count.to_string()), &USER_NAMESPACE, &["/bin/sh", "-c", script]);
        let ran = world.tool("ctr-run").arg("--rm").stdin(record).run().success();
        assert_eq!(ran.stdout, format!("{count}\n0:0\n0:0\n"));
    }
}
