// SPDX-License-Identifier: Apache-2.0
//! `ctr-bundle`: image config and flags into an OCI runtime bundle that any runtime runs.

use std::fs;
use std::path::PathBuf;

use ctr_tests::world::busybox_image;
use ctr_tests::{Image, Layer, Mounted, Need, World, need};
use serde_json::{Value, json};

fn small() -> Image {
    Image::new([Layer::new()
        .dir("etc")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/srv:/bin/sh\n")
        .file("etc/group", "root:x:0:\nstaff:x:50:app\n")])
}

fn unpacked(world: &World, image: &Image) -> String {
    let pulled = world.tool("ctr-pull").arg(world.layout("t", image)).run().success();
    world.tool("ctr-unpack").stdin(pulled.stdout).run().success().stdout
}

fn config(record: &Value) -> Value {
    let path = PathBuf::from(record["bundle"]["path"].as_str().unwrap());
    serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap()
}

/// The config.json that the flags and command make of an image.
fn made(world: &World, image: &Image, arguments: &[&str]) -> Value {
    let unpacked = unpacked(world, image);
    config(&world.tool("ctr-bundle").args(["--id", "t"]).args(arguments).stdin(unpacked).run().success().json())
}

#[test]
fn adds_the_bundle_to_the_record() {
    need!(Need::Root);
    let world = World::create();
    let unpacked = unpacked(&world, &small().config("Cmd", json!(["sh"])));
    let before: Value = serde_json::from_str(&unpacked).unwrap();
    let after = world.tool("ctr-bundle").args(["--id", "web"]).stdin(unpacked).run().success().json();
    assert_eq!(after["image"], before["image"]);
    assert_eq!(after["snapshot"], before["snapshot"]);
    assert_eq!(after["bundle"]["id"], "web");
    let path = world.state().join("bundles/default/web");
    assert_eq!(after["bundle"]["path"], json!(path));
    for file in ["config.json", "mounts.json", "rootfs"] {
        assert!(path.join(file).exists(), "{file}");
    }
}

#[test]
fn entrypoint_and_cmd_combine_as_the_image_specification_says() {
    need!(Need::Root);
    let image = small().config("Entrypoint", json!(["/entry", "-x"])).config("Cmd", json!(["default"]));
    for (arguments, args) in [
        (&[][..], json!(["/entry", "-x", "default"])),
        (&["--", "a", "b"], json!(["/entry", "-x", "a", "b"])),
        (&["--arg", "a", "--arg=-b"], json!(["/entry", "-x", "a", "-b"])),
        (&["--entrypoint", "/other", "--", "a"], json!(["/other", "a"])),
        (&["--entrypoint", "/other"], json!(["/other"])),
    ] {
        let world = World::create();
        assert_eq!(made(&world, &image, arguments)["process"]["args"], args, "{arguments:?}");
    }
}

#[test]
fn an_image_without_a_command_needs_one() {
    need!(Need::Root);
    let world = World::create();
    let unpacked = unpacked(&world, &small());
    let failed = world.tool("ctr-bundle").args(["--id", "t"]).stdin(unpacked).run();
    failed.fails_with_one_line(&["t"]);
    assert_eq!(world.files("bundles/default"), Vec::<String>::new());
}

#[test]
fn the_environment_is_the_images_and_the_flags() {
    need!(Need::Root);
    let world = World::create();
    fs::write(world.dir().join("env"), "# comment\nFROM_FILE=f\nA=file\n").unwrap();
    let image = small().config("Cmd", json!(["x"])).config("Env", json!(["PATH=/p", "A=image", "B=image"]));
    let env = made(&world, &image, &["--env-file", "env", "--env", "A=flag", "-e", "C=1=2"])["process"]["env"].clone();
    let mut env: Vec<&str> = env.as_array().unwrap().iter().map(|variable| variable.as_str().unwrap()).collect();
    env.retain(|variable| !variable.starts_with("HOSTNAME=") && !variable.starts_with("HOME="));
    env.sort_unstable();
    assert_eq!(env, ["A=flag", "B=image", "C=1=2", "FROM_FILE=f", "PATH=/p"]);
}

#[test]
fn the_user_is_looked_up_in_the_root_file_system() {
    need!(Need::Root);
    for (user, expected) in [
        ("app", json!({ "uid": 1000, "gid": 1001, "additionalGids": [50] })),
        ("app:staff", json!({ "uid": 1000, "gid": 50 })),
        ("7:8", json!({ "uid": 7, "gid": 8 })),
        ("1000", json!({ "uid": 1000, "gid": 1001, "additionalGids": [50] })),
        ("12345", json!({ "uid": 12345, "gid": 0 })),
    ] {
        let world = World::create();
        let found = made(&world, &small().config("Cmd", json!(["x"])).config("User", json!(user)), &[]);
        let found = &found["process"]["user"];
        assert_eq!((&found["uid"], &found["gid"]), (&expected["uid"], &expected["gid"]), "{user}");
        if let Some(groups) = expected.get("additionalGids") {
            assert!(groups.as_array().unwrap().iter().all(|g| found["additionalGids"].as_array().unwrap().contains(g)));
        }
    }
    let world = World::create();
    let unpacked = unpacked(&world, &small().config("Cmd", json!(["x"])));
    let failed = world.tool("ctr-bundle").args(["--id", "t", "--user", "nobody-here"]).stdin(unpacked).run();
    failed.fails_with_one_line(&["nobody-here"]);
    assert_eq!(world.files("bundles/default"), Vec::<String>::new());
}

#[test]
fn flags_change_what_they_name() {
    need!(Need::Root);
    let world = World::create();
    let image = small().config("Cmd", json!(["x"])).config("WorkingDir", json!("/w"));
    let flags = [
        "--hostname",
        "h",
        "--read-only",
        "--tty",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "CHOWN",
        "--memory",
        "256M",
        "--cpus",
        "1.5",
        "--pids-limit",
        "99",
        "--rlimit",
        "nofile=10:20",
        "--net",
        "host",
        "--sysctl",
        "kernel.msgmax=1",
        "--annotation",
        "k=v",
        "--volume",
        "/etc:/host:ro",
        "--tmpfs",
        "/scratch:size=1m",
        "--device",
        "/dev/null:/dev/nothing:r",
        "--masked-path",
        "/hidden",
        "--readonly-path",
        "/fixed",
    ];
    let config = made(&world, &image, &flags);
    assert_eq!(config["hostname"], "h");
    assert_eq!(config["root"]["readonly"], true);
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["process"]["cwd"], "/w");
    let bounding = config["process"]["capabilities"]["bounding"].as_array().unwrap();
    assert!(bounding.contains(&json!("CAP_NET_ADMIN")) && !bounding.contains(&json!("CAP_CHOWN")), "{bounding:?}");
    let linux = &config["linux"];
    assert_eq!(linux["resources"]["memory"]["limit"], 256 << 20);
    let cpu = &linux["resources"]["cpu"];
    assert_eq!(cpu["quota"].as_i64().unwrap() * 2, cpu["period"].as_i64().unwrap() * 3);
    assert_eq!(linux["resources"]["pids"]["limit"], 99);
    let rlimits = config["process"]["rlimits"].as_array().unwrap();
    assert!(rlimits.contains(&json!({ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 })), "{rlimits:?}");
    assert!(linux["namespaces"].as_array().unwrap().iter().all(|namespace| namespace["type"] != "network"));
    assert_eq!(linux["sysctl"]["kernel.msgmax"], "1");
    assert_eq!(config["annotations"]["k"], "v");
    let mount = |destination: &str| {
        let mounts = config["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == destination).unwrap_or(&Value::Null).clone()
    };
    assert_eq!(mount("/host")["source"], "/etc");
    assert!(mount("/host")["options"].as_array().unwrap().contains(&json!("ro")));
    assert_eq!(mount("/scratch")["type"], "tmpfs");
    let devices = linux["devices"].as_array().unwrap();
    assert!(devices.iter().any(|device| device["path"] == "/dev/nothing" && device["major"] == 1), "{devices:?}");
    assert!(linux["maskedPaths"].as_array().unwrap().contains(&json!("/hidden")));
    assert!(linux["readonlyPaths"].as_array().unwrap().contains(&json!("/fixed")));
}

#[test]
fn a_container_is_confined_by_default() {
    need!(Need::Root);
    let world = World::create();
    let config = made(&world, &small().config("Cmd", json!(["x"])), &[]);
    assert_eq!(config["process"]["noNewPrivileges"], true);
    assert_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    let bounding = config["process"]["capabilities"]["bounding"].as_array().unwrap();
    for capability in ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_BPF"] {
        assert!(!bounding.contains(&json!(capability)), "{capability}");
    }
    for capabilities in config["process"]["capabilities"].as_object().unwrap().values() {
        assert!(capabilities.as_array().unwrap().iter().all(|capability| bounding.contains(capability)));
    }
    let masked = config["linux"]["maskedPaths"].as_array().unwrap();
    for path in ["/proc/kcore", "/proc/keys", "/sys/firmware"] {
        assert!(masked.contains(&json!(path)), "{path}");
    }
    let devices = &config["linux"]["resources"]["devices"][0];
    assert_eq!((&devices["allow"], &devices["access"]), (&json!(false), &json!("rwm")));
}

#[test]
fn patches_of_both_kinds_apply_in_order() {
    need!(Need::Root);
    let world = World::create();
    fs::write(world.dir().join("merge"), r#"{"hostname":"merged","process":{"oomScoreAdj":7}}"#).unwrap();
    fs::write(world.dir().join("patch"), r#"[{"op":"replace","path":"/hostname","value":"patched"}]"#).unwrap();
    let config = made(&world, &small().config("Cmd", json!(["x"])), &["--patch", "merge", "--patch", "patch"]);
    assert_eq!((&config["hostname"], &config["process"]["oomScoreAdj"]), (&json!("patched"), &json!(7)));

    fs::write(world.dir().join("bad"), r#"[{"op":"remove","path":"/no/such"}]"#).unwrap();
    let unpacked = unpacked(&world, &small().config("Entrypoint", json!(["x"])));
    let failed = world.tool("ctr-bundle").args(["--id", "bad", "--patch", "bad"]).stdin(unpacked).run();
    failed.fails(6, &["bad", "\"/no\""]);
    assert!(!world.state().join("bundles/default/bad").exists());
}

#[test]
fn replicas_are_bundles_of_their_own() {
    need!(Need::Root);
    let world = World::create();
    let unpacked = unpacked(&world, &small().config("Cmd", json!(["x"])));
    let made = world.tool("ctr-bundle").args(["--id", "r", "--replicas", "3"]).stdin(unpacked).run().success();
    let ids: Vec<Value> = made.json_lines().iter().map(|record| record["bundle"]["id"].clone()).collect();
    assert_eq!(json!(ids), json!(["r-1", "r-2", "r-3"]));
    let uppers: Vec<Value> = made.json_lines().iter().map(|record| config(record)["hostname"].clone()).collect();
    assert_eq!(uppers.len(), 3);
}

#[test]
fn an_id_in_use_is_a_conflict_and_the_first_bundle_is_unharmed() {
    need!(Need::Root);
    let world = World::create();
    let unpacked = unpacked(&world, &small().config("Cmd", json!(["x"])));
    let first = world.tool("ctr-bundle").args(["--id", "t"]).stdin(unpacked.clone()).run().success().json();
    let before = config(&first);
    let second = world.tool("ctr-bundle").args(["--id", "t", "--hostname", "other"]).stdin(unpacked).run();
    second.fails(4, &["t"]);
    assert_eq!(config(&first), before);
}

#[test]
fn an_id_that_is_no_name_is_refused() {
    need!(Need::Root);
    let world = World::create();
    let unpacked = unpacked(&world, &small().config("Cmd", json!(["x"])));
    for id in ["../escape", "", ".", "a/b"] {
        let failed = world.tool("ctr-bundle").arg(format!("--id={id}")).stdin(unpacked.clone()).run();
        failed.fails_with_one_line(&[]);
    }
    assert!(!world.state().join("bundles/escape").exists());
}

#[test]
fn runc_runs_the_bundle_unchanged() {
    need!(Need::Root, Need::Busybox, Need::Program("runc"));
    let world = World::create();
    let id = world.id("runc");
    let layout = world.layout("busybox", &busybox_image(None));
    let record: Value =
        serde_json::from_str(&world.bundle(&layout, &id, &[], &["sh", "-c", "cat /etc/motd; id -u; exit 7"])).unwrap();
    let bundle = PathBuf::from(record["bundle"]["path"].as_str().unwrap());
    let file: Value = serde_json::from_slice(&fs::read(bundle.join("mounts.json")).unwrap()).unwrap();
    let _root = Mounted::on(&bundle.join("rootfs"), &file["mounts"]);
    let root = format!("{}", world.dir().join("runc").display());
    let ran = world.program("runc").args(["--root", &root, "run", "--bundle"]).arg(&bundle).arg(&id).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (7, "hello from a container\n0\n"), "{}", ran.stderr);
}
