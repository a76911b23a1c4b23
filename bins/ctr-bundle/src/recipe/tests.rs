// SPDX-License-Identifier: Apache-2.0
//! Whole bundles, from a record to the files.

use std::fs;
use std::path::Path;

use clap::Parser;
use ctr_record::{Digest, Image, Mount, Platform, Snapshot, media_type};
use serde_json::Map;

use super::*;
use crate::bundle;

struct Scratch(PathBuf);

impl Scratch {
    fn create(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ctr-bundle-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("layer/etc")).unwrap();
        fs::write(root.join("layer/etc/passwd"), "app:x:10:20::/:\n").unwrap();
        Self(root)
    }

    fn record(&self, image_config: Value) -> Record {
        let blob = image_config.to_string().into_bytes();
        let digest = Digest::of(&blob);
        let blobs = self.0.join("image/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(digest.hex()), &blob).unwrap();
        let descriptor = ctr_record::Descriptor::new(media_type::OCI_CONFIG, digest, blob.len() as u64);
        let layer = self.0.join("layer").to_str().unwrap().to_owned();
        let mut record = Record::new(self.0.clone(), "default");
        record.image = Some(Image {
            reference: "r.example/app:1".into(),
            manifest: descriptor.clone(),
            config: descriptor,
            layers: Vec::new(),
            diff_ids: Vec::new(),
            platform: Platform::new("linux", "amd64", None),
            extra: Map::new(),
        });
        let mount = Mount { kind: "bind".into(), source: layer, options: vec!["ro".into(), "rbind".into()] };
        record.snapshot = Some(Snapshot { chain_id: None, mounts: vec![mount], extra: Map::new() });
        record
    }

    fn bundle(&self, flags: &[&str], record: Record) -> Result<Vec<Record>, Error> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        let patches = args.patch.iter().map(|path| Patch::read(path)).collect::<Result<Vec<_>, _>>()?;
        bundle(&args, &patches, record)
    }

    fn one(&self, flags: &[&str], record: Record) -> Result<(PathBuf, Value), String> {
        let records = self.bundle(flags, record).map_err(|error| error.to_line())?;
        assert_eq!(records.len(), 1);
        let path = records[0].bundle.as_ref().unwrap().path.clone();
        let config = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
        Ok((path, config))
    }

    fn bundles(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join("bundles/default")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn sh() -> Value {
    json!({"os": "linux", "config": {"Cmd": ["sh"]}})
}

#[test]
fn a_record_becomes_a_bundle() {
    let scratch = Scratch::create("whole");
    let record = scratch.record(json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "app",
            "Env": ["PATH=/bin", "A=1"],
            "Entrypoint": ["/entry"],
            "Cmd": ["cmd"],
            "WorkingDir": "/srv",
            "Labels": {"maintainer": "me"},
        },
    }));
    let flags = ["--id", "web", "--label", "tier=front", "--memory", "64M", "--", "arg"];
    let records = scratch.bundle(&flags, record.clone()).unwrap();
    let bundle = records[0].bundle.clone().unwrap();
    assert_eq!((bundle.id.as_str(), &bundle.path), ("web", &scratch.0.join("bundles/default/web")));
    assert_eq!(bundle.extra["labels"], json!({"tier": "front"}));
    let mut rest = records[0].clone();
    rest.bundle = None;
    assert_eq!(rest, record);

    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(bundle.path.join(name)).unwrap()).unwrap() };
    let (config, mounts) = (read("config.json"), read("mounts.json"));
    assert_eq!(config["process"]["args"], json!(["/entry", "arg"]));
    assert_eq!(config["process"]["env"], json!(["PATH=/bin", "A=1"]));
    assert_eq!(config["process"]["cwd"], "/srv");
    if ctr_sys::process::is_root() {
        assert_eq!(config["process"]["user"], json!({"uid": 10, "gid": 20, "additionalGids": [20]}));
        assert_eq!(config["linux"]["cgroupsPath"], "/ctr-web");
    } else {
        assert_eq!(config["process"]["user"], json!({"uid": 10, "gid": 20}));
    }
    assert_eq!(config["root"], json!({"path": "rootfs"}));
    assert_eq!(config["hostname"], "web");
    assert_eq!(config["linux"]["resources"]["memory"]["limit"], 64 << 20);
    assert_eq!(config["annotations"]["maintainer"], "me");
    assert_eq!(config["annotations"]["ctr.label.tier"], "front");
    assert_eq!(mounts["mounts"][0]["type"], "overlay");
    let options = mounts["mounts"][0]["options"].as_array().unwrap();
    assert!(options.contains(&json!(format!("lowerdir={}", scratch.0.join("layer").display()))));
    assert!(options.contains(&json!(format!("upperdir={}", bundle.path.join("upper").display()))));

    let log =
        fs::read_to_string(fs::read_dir(scratch.0.join("events")).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert!(log.contains(r#""topic":"/containers/create","event":{"id":"web","image":"r.example/app:1"}"#), "{log}");
}

#[test]
fn replicas_are_all_made_or_none() {
    let scratch = Scratch::create("replicas");
    let records = scratch.bundle(&["--id", "a", "--replicas", "3"], scratch.record(sh())).unwrap();
    let ids: Vec<&str> = records.iter().map(|record| record.bundle.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, ["a-1", "a-2", "a-3"]);
    scratch.bundle(&["--id", "b-2"], scratch.record(sh())).unwrap();
    let error = scratch.bundle(&["--id", "b", "--replicas", "3"], scratch.record(sh())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.to_line(), "unable to make the bundle b-2: a bundle with the id b-2 exists already");
    assert_eq!(scratch.bundles(), ["a-1", "a-2", "a-3", "b-2"]);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let scratch = Scratch::create("failure");
    let mut gone = scratch.record(sh());
    gone.snapshot.as_mut().unwrap().mounts[0].source = "/not/there".into();
    let mut changed = scratch.record(sh());
    let config = &mut changed.image.as_mut().unwrap().config;
    fs::write(scratch.0.join("image/blobs/sha256").join(config.digest.hex()), "{}").unwrap();
    for (flags, record, cause) in [
        (&[][..], scratch.record(json!({})), "process.args is empty"),
        (&["--user", "nobody"], scratch.record(sh()), "\"nobody\" is not in the image's /etc/passwd"),
        (&["--memory", "x"], scratch.record(sh()), "--memory"),
        (&["--rlimit", "x"], scratch.record(sh()), "--rlimit"),
        (&[], gone, "/not/there"),
        (&[], Record::new(scratch.0.clone(), "default"), "the record has no snapshot"),
        (&[], scratch.record(json!({"os": "windows"})), "windows"),
    ] {
        let error = scratch.one(flags, record).unwrap_err();
        assert!(error.contains(cause), "{error}");
        assert!(scratch.bundles().is_empty(), "{cause}");
    }
    let blob = Digest::of(b"x");
    let mut missing = scratch.record(sh());
    missing.image.as_mut().unwrap().config.digest = blob.clone();
    assert!(scratch.one(&[], missing).unwrap_err().contains(blob.hex()));
    let mut damaged = scratch.record(sh());
    fs::write(scratch.0.join("image/blobs/sha256").join(blob.hex()), "{}").unwrap();
    damaged.image.as_mut().unwrap().config.digest = blob;
    let error = scratch.one(&[], damaged).unwrap_err();
    assert!(
        error.starts_with("unable to read the image config: ") && error.contains(Digest::of(b"x").hex()),
        "{error}"
    );
}

#[test]
fn patches_come_last_and_are_checked() {
    let scratch = Scratch::create("patch");
    let file = |name: &str, content: Value| {
        fs::write(scratch.0.join(name), content.to_string()).unwrap();
        scratch.0.join(name).to_str().unwrap().to_owned()
    };
    let merge = file(
        "merge",
        json!({"process": {"args": ["patched"], "apparmorProfile": "p"}, "vm": null, "future": {"x": 1}}),
    );
    let operations = file(
        "operations",
        json!([{"op": "remove", "path": "/hostname"}, {"op": "add", "path": "/process/args/-", "value": "more"}]),
    );
    let flags = ["--id", "a", "--patch", &merge, "--patch", &operations, "--", "words"];
    let (_, config) = scratch.one(&flags, scratch.record(json!({}))).unwrap();
    assert_eq!(config["process"]["args"], json!(["patched", "more"]));
    assert_eq!(config["future"], json!({"x": 1}), "members that nobody knows stay");
    assert_eq!(config.get("hostname"), None);

    let nonsense = file("nonsense", json!({"process": {"cwd": 7}}));
    let error = scratch.one(&["--patch", &nonsense], scratch.record(sh())).unwrap_err();
    assert!(error.contains("unable to make a valid config.json with --patch: invalid type: integer `7`"), "{error}");
    assert!(error.contains(r#""cwd": 7"#), "{error}");
    let text = scratch.0.join("text");
    fs::write(&text, "nonsense").unwrap();
    let error = scratch.one(&["--patch", text.to_str().unwrap()], scratch.record(sh())).unwrap_err();
    assert!(error.contains("is no patch"), "{error}");
    assert_eq!(scratch.bundles(), ["a"]);
}

#[test]
fn a_plain_directory_needs_no_image() {
    let scratch = Scratch::create("directory");
    let directory = scratch.0.join("layer");
    let flags = ["--id", "a", "--rootfs", directory.to_str().unwrap(), "--user", "app", "--", "sh"];
    let (path, config) = scratch.one(&flags, Record::new(scratch.0.clone(), "default")).unwrap();
    assert_eq!(config["root"]["path"], directory.to_str().unwrap());
    assert_eq!(config["process"]["user"]["uid"], 10);
    assert!(!path.join("mounts.json").exists() && !path.join("upper").exists());
    let error = scratch.one(&["--rootfs", "/not/there", "--", "sh"], scratch.record(sh())).unwrap_err();
    assert!(error.contains("--rootfs /not/there is not a directory"), "{error}");
}

#[test]
fn volumes_stay_writable_under_a_read_only_root() {
    let scratch = Scratch::create("volumes");
    let volumes = json!({"/etc": {}, "/new/data": {}, "/own": {}, "/own/sub": {}, "/sys/fs/cgroup": {}});
    let record = scratch.record(json!({"config": {"Cmd": ["sh"], "Volumes": volumes}}));
    // Between the default mounts and those of the flags, which may lie inside a volume.
    let volumes = |config: &Value| -> Vec<Value> {
        let mounts = config["mounts"].as_array().unwrap();
        let at = |destination: &str| mounts.iter().position(|mount| mount["destination"] == destination).unwrap();
        mounts[at("/sys/fs/cgroup") + 1..at("/own")].to_vec()
    };
    let (path, config) = scratch.one(&["--id", "rw", "--tmpfs", "/own"], record.clone()).unwrap();
    let source = path.join("volumes/1");
    assert!(source.is_dir());
    let empty = |source: &Path| json!({"destination": "/new/data", "type": "bind", "source": source, "options": ["rbind", "rprivate"]});
    assert_eq!(volumes(&config), [empty(&source)]);

    let (path, config) = scratch.one(&["--id", "ro", "--tmpfs", "/own", "--read-only"], record).unwrap();
    let found = volumes(&config);
    assert_eq!(found[1], empty(&path.join("volumes/1")));
    assert_eq!((&found[0]["destination"], &found[0]["type"]), (&json!("/etc"), &json!("overlay")));
    assert_eq!(found[0]["options"][0], format!("lowerdir={}/layer/etc", scratch.0.display()));
    assert!(path.join("volumes/0/upper").is_dir() && path.join("volumes/0/work").is_dir());
    assert!(path.join("upper").is_dir(), "the runtime still has to make mount points");
}
