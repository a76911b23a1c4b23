// SPDX-License-Identifier: Apache-2.0
//! Every mount option that `features` lists, used in a container and seen there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;

use ctr_tests::{Layer, Mounted, Need, Outcome, need};
use serde_json::{Value, json};

use crate::features::{features, words};
use crate::runtime::{Scene, text};
use crate::runtime_mounts::add_mount;

/// What is mounted.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// A mount with another below it, both shared, with the usual access times.
    Tree,
    /// The same with `noatime`.
    Noatime,
    /// A new tmpfs.
    New,
    /// A symlink to a file.
    Link,
    /// That file.
    File,
}
use Source::{File, Link, New, Noatime, Tree};

/// An option; what it is put to; the options in front of it, so that there is something for it to change; and
/// what is to be seen of its mount, and of that below: words that are there, those with a `!` that are not.
type Sight = (&'static str, Source, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const SIGHTS: [Sight; 65] = [
    ("bind", Tree, "", "mount file", "!mount"),
    ("rbind", Tree, "", "mount file", "mount file"),
    ("defaults", New, "", "mount relatime", ""),
    ("ro", Tree, "rbind", "ro", "!ro"),
    ("rw", Tree, "rbind ro", "mount !ro", ""),
    ("nosuid", Tree, "rbind", "nosuid", "!nosuid"),
    ("suid", Tree, "rbind nosuid", "mount !nosuid", ""),
    ("nodev", Tree, "rbind", "nodev", "!nodev"),
    ("dev", Tree, "rbind nodev", "mount !nodev", ""),
    ("noexec", Tree, "rbind", "noexec", "!noexec"),
    ("exec", Tree, "rbind noexec", "mount !noexec", ""),
    ("nosymfollow", Tree, "rbind", "nosymfollow", "!nosymfollow"),
    ("symfollow", Tree, "rbind nosymfollow", "mount !nosymfollow", ""),
    ("noatime", Tree, "rbind", "noatime", "!noatime"),
    ("atime", Tree, "rbind noatime", "relatime !noatime", ""),
    ("nodiratime", Tree, "rbind", "nodiratime", "!nodiratime"),
    ("diratime", Tree, "rbind nodiratime", "mount !nodiratime", ""),
    ("relatime", Noatime, "rbind", "relatime !noatime", "noatime"),
    ("norelatime", Noatime, "rbind relatime", "noatime", "noatime"),
    ("strictatime", Tree, "rbind", "mount !relatime !noatime", "relatime"),
    ("nostrictatime", Noatime, "rbind strictatime", "noatime", "noatime"),
    ("private", Tree, "rbind", "mount !master !shared", "master"),
    ("rprivate", Tree, "rbind", "mount !master !shared", "mount !master !shared"),
    ("shared", Tree, "rbind", "shared", "!shared"),
    ("rshared", Tree, "rbind", "shared", "shared"),
    ("slave", Tree, "rbind rshared", "master !shared", "shared"),
    ("rslave", Tree, "rbind rshared", "master !shared", "master !shared"),
    ("unbindable", Tree, "rbind", "unbindable", "!unbindable"),
    ("runbindable", Tree, "rbind", "unbindable", "unbindable"),
    ("rro", Tree, "rbind", "ro", "ro"),
    ("rrw", Tree, "rbind rro", "mount !ro", "mount !ro"),
    ("rnosuid", Tree, "rbind", "nosuid", "nosuid"),
    ("rsuid", Tree, "rbind rnosuid", "mount !nosuid", "mount !nosuid"),
    ("rnodev", Tree, "rbind", "nodev", "nodev"),
    ("rdev", Tree, "rbind rnodev", "mount !nodev", "mount !nodev"),
    ("rnoexec", Tree, "rbind", "noexec", "noexec"),
    ("rexec", Tree, "rbind rnoexec", "mount !noexec", "mount !noexec"),
    ("rnosymfollow", Tree, "rbind", "nosymfollow", "nosymfollow"),
    ("rsymfollow", Tree, "rbind rnosymfollow", "mount !nosymfollow", "mount !nosymfollow"),
    ("rnoatime", Tree, "rbind", "noatime", "noatime"),
    ("ratime", Noatime, "rbind", "relatime !noatime", "relatime !noatime"),
    ("rnodiratime", Tree, "rbind", "nodiratime", "nodiratime"),
    ("rdiratime", Tree, "rbind rnodiratime", "mount !nodiratime", "mount !nodiratime"),
    ("rrelatime", Noatime, "rbind", "relatime !noatime", "relatime !noatime"),
    ("rnorelatime", Noatime, "rbind", "relatime !noatime", "relatime !noatime"),
    ("rstrictatime", Tree, "rbind", "mount !relatime !noatime", "mount !relatime !noatime"),
    ("rnostrictatime", Tree, "rbind rstrictatime", "relatime", "relatime"),
    ("tmpcopyup", New, "", "mount file", ""),
    ("sync", New, "", "sync", ""),
    ("async", New, "sync", "mount !sync", ""),
    ("dirsync", New, "", "dirsync", ""),
    ("lazytime", New, "", "lazytime", ""),
    ("nolazytime", New, "lazytime", "mount !lazytime", ""),
    ("mand", New, "", "mand", ""),
    ("nomand", New, "mand", "mount !mand", ""),
    // Of these nothing is seen but that they are taken: tmpfs refuses what it does not know.
    ("iversion", New, "", "mount", ""),
    ("noiversion", New, "", "mount", ""),
    ("silent", New, "", "mount", ""),
    ("loud", New, "", "mount", ""),
    ("remount", Tree, "bind ro", "ro", ""),
    ("idmap", Tree, "rbind", "uid=1005", "uid=5"),
    ("ridmap", Tree, "rbind", "uid=1005", "uid=1005"),
    ("copy-symlink", Link, "bind", "!mount link=target", ""),
    ("src-nofollow", Link, "bind", "mount link=target", ""),
    ("dest-nofollow", File, "bind", "mount", ""),
];

// Each mount is /m/OPTION. `file` belongs to user 5 wherever it is.
const SHOW: &str = "cat /proc/self/mountinfo; for d in /m/* /m/*/below; do
    [ ! -L $d ] || echo $d link=$(busybox readlink $d)
    [ ! -f $d/file ] || echo $d file uid=$(stat -c %u $d/file)
    done";

/// The sources on the host.
struct Host {
    dir: PathBuf,
    _mounts: Vec<Mounted>,
}

impl Host {
    fn new(scene: &Scene) -> Self {
        let dir = scene.world.dir().join("sources");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("target"), "").unwrap();
        symlink("target", dir.join("link")).unwrap();
        let mut mounts = Vec::new();
        for (name, access_time) in [("tree", "relatime"), ("noatime", "noatime")] {
            for path in [dir.join(name), dir.join(name).join("below")] {
                fs::create_dir(&path).unwrap();
                mounts.push(Mounted::on(&path, &json!([{ "type": "tmpfs", "source": "none" }])));
                fs::write(path.join("file"), "").unwrap();
                chown(path.join("file"), Some(5), Some(5)).unwrap();
                let options = format!("remount,bind,rw,{access_time}");
                scene.world.program("mount").args(["-o", &options, text(&path)]).run().success();
                scene.world.program("mount").args(["--make-shared", text(&path)]).run().success();
            }
        }
        // Those below go first.
        mounts.reverse();
        Self { dir, _mounts: mounts }
    }

    fn mount(&self, (option, source, before, ..): &Sight) -> Value {
        let name = match source {
            Tree => "tree",
            Noatime => "noatime",
            Link => "link",
            File => "target",
            New => "",
        };
        let options: Vec<&str> = before.split_whitespace().chain([*option]).collect();
        let mut mount = json!({ "destination": format!("/m/{option}"), "options": options });
        match source {
            New => mount["type"] = json!("tmpfs"),
            _ => mount["source"] = json!(self.dir.join(name)),
        }
        if option.ends_with("idmap") {
            let mapping = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
            (mount["uidMappings"], mount["gidMappings"]) = (mapping.clone(), mapping);
        }
        mount
    }
}

/// All that a container shows of its mounts, by their paths.
fn seen(shown: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in shown.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if line.starts_with('/') {
            seen.entry(fields[0]).or_default().extend(&fields[1..]);
            continue;
        }
        let words = seen.entry(fields[4]).or_default();
        words.insert("mount");
        words.extend(fields[5].split(',').chain(fields.last().unwrap().split(',')));
        words.extend(fields[6..].iter().take_while(|field| **field != "-").filter_map(|field| field.split(':').next()));
    }
    seen
}

fn run(sights: &[Sight]) -> Outcome {
    let copied = Layer::new().with(ctr_tests::layer::Entry::file("m/tmpcopyup/file", "").owner(5, 5));
    let scene = Scene::of(Some(copied.symlink("m/dest-nofollow", "/etc/motd")), &[], SHOW);
    let host = Host::new(&scene);
    scene.rewrite(|config| sights.iter().for_each(|sight| add_mount(config, host.mount(sight))));
    scene.make(&["run"]).run()
}

fn check(sights: &[Sight], shown: &str) {
    let seen = seen(shown);
    for (option, _, _, own, below) in sights {
        for (path, expected) in [(format!("/m/{option}"), own), (format!("/m/{option}/below"), below)] {
            let found = seen.get(path.as_str()).cloned().unwrap_or_default();
            for word in expected.split_whitespace() {
                let (word, wanted) = word.strip_prefix('!').map_or((word, true), |word| (word, false));
                assert_eq!(found.contains(word), wanted, "{option}: {word} of {path}: {found:?}");
            }
        }
    }
}

#[test]
fn every_mount_option_is_seen_in_a_container() {
    need!(Need::Root, Need::Busybox);
    let features = features();
    let listed: BTreeSet<&str> = words(&features, "/mountOptions").into_iter().collect();
    assert_eq!(listed, SIGHTS.iter().map(|sight| sight.0).collect());
    let (mapped, others): (Vec<Sight>, Vec<Sight>) = SIGHTS.iter().partition(|sight| sight.0.ends_with("idmap"));
    check(&others, &run(&others).success().stdout);
    let ran = run(&mapped);
    if ran.stderr.contains("does not support idmapped mounts") {
        return ctr_tests::need::cannot(&ran.stderr);
    }
    check(&mapped, &ran.success().stdout);
}
