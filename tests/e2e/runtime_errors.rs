// SPDX-License-Identifier: Apache-2.0
//! What `ctr-run` says when something cannot be: which step, on what, and why.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ctr_tests::{Need, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

// Files that cannot be executed, each for another reason; in a directory of the host, mounted twice.
fn scene_of_programs() -> Scene {
    let scene = Scene::new("sleep 1000");
    let programs = scene.world.dir().join("programs");
    fs::create_dir(&programs).unwrap();
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = programs.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut arm = [0; 64];
    arm[..6].copy_from_slice(b"\x7fELF\x02\x01");
    arm[18] = 183;
    file("arm", &arm, 0o755);
    file("plain", b"#!/bin/sh\n", 0o644);
    file("script", b"#!/opt/perl -w\n", 0o755);
    file("windows", b"#!/bin/sh\r\n", 0o755);
    file("nested", b"#!/programs/script\n", 0o755);
    file("denied", b"#!/programs/plain\n", 0o755);
    file("text", b"hello\n", 0o755);
    file("empty", b"", 0o755);
    file("secret", b"#!/bin/sh\n", 0o700);
    file("good", b"#!/bin/sh\necho good\n", 0o755);
    fs::create_dir(programs.join("directory")).unwrap();
    std::os::unix::fs::symlink("/nowhere", programs.join("dangling")).unwrap();
    scene.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        for (destination, option) in [("/programs", "ro"), ("/noexec", "noexec")] {
            mounts.push(json!({"destination": destination, "source": programs, "options": ["bind", option]}));
        }
    })
}

const CASES: [(&str, &[&str]); 13] = [
    ("missing", &["\"missing\"", "executable file not found in $PATH"]),
    ("/programs/missing", &["\"/programs/missing\"", "no such file or directory"]),
    ("/programs/dangling", &["no such file or directory", "symbolic link to /nowhere"]),
    ("/programs/directory", &["is a directory"]),
    ("/programs/plain", &["permission denied", "not executable (mode 0644)"]),
    ("/programs/script", &["exec /programs/script: no such file or directory", "its interpreter /opt/perl is missing"]),
    ("/programs/windows", &["no such file or directory", "carriage return"]),
    ("/programs/nested", &["no such file or directory", "/programs/script needs /opt/perl, which is missing"]),
    ("/programs/denied", &["permission denied", "its interpreter /programs/plain", "not executable"]),
    ("/programs/arm", &["exec format error", "64-bit ARM"]),
    ("/programs/text", &["exec format error", "neither a program nor a script with #!"]),
    ("/programs/empty", &["exec format error", "empty"]),
    ("/noexec/good", &["permission denied", "mount with noexec"]),
];

#[test]
fn create_or_start_say_why_a_program_cannot_be_executed() {
    need!(Need::Root, Need::Busybox);
    let mut scene = scene_of_programs();
    for (program, words) in CASES {
        scene = scene.edit(|config| config["process"]["args"] = json!([program]));
        scene.make(&["run"]).run().fails(1, words).fails_with_one_line(&["exec"]);
        assert!(!scene.dir().exists());
    }
    scene = scene.edit(|config| {
        config["process"]["args"] = json!(["/programs/secret"]);
        config["process"]["user"] = json!({"uid": 7, "gid": 7});
        // CAP_DAC_OVERRIDE would let any user execute it.
        config["process"]["capabilities"] = json!({});
    });
    let denied = ["permission denied", "user 7 may not execute it (mode 0700, owner 0:0)"];
    scene.make(&["run"]).run().fails(1, &denied);
}

#[test]
fn exec_says_why_a_program_cannot_be_executed() {
    need!(Need::Root, Need::Busybox);
    let scene = scene_of_programs().edit(|config| config["process"]["capabilities"] = json!({}));
    scene.make(&["run", "--detach"]).detaches().run().success();
    for (program, words) in CASES {
        scene.runtime(&["exec", &scene.id, program]).run().fails(255, words);
    }
    let denied = ["permission denied", "user 7 may not execute it"];
    scene.runtime(&["exec", "--user", "7:7", &scene.id, "/programs/secret"]).run().fails(255, &denied);
    let ran = scene.runtime(&["exec", &scene.id, "/programs/good"]).run().success();
    assert_eq!(ran.stdout, "good\n");
    scene.delete();
}

#[test]
fn a_config_that_is_wrong_is_told_with_its_place() {
    need!(Need::Busybox);
    let scene = Scene::new("true");
    let path = scene.bundle.join("config.json");
    let good = fs::read_to_string(&path).unwrap();
    let config: Value = serde_json::from_str(&good).unwrap();
    let shown = text(&path);
    let fails = |content: &str, words: &[&str]| {
        fs::write(&path, content).unwrap();
        for verb in ["create", "run", "plan"] {
            scene.make(&[verb]).run().fails(1, words).fails_with_one_line(&[shown]);
        }
    };
    fails("{\n  \"ociVersion\": \"1.2.0\",\n  \"root\": oops\n}", &["line 3 column 11"]);
    fails("", &["line 1 column 0"]);
    fails("[]", &["not a JSON object"]);
    let pretty = |change: fn(&mut Value)| {
        let mut config = config.clone();
        change(&mut config);
        serde_json::to_string_pretty(&config).unwrap()
    };
    let line_of = |content: &str, word: &str| content.lines().position(|line| line.contains(word)).unwrap() + 1;
    let content = pretty(|config| config["process"]["args"] = json!("zsh"));
    fails(&content, &["process.args: ", "\"zsh\"", &format!("line {} ", line_of(&content, "zsh"))]);
    let content = pretty(|config| config["mounts"][1]["options"] = json!({"x": "y"}));
    fails(&content, &["mounts[1].options: "]);
    let content = pretty(|config| config["process"]["user"]["uid"] = json!(-12_345));
    fails(&content, &["process.user.uid: ", "-12345", &format!("line {} ", line_of(&content, "-12345"))]);
    fs::write(&path, pretty(|config| drop(config.as_object_mut().unwrap().remove("ociVersion")))).unwrap();
    scene.make(&["create"]).run().fails(1, &["ociVersion"]);
}

#[test]
fn what_is_missing_is_named() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let nowhere = scene.world.dir().join("nowhere");
    let run = |bundle: &PathBuf| scene.runtime(&["run", "--bundle"]).arg(bundle).arg(&scene.id).run();
    run(&nowhere).fails(1, &["bundle", text(&nowhere), "does not exist"]);
    fs::create_dir(&nowhere).unwrap();
    run(&nowhere).fails(1, &["config.json", text(&nowhere)]);

    let scene = scene.edit(|config| config["root"]["path"] = json!("no-rootfs"));
    fs::remove_file(scene.bundle.join("mounts.json")).unwrap();
    scene.make(&["run"]).run().fails(1, &["no-rootfs", "o such file or directory"]);
    assert!(!scene.dir().exists());

    let mut scene = Scene::new("true");
    scene = scene.edit(|config| {
        let mount = json!({"destination": "/data", "source": "/no/such/source", "options": ["rbind"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    scene.make(&["run"]).run().fails(1, &["/no/such/source", "o such file or directory"]);
    assert!(!scene.dir().exists());
}
