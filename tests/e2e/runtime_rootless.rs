// SPDX-License-Identifier: Apache-2.0
//! Containers of an ordinary user, who has no right but those over what is his.

use std::fs;
use std::os::unix::fs::symlink;

use ctr_tests::tool::bin_dir;
use ctr_tests::{Need, Tool, World, need};
use serde_json::json;

use crate::runtime::{Scene, text};
use crate::systemd::Systemd;

const USER: u32 = 4242;

/// A bundle and a world of the user's, and the runtime where he reaches it.
fn scene(script: &str) -> Scene {
    let world = World::create();
    let (bundle, root) = (world.dir().join("bundle"), world.dir().join("bundle/rootfs"));
    for dir in ["bin", "proc", "dev", "sys"].map(|dir| root.join(dir)).iter().chain([&world.dir().join("runtime")]) {
        fs::create_dir_all(dir).unwrap();
    }
    fs::copy(ctr_tests::need::program("busybox").unwrap(), root.join("bin/busybox")).unwrap();
    symlink("busybox", root.join("bin/sh")).unwrap();
    fs::copy(bin_dir().join("ctr-run"), world.dir().join("ctr-run")).unwrap();
    world.tool("ctr-run").args(["spec", "--rootless", "--bundle", text(&bundle)]).run().success();
    let scene = Scene { id: world.id("t"), world, bundle }.edit(|config| {
        config["root"]["readonly"] = json!(false);
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        for member in ["uidMappings", "gidMappings"] {
            config["linux"][member] = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        }
    });
    scene.world.program("chown").args(["-R", &format!("{USER}:{USER}")]).arg(scene.world.dir()).run().success();
    scene
}

/// `ctr-run ARGS`, by the user.
fn runtime(scene: &Scene, args: &[&str]) -> Tool {
    let user = USER.to_string();
    let tool = scene.world.program(scene.world.dir().join("ctr-run")).args(args);
    let tool = tool.env("XDG_RUNTIME_DIR", scene.world.dir().join("runtime"));
    let tool = tool.through(&["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
    tool.through(&["env", "-u", "DBUS_SESSION_BUS_ADDRESS"])
}

#[test]
fn an_ordinary_user_has_containers_of_his_own() {
    need!(Need::Root, Need::Busybox, Need::Program("setpriv"));
    let scene = scene(
        "busybox touch /mine; busybox id -u; busybox cat /proc/self/uid_map; echo ready; exec busybox sleep 1000",
    );
    let (bundle, id) = (text(&scene.bundle), scene.id.as_str());
    let running = runtime(&scene, &["run", "--bundle", bundle, id]).spawn();
    let said = running.wait_for_output("ready");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4242", "1", "ready"]);
    let exec = runtime(&scene, &["exec", id, "busybox", "id", "-u"]).run().success();
    assert_eq!(exec.stdout, "0\n");
    runtime(&scene, &["kill", id, "KILL"]).run().success();
    assert_eq!(running.wait().code(), 128 + 9);
    let mine = fs::metadata(scene.bundle.join("rootfs/mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&mine), USER);
    assert!(!scene.dir().exists());
}

#[test]
fn a_container_is_a_scope_of_the_users_systemd() {
    need!(Need::Root, Need::Busybox, Need::Program("setpriv"), Need::Program("systemctl"));
    let scene = scene("exec busybox sleep 1000");
    let Some(systemd) = Systemd::boot_user(&scene.world, USER) else { return };
    let (bundle, id) = (text(&scene.bundle), scene.id.as_str());
    let by_user = |args: &[&str]| systemd.inside(runtime(&scene, args)).detaches().run().success();
    by_user(&["--systemd-cgroup", "run", "--detach", "--bundle", bundle, id]);
    let scope = systemd.cgroup.join(format!("user/user.slice/ctr-{id}.scope"));
    let processes = || fs::read_to_string(scope.join("cgroup.procs")).unwrap().lines().count();
    assert_eq!(processes(), 1);
    by_user(&["exec", "--detach", id, "busybox", "sleep", "1000"]);
    assert_eq!(processes(), 2);
    by_user(&["delete", "--force", id]);
    assert!(!scope.exists() && !scene.dir().exists());
}
