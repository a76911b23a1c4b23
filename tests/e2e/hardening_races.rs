// SPDX-License-Identifier: Apache-2.0
//! Containers that attack the runtime while it works: one test per published flaw, with the attacker
//! running beside it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ctr_tests::{Layer, Need, need};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::runtime::{Scene, text};

// A process of the container looks at the runtime's, which has joined it and not yet executed the program:
// what it still holds is the host's.
#[test]
fn cve_2016_9962_a_joining_process_cannot_be_inspected() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let attack = r#"while :; do for p in /proc/[0-9]*; do
        read -r name < $p/comm || continue
        [ "$name" = ctr-run ] || continue
        found=
        for link in $p/exe $p/cwd $p/root $p/fd/*; do readlink $link > /dev/null && found="$found $link"; done
        for file in $p/environ $p/maps; do grep -q . $file && found="$found $file"; done
        # It may have become the program meanwhile, which is the container's own.
        read -r name < $p/comm && [ "$name" = ctr-run ] || continue
        echo seen
        [ -z "$found" ] || echo "LEAK $found"
    done; done 2> /dev/null"#;
    let scene = Scene::new(attack);
    let output = scene.world.dir().join("output");
    let script = format!("exec ctr-run run --detach --bundle {} {} > {}", text(&scene.bundle), scene.id, text(&output));
    scene.world.sh(&script).detaches().run().success();
    // Every execution waits for a moment at its door.
    let trace = ["strace", "-f", "-o", "/dev/null", "-e", "trace=execve", "-e", "inject=execve:delay_enter=400000"];
    scene.exec("true").through(&trace).run().success();
    scene.delete();
    let output = fs::read_to_string(output).unwrap();
    assert!(output.contains("seen"), "the attacker saw nothing");
    assert!(!output.contains("LEAK"), "{output}");
}

// Another container that shares a volume swaps a directory in it for a link to the host while the runtime
// mounts below it.
#[test]
fn cve_2021_30465_a_link_that_appears_at_the_last_moment_leads_nowhere_else() {
    need!(Need::Root, Need::Busybox);
    let name = format!("ctr-30465-{}", std::process::id());
    let target = Path::new("/tmp").join(&name);
    fs::create_dir_all(target.join("sub")).unwrap();
    let scene = Scene::new("cat /proc/self/mountinfo");
    let (volume, second) = (scene.world.dir().join("volume"), scene.world.dir().join("second"));
    fs::create_dir_all(volume.join("dir/sub")).unwrap();
    fs::create_dir(&second).unwrap();
    std::os::unix::fs::symlink(format!("../../../../../../../../../../tmp/{name}"), volume.join("link")).unwrap();
    let scene = scene.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"] }));
        for n in 0..8 {
            let destination = format!("/vol/dir/sub/made{n}");
            let source = &second;
            mounts.push(json!({ "destination": destination, "type": "bind", "source": source, "options": ["bind"] }));
        }
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, link) = (volume.join("dir"), volume.join("link"));
            while !stop.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &dir, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let mut ran = false;
        for _ in 0..25 {
            // It may fail, as something is always in the way; what it makes is in the container.
            let outcome = scene.make(&["run"]).run();
            ran |= outcome.code() == 0;
            for line in outcome.stdout.lines() {
                let at = line.split(' ').nth(4).unwrap();
                assert!(!line.contains("/second ") || at.starts_with("/vol/") || at.starts_with("/tmp/"), "{line}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(ran, "no container could be made at all");
    });
    let made: Vec<_> = fs::read_dir(target.join("sub")).unwrap().flatten().collect();
    assert!(made.is_empty(), "made outside the container: {made:?}");
    fs::remove_dir_all(target).unwrap();
}

// The image has links where the terminal's device is looked for.
#[test]
fn cve_2025_52565_the_console_is_the_containers_terminal() {
    need!(Need::Root, Need::Busybox);
    let file = |name: &str| format!("/tmp/{name}");
    for (name, target) in [("dev/console", file("victim")), ("dev/pts/0", file("victim")), ("dev/ptmx", file("victim"))]
    {
        let layer = Layer::new().dir("dev").dir("dev/pts").file("tmp/victim", "victim").symlink(name, &target);
        let script = "cat /tmp/victim; tty; stat -c %t /dev/console; grep -c ' /tmp/victim ' /proc/self/mountinfo";
        let scene = Scene::of(Some(layer), &[], script).edit(|config| {
            config["process"]["terminal"] = json!(true);
            // The image's own /dev, as with a config that mounts nothing there.
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/dev");
        });
        let outcome = scene.make(&["run"]).run();
        if outcome.code() == 1 && outcome.stdout.is_empty() {
            outcome.fails_with_one_line(&["/dev"]);
            continue;
        }
        // 88 is the major number of the terminals of devpts, in hexadecimal.
        let lines: Vec<&str> = outcome.stdout.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["victim/dev/pts/0", "88", "0"], "{name}");
    }
}

// What the runtime writes to /proc (labels, sysctls) goes to the real one, whatever the container's looks like.
#[test]
fn cve_2025_52881_and_2025_62596_what_is_written_to_proc_goes_to_the_real_one() {
    need!(Need::Root, Need::Busybox);
    let decoy = Layer::new().dir("decoy").dir("decoy/sys").dir("decoy/sys/net").file("decoy/sys/net/x", "");
    for mount in [
        json!({ "destination": "/proc/sys", "type": "bind", "source": "/tmp", "options": ["bind"] }),
        json!({ "destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs" }),
        json!({ "destination": "/proc/thread-self", "type": "tmpfs", "source": "tmpfs" }),
        json!({ "destination": "/proc/sysrq-trigger", "type": "bind", "source": "/dev/null", "options": ["bind"] }),
    ] {
        let scene = Scene::of(Some(decoy.clone()), &[], "cat /proc/sys/net/ipv4/ip_default_ttl").edit(|config| {
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" });
            config["mounts"].as_array_mut().unwrap().push(mount);
        });
        scene.make(&["run"]).run().fails(1, &["/proc"]);
    }
    let scene = Scene::of(Some(decoy), &[], "cat /proc/sys/net/ipv4/ip_default_ttl")
        .edit(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" }));
    assert_eq!(scene.make(&["run"]).run().success().stdout, "77\n");
}

// The label of a process is written through /proc, and an image may bring a link in its place.
#[test]
fn cve_2019_19921_a_proc_that_is_a_link_into_a_volume_is_refused() {
    need!(Need::Root, Need::Busybox);
    let layer = Layer::new().symlink("proc", "/volume/proc");
    let scene = Scene::of(Some(layer), &[], "cat /proc/self/attr/exec");
    let volume = scene.world.dir().join("volume");
    fs::create_dir_all(volume.join("proc/self/attr")).unwrap();
    let scene = scene.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.insert(0, json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["bind"] }));
    });
    scene.make(&["run"]).run().fails(1, &["/proc"]);
    assert_eq!(fs::read_dir(volume.join("proc")).unwrap().count(), 1);
}

#[test]
fn cve_2016_3697_a_numeric_user_is_not_looked_up() {
    need!(Need::Root, Need::Busybox);
    let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\n0:x:5:5::/:/bin/sh\n";
    let scene = Scene::of(Some(Layer::new().file("etc/passwd", passwd)), &["--user", "1000"], "exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    assert_eq!(scene.runtime(&["exec", &scene.id, "id", "-u"]).run().success().stdout, "1000\n");
    for user in ["1000", "0"] {
        let executed = scene.runtime(&["exec", "--user", user, &scene.id, "id", "-u"]).run().success();
        assert_eq!(executed.stdout, format!("{user}\n"));
    }
    scene.delete();
}
