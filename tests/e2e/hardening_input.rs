// SPDX-License-Identifier: Apache-2.0
//! Flags and configs that say almost what they should, or far more of it: one test per published flaw in
//! reading them, that a runtime with the flaw fails.

use std::fs;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};
use crate::runtime_mounts::add_mount;

fn running() -> Scene {
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    scene
}

// A length that did not fit into its 16 bits, and what came after it was read as the container's namespaces.
#[test]
fn cve_2021_43784_no_length_of_a_config_wraps_round() {
    need!(Need::Root, Need::Busybox);
    let mapping = |n: u32| json!({ "containerID": n, "hostID": 100_000 + n, "size": 1 });
    let many: Vec<Value> = (0..6000).map(mapping).collect();
    let long = "x/".repeat(40_000);
    type Edit<'a> = &'a dyn Fn(&mut Value);
    let edits: [(&str, Edit<'_>); 4] = [
        ("mappings", &|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = json!(many);
            config["linux"]["gidMappings"] = json!(many);
        }),
        ("namespace", &|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "uts");
            namespaces.push(json!({ "type": "uts", "path": format!("/proc/self/{long}") }));
        }),
        ("groups", &|config| config["process"]["user"]["additionalGids"] = (0..70_000).collect()),
        ("oversized path", &|config| config["process"]["cwd"] = format!("/{long}").into()),
    ];
    for (what, edit) in edits {
        let scene = Scene::new("echo ran").edit(|config| edit(config));
        let refused = scene.make(&["run"]).run();
        assert_eq!((refused.code(), &*refused.stdout), (1, ""), "{what}: {}", refused.stderr);
        assert_eq!(fs::read_dir(scene.world.run_root()).map_or(0, Iterator::count), 0, "{what}");
    }
}

#[test]
fn cve_2026_30892_a_user_is_a_number_and_nothing_else() {
    need!(Need::Root, Need::Busybox);
    let scene = running();
    for user in ["1x", "root", "", " 0", "+0", "0x0", "1:2:3", ":0"] {
        let failed = scene.runtime(&["exec", "--user", user, &scene.id, "id", "-u"]).run().fails(255, &["UID"]);
        assert_eq!(failed.stdout, "", "{user:?}");
    }
    scene.delete();
}

#[test]
fn cve_2026_30892_nothing_that_is_read_has_something_after_it() {
    need!(Need::Root, Need::Busybox);
    let scene = running();
    let id = &*scene.id;
    let update = |flag| ["update", flag].map(str::to_owned).to_vec();
    let verbs = [
        (vec!["exec".to_owned(), "--preserve-fds".to_owned()], "0", vec!["true"]),
        (vec!["exec".to_owned(), "--additional-gids".to_owned()], "5", vec!["true"]),
        (update("--cpu-shares"), "512", vec![]),
        (update("--cpu-quota"), "10000", vec![]),
        (update("--cpu-period"), "100000", vec![]),
        (update("--cpuset-cpus"), "0", vec![]),
        (update("--cpuset-mems"), "0", vec![]),
        (update("--memory"), "64M", vec![]),
        (update("--memory-reservation"), "64M", vec![]),
        (update("--pids-limit"), "100", vec![]),
        (update("--blkio-weight"), "500", vec![]),
    ];
    for (words, good, rest) in &verbs {
        let run = |value: &str| scene.world.tool("ctr-run").args(words).arg(value).arg(id).args(rest).run();
        for tail in ["x", " x", ";", "\n1", "\u{0661}", "-", ",", "e"] {
            let failed = run(&format!("{good}{tail}"));
            assert_ne!(failed.code(), 0, "{words:?} {good}{tail:?}");
        }
    }
    for signal in ["9x", "KILLx", "SIGKILL ", "9 ", "0x9", "65", "99999999999"] {
        assert_ne!(scene.runtime(&["kill", id, signal]).run().code(), 0, "{signal:?}");
    }
    let events = |interval: &str| scene.runtime(&["events", "--stats", "--interval", interval, id]).run().code();
    assert_eq!(["5s", "5sx", "5s ", "5", "5s,"].map(events).map(|code| code == 0), [true, false, false, false, false]);
    let state: Value = serde_json::from_str(&scene.runtime(&["state", id]).run().success().stdout).unwrap();
    assert_eq!(state["status"], "running");
    scene.delete();
}

#[test]
fn cve_2024_40635_and_2026_46680_an_id_out_of_range_is_not_root() {
    need!(Need::Root, Need::Busybox);
    let scene = running();
    for user in ["4294967295", "4294967296", "99999999999999999999", "-1", "0:4294967296", "18446744073709551616"] {
        let failed = scene.runtime(&["exec", "--user", user, &scene.id, "id", "-u"]).run();
        assert_eq!((failed.code(), &*failed.stdout), (255, ""), "{user:?}: {}", failed.stderr);
    }
    scene.delete();
    for id in [json!(4_294_967_296_u64), json!(-1), json!(1.5), json!("0"), json!(u64::MAX)] {
        for member in ["uid", "gid"] {
            let scene = Scene::new("id").edit(|config| config["process"]["user"][member] = id.clone());
            assert_eq!(scene.make(&["run"]).run().fails(1, &[]).stdout, "");
        }
    }
    // The image's own idea of its user, and that of who makes the bundle.
    for user in ["2147483648", "4294967296", "18446744073709551616", "-1", "0:4294967296"] {
        let config = ctr_tests::world::busybox_image(None).config("User", json!(user));
        let layout = scene.world.layout(&format!("u{}", user.replace(':', "-")), &config);
        let pulled = scene.world.tool("ctr-pull").arg(layout).run().success().stdout;
        let unpacked = scene.world.tool("ctr-unpack").stdin(pulled).run().success().stdout;
        scene.world.tool("ctr-bundle").args(["--id", "x"]).stdin(unpacked.clone()).run().fails(6, &["id"]);
        let given = scene.world.tool("ctr-bundle").args(["--id", "x", &format!("--user={user}")]).stdin(unpacked).run();
        assert_ne!(given.code(), 0, "{user}");
    }
}

// Hardening without a number: crun 1.28 and 1.29.
#[test]
fn no_sub_cgroup_leads_above_the_container() {
    need!(Need::Root, Need::Busybox);
    let scene = running();
    for path in ["..", "../..", "/..", "a/../..", "/../../../..", "memory:..", "cpu,memory:../../x", "a/../../b"] {
        let failed = scene.runtime(&["exec", "--cgroup", path, &scene.id, "cat", "/proc/self/cgroup"]).run();
        assert_eq!((failed.code(), &*failed.stdout), (255, ""), "{path}: {}", failed.stderr);
    }
    scene.delete();
    for path in ["..", "../x", "a/../../b", "/../x", "/"] {
        let scene = Scene::new("true").edit(|config| {
            config["annotations"] = json!({ "run.oci.delegate-cgroup": path });
        });
        scene.make(&["run"]).run().fails(1, &["delegate-cgroup"]);
    }
}

// Root of a user namespace may be the owner of the host's cgroups; that these cannot be written to is then
// the mount's doing alone.
#[test]
fn cve_2023_25809_the_hosts_cgroups_are_not_writable_without_a_cgroup_namespace() {
    need!(Need::Root, Need::Busybox);
    let script = "find /sys/fs/cgroup -type d | while read -r dir; do
            mkdir $dir/evil 2> /dev/null && echo made $dir/evil
            for file in cgroup.procs tasks; do (echo 0 > $dir/$file) 2> /dev/null && echo wrote $dir/$file; done
        done
        mkdir /sys/fs/cgroup/evil 2>&1 | grep -o 'Read-only file system'; cat /proc/self/uid_map | tr -s ' '";
    let scene = Scene::new(script).edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup" && namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
        let itself = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        config["linux"]["uidMappings"] = itself.clone();
        config["linux"]["gidMappings"] = itself;
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        let options = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
        add_mount(config, json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": options }));
        let options = json!(["nosuid", "noexec", "nodev", "relatime", "ro"]);
        add_mount(config, json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": options }));
        for mount in config["mounts"].as_array_mut().unwrap() {
            let Some(options) = mount["options"].as_array_mut() else { continue };
            options.retain(|option| !option.as_str().unwrap().starts_with("gid="));
        }
    });
    let pure_v2 = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup";
    for view in ["true", pure_v2] {
        let script = format!("{view} && exec ctr-run run --bundle {} {}", text(&scene.bundle), scene.id);
        let ran = scene.world.program("unshare").args(["--mount", "sh", "-c", &script]).run().success();
        assert_eq!(ran.stdout, "Read-only file system\n 0 0 1\n", "{view}: {}", ran.stderr);
    }
}
