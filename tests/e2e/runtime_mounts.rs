// SPDX-License-Identifier: Apache-2.0
//! What the options of a mount in config.json make of it, as the container's own mount table tells.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ctr_tests::{Layer, Mounted, Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

pub(crate) const USER_NAMESPACE: [&str; 6] =
    ["--userns", "private", "--uid-map", "0:100000:65536", "--gid-map", "0:100000:65536"];

pub(crate) fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// A line of the container's mount table.
#[derive(Debug)]
struct Line {
    options: Vec<String>,
    /// `shared:1`, `master:2`, `unbindable`, or nothing.
    propagation: String,
    fstype: String,
    of_file_system: String,
}

impl Line {
    fn has(&self, options: &[&str]) -> bool {
        options.iter().all(|option| self.options.iter().any(|own| own == option))
    }

    fn lacks(&self, options: &[&str]) -> bool {
        !options.iter().any(|option| self.options.iter().any(|own| own == option))
    }
}

fn table(mountinfo: &str) -> BTreeMap<String, Line> {
    let line = |line: &str| {
        let (mount, file_system) = line.split_once(" - ").unwrap();
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let options = mount[5].split(',').map(str::to_owned).collect();
        let found = Line {
            options,
            propagation: mount[6..].join(" "),
            fstype: file_system[0].to_owned(),
            of_file_system: file_system[2].to_owned(),
        };
        (mount[4].to_owned(), found)
    };
    mountinfo.lines().map(line).collect()
}

const SHOW: &str = "cat /proc/self/mountinfo";

/// A tmpfs on the host, with a file, and another one below it; both mounted with `options`.
fn host_tree(scene: &Scene, options: &str) -> (Mounted, Mounted) {
    let tmpfs = json!([{ "type": "tmpfs", "source": "none" }]);
    let outer = Mounted::at(&scene.world, "source", &tmpfs);
    fs::create_dir(outer.path().join("below")).unwrap();
    let inner = Mounted::on(&outer.path().join("below"), &tmpfs);
    for mounted in [&inner, &outer] {
        fs::write(mounted.path().join("file"), "content").unwrap();
        let remount = format!("remount,bind,{options}");
        scene.world.program("mount").args(["-o", &remount, text(mounted.path())]).run().success();
    }
    (outer, inner)
}

fn set_binds(scene: &Scene, source: &Path, binds: &[(&str, &[&str])]) {
    scene.rewrite(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "none");
        for (destination, options) in binds {
            let mount = json!({ "destination": destination, "type": "none", "source": source, "options": options });
            add_mount(config, mount);
        }
    });
}

#[test]
fn a_bind_mount_has_the_attributes_of_its_options_and_no_others() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(SHOW);
    let (outer, _inner) = host_tree(&scene, "ro,nosuid,noexec,noatime,nodiratime");
    let binds: [(&str, &[&str]); 10] = [
        ("/plain", &["bind"]),
        ("/private", &["bind", "rprivate"]),
        ("/clearing", &["bind", "dev"]),
        ("/async", &["bind", "async"]),
        ("/atime", &["bind", "atime"]),
        ("/relatime", &["bind", "relatime"]),
        ("/strictatime", &["bind", "strictatime"]),
        ("/nodiratime", &["bind", "nodiratime"]),
        ("/nodev", &["bind", "rw", "nodev", "nosymfollow"]),
        ("/all", &["rbind", "ro", "nosuid", "nodev", "noexec", "noatime"]),
    ];
    set_binds(&scene, outer.path(), &binds);
    let table = table(&scene.make(&["run"]).run().success().stdout);
    for inherited in ["/plain", "/private"] {
        assert!(table[inherited].has(&["ro", "nosuid", "noexec", "noatime", "nodiratime"]), "{table:?}");
    }
    for cleared in ["/clearing", "/async", "/atime"] {
        assert!(table[cleared].lacks(&["ro", "nosuid", "noexec"]), "{cleared}: {table:?}");
        assert!(table[cleared].has(&["rw", "noatime", "nodiratime"]), "{cleared}: {table:?}");
    }
    assert!(table["/relatime"].has(&["relatime"]) && table["/relatime"].lacks(&["noatime", "nodiratime"]));
    assert!(table["/strictatime"].lacks(&["relatime", "noatime", "nodiratime"]), "{table:?}");
    assert!(table["/nodiratime"].has(&["relatime", "nodiratime"]) && table["/nodiratime"].lacks(&["noatime"]));
    assert!(table["/nodev"].has(&["rw", "nodev", "nosymfollow", "noatime"]) && table["/nodev"].lacks(&["nosuid"]));
    assert!(table["/all"].has(&["ro", "nosuid", "nodev", "noexec", "noatime"]), "{table:?}");
    // What is mounted below keeps its own.
    assert!(table["/all/below"].has(&["ro", "nosuid", "noexec"]) && table["/all/below"].lacks(&["nodev"]));
    assert!(!table.contains_key("/plain/below"));
}

#[test]
fn an_option_with_an_r_reaches_what_is_mounted_below() {
    need!(Need::Root, Need::Busybox);
    let script = format!("{SHOW}; for d in ro rro rrw; do touch /$d/below/x 2> /dev/null && echo /$d >&2; done");
    let scene = Scene::new(&script);
    let (outer, inner) = host_tree(&scene, "rw,nosuid,relatime");
    let binds: [(&str, &[&str]); 8] = [
        ("/ro", &["rbind", "ro"]),
        ("/rro", &["rbind", "rro", "rnodev"]),
        ("/rrw", &["rbind", "rro", "rrw", "rsuid"]),
        ("/rnoatime", &["rbind", "rnoatime", "rnodiratime"]),
        ("/rstrictatime", &["rbind", "rnoatime", "rstrictatime"]),
        ("/ratime", &["rbind", "rnoatime", "ratime"]),
        ("/rnorelatime", &["rbind", "rnorelatime", "rnosymfollow"]),
        ("/one", &["bind", "rro"]),
    ];
    set_binds(&scene, outer.path(), &binds);
    let ran = scene.make(&["run"]).run().success();
    let table = table(&ran.stdout);
    assert_eq!(ran.stderr, "/ro\n/rrw\n", "{table:?}");
    for (mount, has, lacks) in [
        ("/ro", &["ro"][..], &["nodev"][..]),
        ("/ro/below", &["rw", "nosuid"], &["ro"]),
        ("/rro", &["ro", "nodev", "nosuid"], &[]),
        ("/rro/below", &["ro", "nodev", "nosuid"], &[]),
        ("/rrw/below", &["rw"], &["nosuid"]),
        ("/rnoatime/below", &["noatime", "nodiratime"], &["relatime"]),
        ("/rstrictatime/below", &[], &["noatime", "relatime"]),
        ("/ratime/below", &["relatime"], &["noatime"]),
        ("/rnorelatime/below", &["relatime", "nosymfollow"], &["noatime"]),
        ("/one", &["ro"], &[]),
    ] {
        assert!(table[mount].has(has) && table[mount].lacks(lacks), "{mount}: {table:?}");
    }
    assert!(inner.path().join("x").exists());
}

#[test]
fn a_user_namespace_keeps_what_the_host_locked() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::of(None, &USER_NAMESPACE, SHOW);
    let (outer, _inner) = host_tree(&scene, "ro,nosuid,noexec,noatime,nosymfollow");
    let binds: [(&str, &[&str]); 4] = [
        ("/tmp/plain", &["bind"]),
        ("/tmp/nodev", &["bind", "nodev"]),
        ("/tmp/same", &["bind", "ro", "noatime", "nosuid"]),
        ("/tmp/dev-and-atime", &["bind", "dev", "atime", "symfollow"]),
    ];
    set_binds(&scene, outer.path(), &binds);
    let table = table(&scene.make(&["run"]).run().success().stdout);
    for (mount, _) in binds {
        assert!(table[mount].has(&["ro", "nosuid", "noexec", "noatime"]), "{mount}: {table:?}");
    }
    assert!(table["/tmp/nodev"].has(&["nodev"]) && table["/tmp/nodev"].lacks(&["nosymfollow"]));
    for (option, why) in [
        ("rw", "cannot clear locked flags ro"),
        ("suid", "cannot clear locked flags nosuid"),
        ("exec", "cannot clear locked flags noexec"),
        ("relatime", "cannot change locked atime flags noatime"),
        ("strictatime", "cannot change locked atime flags noatime"),
    ] {
        set_binds(&scene, outer.path(), &[("/tmp/data", &["bind", option])]);
        scene.make(&["run"]).run().fails(1, &["/tmp/data", why, "operation not permitted"]);
    }
}

// The mount is as writable as it likes; nobody locked it.
#[test]
fn a_file_system_that_is_read_only_may_be_asked_for_writable() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::of(None, &USER_NAMESPACE, SHOW);
    let source =
        Mounted::at(&scene.world, "source", &json!([{ "type": "tmpfs", "source": "none", "options": ["ro"] }]));
    // Of itself, and the mount of it is not.
    scene.world.program("mount").args(["-o", "remount,bind,rw", text(source.path())]).run().success();
    set_binds(&scene, source.path(), &[("/tmp/data", &["bind", "rw", "nodev"])]);
    let table = table(&scene.make(&["run"]).run().success().stdout);
    assert!(
        table["/tmp/data"].has(&["rw", "nodev"]) && table["/tmp/data"].of_file_system.starts_with("ro"),
        "{table:?}"
    );
}

#[test]
fn a_bind_mount_has_no_options_of_a_file_system() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true").edit(|config| {
        let options = ["bind", "size=64k"];
        add_mount(config, json!({ "destination": "/mnt", "type": "tmpfs", "source": "/tmp", "options": options }));
    });
    scene.make(&["run"]).run().fails(1, &["/mnt", "size=64k"]);
}

#[test]
fn other_file_systems_take_the_words_for_the_whole_file_system_and_their_own() {
    need!(Need::Root, Need::Busybox);
    let words =
        ["async", "sync", "dirsync", "nolazytime", "lazytime", "nomand", "iversion", "noiversion", "silent", "loud"];
    let options = [&words[..], &["size=64k", "nosuid", "strictatime", "mode=711"]].concat();
    let scene = Scene::new(SHOW).edit(|config| {
        add_mount(config, json!({ "destination": "/new", "type": "tmpfs", "source": "x", "options": options }));
        // The kernel ignores them there.
        let bind = [&words[..], &["bind", "mand", "remount"]].concat();
        add_mount(config, json!({ "destination": "/bound", "source": "/tmp", "options": bind }));
    });
    let table = table(&scene.make(&["run"]).run().success().stdout);
    let new = &table["/new"];
    assert!(new.fstype == "tmpfs" && new.has(&["nosuid"]) && new.lacks(&["relatime"]), "{new:?}");
    for word in ["sync", "dirsync", "lazytime", "size=64k", "mode=711"] {
        assert!(new.of_file_system.contains(word), "{new:?}");
    }
    scene.rewrite(|config| {
        add_mount(config, json!({ "destination": "/bad", "type": "tmpfs", "source": "x", "options": ["nonsense"] }));
    });
    scene.make(&["run"]).run().fails(1, &["mount tmpfs to /bad", "nonsense"]);
}

#[test]
fn what_is_read_only_is_so_when_all_is_in_it() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&format!("{SHOW}; test -c /dev/null && test -d /scratch/inside && touch /scratch/inside/x"));
    scene.rewrite(|config| {
        for mount in config["mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["destination"] == "/dev")
        {
            mount["options"].as_array_mut().unwrap().push(json!("ro"));
        }
        add_mount(config, json!({ "destination": "/scratch", "type": "tmpfs", "options": ["ro"] }));
        add_mount(config, json!({ "destination": "/scratch/inside", "type": "tmpfs" }));
    });
    let table = table(&scene.make(&["run"]).run().success().stdout);
    assert!(table["/dev"].has(&["ro"]) && table["/scratch"].has(&["ro"]), "{table:?}");
}

#[test]
fn each_mount_has_the_propagation_it_asks_for() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(SHOW);
    let (outer, inner) = host_tree(&scene, "rw");
    for mounted in [&outer, &inner] {
        scene.world.program("mount").args(["--make-shared", text(mounted.path())]).run().success();
    }
    let binds: [(&str, &[&str]); 8] = [
        ("/default", &["rbind"]),
        ("/private", &["rbind", "private"]),
        ("/rprivate", &["rbind", "rprivate"]),
        ("/slave", &["rbind", "slave"]),
        ("/shared", &["rbind", "shared"]),
        ("/rshared", &["rbind", "rprivate", "rshared"]),
        ("/unbindable", &["rbind", "unbindable"]),
        ("/runbindable", &["rbind", "runbindable"]),
    ];
    set_binds(&scene, outer.path(), &binds);
    let table = table(&scene.make(&["run"]).run().success().stdout);
    let kind = |mount: &str| {
        let words = table[mount].propagation.split(' ').map(|word| word.split(':').next().unwrap());
        words.collect::<Vec<_>>().join(" ")
    };
    for (mount, own, below) in [
        ("/default", "master", "master"),
        ("/private", "", "master"),
        ("/rprivate", "", ""),
        ("/slave", "master", "master"),
        ("/shared", "shared master", "master"),
        ("/rshared", "shared", "shared"),
        ("/unbindable", "unbindable", "master"),
        ("/runbindable", "unbindable", "unbindable"),
    ] {
        let found = (kind(mount), kind(&format!("{mount}/below")));
        assert_eq!(found, (own.to_owned(), below.to_owned()), "{mount}: {table:?}");
    }
}

#[test]
fn the_root_has_the_propagation_it_asks_for() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(SHOW);
    for (word, own, below) in [
        ("shared", "shared", ""),
        ("rshared", "shared", "shared"),
        ("private", "", ""),
        ("slave", "", ""),
        ("unbindable", "unbindable", ""),
        ("runbindable", "unbindable", "unbindable"),
    ] {
        scene.rewrite(|config| {
            config["linux"]["rootfsPropagation"] = json!(word);
            // What is bound to itself must still be that.
            config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/etc"]);
        });
        let table = table(&scene.make(&["run"]).run().success().stdout);
        let kind = |mount: &str| table[mount].propagation.split(':').next().unwrap().to_owned();
        assert_eq!((kind("/"), kind("/proc")), (own.to_owned(), below.to_owned()), "{word}: {table:?}");
        assert!(table["/etc"].has(&["ro"]) && table["/proc/sys"].has(&["ro"]), "{table:?}");
    }
    scene.rewrite(|config| config["linux"]["rootfsPropagation"] = json!("sideways"));
    scene.make(&["run"]).run().fails(1, &["rootfsPropagation", "sideways"]);
}

// A volume whose events go both ways, as a storage driver in a container needs it.
#[test]
fn what_a_shared_volume_mounts_appears_on_the_host_and_nothing_else_does() {
    need!(Need::Root, Need::Busybox);
    let script = "mount -t tmpfs made /volume/made && mount -t tmpfs made /tmp && touch /volume/made/file";
    let scene = Scene::of(None, &["--privileged"], script);
    let (outer, inner) = host_tree(&scene, "rw");
    let (volume, made) = (text(outer.path()), outer.path().join("made"));
    fs::create_dir(&made).unwrap();
    scene.world.program("mount").args(["--make-shared", volume]).run().success();
    for (root, own, expected) in
        [("rshared", "rshared", true), ("rshared", "rprivate", false), ("rslave", "rshared", false)]
    {
        set_binds(&scene, outer.path(), &[("/volume", &["rbind", own])]);
        scene.rewrite(|config| config["linux"]["rootfsPropagation"] = json!(root));
        scene.make(&["run"]).run().success();
        assert_eq!(made.join("file").exists(), expected, "{root} {own}");
        if expected {
            scene.world.program("umount").arg(&made).run().success();
        }
    }
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(" made "), "{host}");
    drop(inner);
}

#[test]
fn a_mount_point_behind_dangling_links_is_made_where_the_container_sees_it() {
    need!(Need::Root, Need::Busybox);
    let layer = Layer::new()
        .symlink("jump", "/tmp/foo/bar")
        .symlink("hosts", "/jump/baz/hosts")
        .symlink("up", "../../../../made/here")
        .symlink("proc-link", "/proc/self");
    let scene = Scene::of(Some(layer), &[], "cat /tmp/foo/bar/baz/hosts; ls /made/here; stat -c %a /made /made/here");
    let volume = scene.world.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "inside\n").unwrap();
    let file = volume.join("file");
    set_binds(&scene, &volume, &[("/up", &["bind", "ro"])]);
    scene.rewrite(|config| {
        add_mount(config, json!({ "destination": "/hosts", "source": file, "options": ["bind"] }));
    });
    let shown = scene.make(&["run"]).run().success().stdout;
    let mode =
        format!("{:o}", std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&volume).unwrap().permissions()) & 0o777);
    assert_eq!(shown, format!("inside\nfile\n755\n{mode}\n"));
    for destination in ["/proc-link", "/proc-link/task", "/proc-link/environ"] {
        set_binds(&scene, &volume, &[(destination, &["bind"])]);
        scene.make(&["run"]).run().fails(1, &[destination]);
    }
}

#[test]
fn only_a_proc_file_system_is_bound_on_proc_and_nothing_on_the_root() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("cat /proc/self/comm").edit(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        config["linux"]["maskedPaths"] = json!([]);
        let proc = json!({ "destination": "/proc", "source": "/proc", "options": ["rbind"] });
        config["mounts"].as_array_mut().unwrap().insert(0, proc);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    assert_eq!(scene.make(&["run"]).run().success().stdout, "cat\n");
    scene.rewrite(|config| config["mounts"][0]["source"] = json!("/sys"));
    scene.make(&["run"]).run().fails(1, &["only proc can be mounted on /proc"]);
    scene.rewrite(|config| config["mounts"][0] = json!({ "destination": "/tmp/..", "type": "tmpfs" }));
    scene.make(&["run"]).run().fails(1, &["root"]);
}

#[test]
fn symlinks_are_followed_copied_or_mounted_themselves() {
    need!(Need::Root, Need::Busybox);
    let layer = Layer::new().symlink("covered", "/etc/motd").symlink("same", "target").symlink("other", "elsewhere");
    let script =
        "for l in /copied /same /itself; do busybox readlink $l; done; cat /followed /covered; cat /etc/motd | wc -l
        grep -c ' /covered ' /proc/self/mountinfo";
    let scene = Scene::of(Some(layer), &[], script);
    let dir = scene.world.dir().join("source");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("target"), "content\n").unwrap();
    std::os::unix::fs::symlink("target", dir.join("link")).unwrap();
    let (link, target) = (dir.join("link"), dir.join("target"));
    scene.rewrite(|config| {
        for (destination, source, option) in [
            ("/copied", &link, "copy-symlink"),
            ("/same", &link, "copy-symlink"),
            ("/itself", &link, "src-nofollow"),
            ("/followed", &link, "ro"),
            ("/covered", &target, "dest-nofollow"),
        ] {
            add_mount(config, json!({ "destination": destination, "source": source, "options": ["bind", option] }));
        }
    });
    let ran = scene.make(&["run"]).run().success();
    assert_eq!(ran.stdout, "target\ntarget\ntarget\ncontent\ncontent\n1\n1\n");
    scene.rewrite(|config| {
        add_mount(config, json!({ "destination": "/other", "source": link, "options": ["bind", "copy-symlink"] }));
    });
    scene.make(&["run"]).run().fails(1, &["/other", "exists"]);
}

#[test]
fn a_path_that_is_masked_twice_is_covered_once() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("grep -c ' /etc/motd ' /proc/self/mountinfo; grep -c ' /root ' /proc/self/mountinfo");
    let scene =
        scene.edit(|config| config["linux"]["maskedPaths"] = json!(["/etc/motd", "/root", "/root", "/etc/motd"]));
    assert_eq!(scene.make(&["run"]).run().success().stdout, "1\n1\n");
}

#[test]
fn a_mount_label_is_applied_or_said_to_be_impossible() {
    need!(Need::Root, Need::Busybox);
    // A type that every policy has.
    let label = "system_u:object_r:tmp_t:s0";
    let scene =
        Scene::new("grep ' /dev tmpfs ' /proc/mounts").edit(|config| config["linux"]["mountLabel"] = json!(label));
    let ran = scene.make(&["run"]).run();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if known.lines().any(|line| line.ends_with("\tselinuxfs")) {
        assert!(ran.success().stdout.contains("context="));
    } else {
        ran.fails(1, &["/dev", "linux.mountLabel", "SELinux"]);
    }
    scene.rewrite(|config| config["linux"]["mountLabel"] = json!(""));
    scene.make(&["run"]).run().success();
}
