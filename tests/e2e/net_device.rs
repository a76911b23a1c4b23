// SPDX-License-Identifier: Apache-2.0
//! Network devices that are moved into a container. What the tests make is in a network namespace of their
//! own, and goes with it.

use ctr_tests::need::cannot;
use ctr_tests::{Need, Outcome, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

/// A scene that has a network device `pair0` of a pair, and runs a script.
fn scene(script: &str, devices: Value) -> Scene {
    Scene::new(script).edit(|config| config["linux"]["netDevices"] = devices)
}

/// Runs it where `setup` has been done to the device.
fn run(scene: &Scene, setup: &str) -> Outcome {
    let (bundle, id) = (text(&scene.bundle), &scene.id);
    let script = format!(
        "set -e; ip link add pair0 type veth peer name pair1; ip link set pair1 up; {setup}
        ctr-run run --bundle {bundle} {id}"
    );
    scene.world.program("unshare").args(["--net", "sh", "-c", &script]).run()
}

fn lacking() -> Option<String> {
    let made = std::process::Command::new("unshare")
        .args(["--net", "ip", "link", "add", "pair0", "type", "veth", "peer", "name", "pair1"])
        .output();
    match made {
        Ok(output) if output.status.success() => None,
        _ => Some("no pair of network devices can be made".to_owned()),
    }
}

#[test]
fn a_device_is_moved_with_what_was_set_up_of_it() {
    need!(Need::Root, Need::Busybox, Need::Program("ip"));
    if let Some(reason) = lacking() {
        return cannot(&reason);
    }
    let scene = scene("busybox ip address show dev pair0", json!({ "pair0": {} }));
    let shown = run(
        &scene,
        "ip link set pair0 mtu 1789 address 00:11:22:33:44:55
        ip address add 169.254.169.77/32 dev pair0
        ip address add 10.1.2.3/24 broadcast 10.1.2.255 dev pair0
        ip address add 127.0.0.33/8 scope host dev pair0
        ip address add fd00::7/64 dev pair0 nodad
        ip address add 10.9.9.9/24 dev pair0 valid_lft 3000 preferred_lft 3000
        ip link set pair0 up",
    );
    let shown = shown.success().stdout;
    for kept in [
        "mtu 1789 ",
        "link/ether 00:11:22:33:44:55 ",
        ",UP,",
        "inet 169.254.169.77/32 scope global pair0",
        "inet 10.1.2.3/24 brd 10.1.2.255 scope global pair0",
        "inet6 fd00::7/64 scope global",
    ] {
        assert!(shown.contains(kept), "{kept}: {shown}");
    }
    for left in ["127.0.0.33", "10.9.9.9"] {
        assert!(!shown.contains(left), "{left}: {shown}");
    }
}

#[test]
fn a_device_is_renamed_by_name_or_by_template() {
    need!(Need::Root, Need::Busybox, Need::Program("ip"));
    if let Some(reason) = lacking() {
        return cannot(&reason);
    }
    let show = "for d in /sys/class/net/*; do [ -e $d/ifindex ] && echo ${d##*/} $(cat $d/flags); done";
    let both = json!({ "pair0": { "name": "inside" }, "pair1": { "name": "net%d" } });
    let mut lines: Vec<String> =
        run(&scene(show, both), "").success().stdout.lines().map(|line| line.replace("0x1003", "up")).collect();
    lines.retain(|line| line.ends_with(" up"));
    assert_eq!(lines, ["inside up", "net0 up"]);
    let scene = scene("true", json!({ "pair0": { "name": "lo" } }));
    run(&scene, "").fails(1, &["\"lo\" exists in the container's network namespace already"]);
}

// Sysctls are set when it has arrived, and hooks find it.
#[test]
fn parameters_of_a_device_can_be_set() {
    need!(Need::Root, Need::Busybox, Need::Program("ip"));
    if let Some(reason) = lacking() {
        return cannot(&reason);
    }
    let scene = scene("cat /proc/sys/net/ipv4/conf/inside/rp_filter", json!({ "pair0": { "name": "inside" } }));
    let scene = scene.edit(|config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.conf.inside.rp_filter": "2" });
        crate::runtime::add_hook(config, "createContainer", "grep -q inside: /proc/self/net/dev");
    });
    assert_eq!(run(&scene, "").success().stdout, "2\n");
}

#[test]
fn a_device_stays_in_a_namespace_that_is_not_the_containers_own() {
    need!(Need::Root, Need::Busybox, Need::Program("ip"));
    if let Some(reason) = lacking() {
        return cannot(&reason);
    }
    let scene = scene("busybox ip -o link show dev inside", json!({ "pair0": { "name": "inside" } }));
    let scene = scene.edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!("/proc/self/fd/3");
            }
        }
    });
    let path = scene.bundle.join("config.json");
    // A namespace that a process keeps, which ends with the script.
    let setup = format!(
        "mkfifo {0}/end; unshare --net sh -c 'echo > {0}/end; cat {0}/end' & read x < {0}/end
        sed -i \"s|/proc/self/fd/3|/proc/$!/ns/net|\" {1}
        trap 'nsenter --net=/proc/'$!'/ns/net ip -o link show dev inside; echo > {0}/end' EXIT",
        text(scene.world.dir()),
        text(&path)
    );
    let shown = run(&scene, &setup).success().stdout;
    assert_eq!(shown.matches(": inside@").count() + shown.matches(": inside:").count(), 2, "{shown}");
}

#[test]
fn a_device_that_cannot_be_moved_is_named() {
    need!(Need::Root, Need::Busybox, Need::Program("ip"));
    if let Some(reason) = lacking() {
        return cannot(&reason);
    }
    let absent = scene("true", json!({ "no-such": {} }));
    run(&absent, "").fails(1, &["find network device \"no-such\": No such device"]);
    let hosts = scene("true", json!({ "pair0": {} })).edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
    });
    run(&hosts, "").fails(1, &["without a NET namespace"]);
    let fixed = scene("true", json!({ "lo": { "name": "other" } }));
    run(&fixed, "").fails(1, &["move network device \"lo\""]);
}
