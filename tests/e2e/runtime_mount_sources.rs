// SPDX-License-Identifier: Apache-2.0
//! Where mounts come from: the host, its ids, the container's own root, and what of the host must not stay.

use std::fs;
use std::os::unix::fs::MetadataExt;

use ctr_tests::{Need, need};
use serde_json::json;

use crate::runtime::Scene;
use crate::runtime_mounts::{USER_NAMESPACE, add_mount};

#[test]
fn a_source_in_the_root_is_what_is_mounted_there_by_then() {
    need!(Need::Root, Need::Busybox);
    for flags in [&[][..], &USER_NAMESPACE] {
        let scene = Scene::of(None, flags, "cat /tmp/final/file; ls /tmp/final; ls /tmp/out 2>&1");
        let volume = scene.world.dir().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "mounted\n").unwrap();
        scene.rewrite(|config| {
            let rootfs = scene.bundle.join(config["root"]["path"].as_str().unwrap());
            let bind = |destination: &str, source: &str| {
                let options = ["rbind", "ro"];
                json!({ "destination": destination, "source": source, "options": options })
            };
            let inside = |path: &str| rootfs.join(path).to_str().unwrap().to_owned();
            add_mount(config, bind("/tmp/first", volume.to_str().unwrap()));
            // Both by their paths on the host.
            add_mount(config, bind(&inside("tmp/final"), &inside("tmp/first")));
            std::os::unix::fs::symlink("/", volume.join("link")).unwrap();
            add_mount(config, bind("/tmp/out", &inside("tmp/first/link/etc")));
        });
        let shown = scene.make(&["run"]).run().success().stdout;
        assert!(shown.starts_with("mounted\nfile\nlink\n"), "{shown}");
        // A link there is the container's, and leads nowhere on the host.
        assert!(shown.contains("passwd") && !shown.contains("fstab"), "{shown}");
    }
}

#[test]
fn without_pivot_no_bare_proc_of_the_host_stays() {
    need!(Need::Root, Need::Busybox);
    let script = "busybox unshare -mrpf sh -c 'mount -t proc none /proc && echo escaped'; grep -c ' - proc ' /proc/self/mountinfo";
    let scene = Scene::of(None, &["--seccomp", "unconfined", "--cap-add", "SETFCAP"], script);
    let ran = scene.make(&["run", "--no-pivot"]).run();
    assert!(!ran.stdout.contains("escaped"), "{}", ran.stdout);
    assert!(fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - proc "));
}

#[test]
fn a_volume_of_the_bundles_maker_is_idmapped_if_asked_for() {
    need!(Need::Root, Need::Busybox);
    let world = ctr_tests::World::create();
    let volume = world.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "").unwrap();
    // The mount points are made in the root directory, which belongs to the container's root.
    let script = "stat -c %u /mapped/file /plain/file /; touch /mapped/new && touch /new";
    let volumes = ["/mapped:idmap", "/plain:ro"].map(|place| format!("{}:{place}", volume.display()));
    let flags = [&USER_NAMESPACE[..], &["--volume", &volumes[0], "--volume", &volumes[1]]].concat();
    let record = world.bundle(&world.busybox(None), &world.id("t"), &flags, &["sh", "-c", script]);
    let ran = world.tool("ctr-run").stdin(record).run();
    if ran.stderr.contains("does not support idmapped mounts") {
        return eprintln!("SKIP: {}", ran.stderr);
    }
    assert_eq!(ran.success().stdout, "0\n65534\n0\n");
    assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
}
