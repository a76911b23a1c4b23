// SPDX-License-Identifier: Apache-2.0
//! Where mounts come from: the host, its ids, the container's own root, and what of the host must not stay.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use ctr_tests::{Need, need};
use serde_json::json;

use crate::runtime::Scene;
use crate::runtime_mounts::{USER_NAMESPACE, add_mount};

#[test]
fn a_source_in_the_root_is_what_is_mounted_there_by_then() {
    need!(Need::Root, Need::Busybox);
    for flags in [&[][..], &USER_NAMESPACE] {
        let script = "cat /tmp/final/file; ls /tmp/final; for l in itself copied; do busybox readlink /tmp/$l; done; ls /tmp/out 2>&1";
        let scene = Scene::of(None, flags, script);
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
            for (destination, option) in [("/tmp/itself", "src-nofollow"), ("/tmp/copied", "copy-symlink")] {
                let mut mount = bind(destination, &inside("tmp/first/link"));
                mount["options"] = json!(["bind", option]);
                add_mount(config, mount);
            }
        });
        let shown = scene.make(&["run"]).run().success().stdout;
        assert!(shown.starts_with("mounted\nfile\nlink\n/\n/\n"), "{shown}");
        // A link there is the container's, and leads nowhere on the host.
        assert!(shown.contains("passwd") && !shown.contains("fstab"), "{shown}");
    }
}

// Nobody has it before the container has its mounts, and in its user namespace nobody may map it.
#[test]
fn a_source_in_the_root_is_idmapped_if_asked_for() {
    need!(Need::Root, Need::Busybox);
    for flags in [&[][..], &USER_NAMESPACE] {
        let script = "cd /tmp; stat -c %u:%g first/file mapped/file twice/file mapped/below/file";
        let scene = Scene::of(None, flags, script);
        let volume = scene.world.dir().join("volume");
        fs::create_dir_all(volume.join("below")).unwrap();
        fs::write(volume.join("file"), "").unwrap();
        chown(volume.join("file"), Some(5), Some(6)).unwrap();
        scene.rewrite(|config| {
            let rootfs = scene.bundle.join(config["root"]["path"].as_str().unwrap());
            let ids = |host: u32| json!([{ "containerID": 5, "hostID": host, "size": 2 }]);
            let bind = |destination: &str, source: &Path, host: u32| {
                let mut mount = json!({ "destination": destination, "source": source, "options": ["rbind"] });
                if host != 0 {
                    (mount["uidMappings"], mount["gidMappings"]) = (ids(host), ids(host));
                }
                mount
            };
            add_mount(config, bind("/tmp/first", &volume, 0));
            add_mount(config, bind("/tmp/first/below", &volume, 0));
            add_mount(config, bind("/tmp/mapped", &rootfs.join("tmp/first"), 100_007));
            add_mount(config, bind("/tmp/twice", &rootfs.join("tmp/first/below"), 100_070));
        });
        let ran = scene.make(&["run"]).run();
        if ran.stderr.contains("does not support idmapped mounts") {
            return eprintln!("SKIP: {}", ran.stderr);
        }
        let expected = match flags.is_empty() {
            true => "5:6\n100007:100008\n100070:100071\n5:6\n",
            false => "65534:65534\n7:8\n70:71\n65534:65534\n",
        };
        assert_eq!(ran.success().stdout, expected);
        scene.rewrite(|config| {
            config["mounts"].as_array_mut().unwrap().last_mut().unwrap()["source"] =
                scene.bundle.join("rootfs/proc").to_str().into()
        });
        scene.make(&["run"]).run().fails(1, &["idmapped mount of ", "/proc on /tmp/twice", "does not support"]);
    }
}

#[test]
fn without_pivot_no_bare_proc_of_the_host_stays() {
    need!(Need::Root, Need::Busybox);
    let script = "busybox unshare -mrpf sh -c 'echo tried; mount -t proc none /proc && echo escaped'";
    let scene = Scene::of(None, &["--seccomp", "unconfined", "--cap-add", "SETFCAP"], script);
    let ran = scene.make(&["run", "--no-pivot"]).run();
    assert_eq!(ran.stdout, "tried\n", "{}", ran.stderr);
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

#[test]
fn relative_paths_among_the_options_lead_from_where_the_runtime_was_called() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /o/a /o/b").edit(|config| {
        add_mount(config, json!({ "destination": "/t", "type": "tmpfs", "source": "tmpfs" }));
        let options = ["lowerdir=one:two"];
        add_mount(config, json!({ "destination": "/o", "type": "overlay", "source": "overlay", "options": options }));
    });
    for (dir, file) in [("one", "a"), ("two", "b")] {
        fs::create_dir(scene.world.dir().join(dir)).unwrap();
        fs::write(scene.world.dir().join(dir).join(file), file).unwrap();
    }
    let ran = scene.make(&["run"]).dir(scene.world.dir()).run().success();
    assert_eq!(ran.stdout, "ab");
}
