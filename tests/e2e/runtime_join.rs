// SPDX-License-Identifier: Apache-2.0
//! Namespaces by path: a container in those of another, or in a mount namespace that somebody has made.

use std::fs;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};
use crate::runtime_mounts::USER_NAMESPACE;

fn pid_of(scene: &Scene) -> i64 {
    let state: Value = serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().success().stdout).unwrap();
    state["pid"].as_i64().unwrap()
}

const KINDS: [(&str, &str); 7] = [
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("pid", "pid"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("user", "user"),
];

#[test]
fn all_namespaces_of_another_container_can_be_joined() {
    need!(Need::Root, Need::Busybox);
    for flags in [&[][..], &USER_NAMESPACE] {
        let first = Scene::of(None, flags, "exec sleep 1000").edit(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
            // That one belongs to the host's user namespace, though the container has its own.
            config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 1000, "nanosecs": 0 } });
        });
        first.make(&["run", "--detach"]).detaches().run().success();
        let pid = pid_of(&first);
        let kinds: Vec<_> = KINDS.iter().filter(|(kind, _)| *kind != "user" || !flags.is_empty()).collect();
        let script: String = kinds.iter().map(|(_, link)| format!("busybox readlink /proc/self/ns/{link};")).collect();
        let joiner = Scene::of(None, flags, &format!("{script} touch /tmp/x && echo written")).edit(|config| {
            let mut namespaces = vec![json!({ "type": "mount" })];
            let path = |link: &str| format!("/proc/{pid}/ns/{link}");
            namespaces.extend(kinds.iter().map(|(kind, link)| json!({ "type": kind, "path": path(link) })));
            config["linux"]["namespaces"] = json!(namespaces);
            for field in ["uidMappings", "gidMappings"] {
                config["linux"].as_object_mut().unwrap().remove(field);
            }
            config.as_object_mut().unwrap().remove("hostname");
        });
        let joined = joiner.make(&["run"]).run().success().stdout;
        let links = kinds.iter().map(|(_, link)| fs::read_link(format!("/proc/{pid}/ns/{link}")).unwrap());
        let expected: String = links.map(|link| format!("{}\n", link.display())).collect();
        assert_eq!(joined, format!("{expected}written\n"));
        first.delete();
    }
}

#[test]
fn a_mount_namespace_that_is_joined_gets_the_containers_root() {
    need!(Need::Root, Need::Busybox, Need::Program("unshare"));
    let scene = Scene::new("busybox readlink /proc/self/ns/mnt; cat /volume/file; ls -d /etc");
    let dir = scene.world.dir().join("only-there");
    fs::create_dir(&dir).unwrap();
    // The source of the volume is in that namespace alone.
    let script =
        format!("mount -t tmpfs none {0} && echo there > {0}/file && echo ready && exec sleep 1000", dir.display());
    let holder =
        scene.world.program("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]).spawn();
    holder.wait_for_output("ready");
    let namespace = format!("/proc/{}/ns/mnt", holder.pid());
    let link = fs::read_link(&namespace).unwrap();
    let scene = scene.edit(|config| {
        for wanted in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if wanted["type"] == "mount" {
                wanted["path"] = json!(namespace);
            }
        }
        let mount = json!({ "destination": "/volume", "source": dir, "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let ran = scene.make(&["run"]).run();
    holder.signal(nix::sys::signal::Signal::SIGKILL);
    holder.wait();
    assert_eq!(ran.success().stdout, format!("{}\nthere\n/etc\n", link.display()));
}

#[test]
fn the_runtimes_own_mount_namespace_is_not_joined() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
        namespaces.push(json!({ "type": "mount", "path": format!("/proc/{}/ns/mnt", std::process::id()) }));
    });
    scene.make(&["run"]).run().fails(1, &["mount namespace"]);
}

fn remove_mount_namespace(config: &mut Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
}

// The test's own mount namespace stands for the host's.
#[test]
fn without_a_mount_namespace_the_mounts_are_where_the_runtime_is() {
    need!(Need::Root, Need::Busybox, Need::Program("unshare"));
    let scene = Scene::new("exec sleep 1000").edit(|config| {
        remove_mount_namespace(config);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let root = scene.bundle.join("rootfs");
    let script = "readlink /proc/self/ns/mnt; \"$@\"; grep -c \" $0/proc \" /proc/self/mounts
        ls $0/dev/null; grep \" / / \" /proc/self/mountinfo | grep -c shared:";
    let wrapper = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", script, text(&root)];
    let shown = scene.make(&["run", "--detach"]).detaches().through(&wrapper).run().success().stdout;
    let (namespace, rest) = shown.split_once('\n').unwrap();
    // What the host's mounts share with others they still share.
    assert_eq!(rest, format!("1\n{}/dev/null\n1\n", root.display()));
    // Another process is in the container's root too, though no namespace leads there.
    let inside = scene.exec("busybox readlink /proc/self/ns/mnt; ls /bin/busybox; cd /..; pwd").run().success().stdout;
    assert_eq!(inside, format!("{namespace}\n/bin/busybox\n/\n"));
    scene.delete();
}

#[test]
fn nothing_can_be_hidden_without_a_mount_namespace() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(remove_mount_namespace);
    scene.make(&["run"]).run().fails(1, &["linux.maskedPaths", "mount namespace"]);
    let scene = Scene::of(None, &USER_NAMESPACE, "true").edit(remove_mount_namespace);
    scene.make(&["run"]).run().fails(1, &["linux.namespaces", "mount namespace"]);
}
