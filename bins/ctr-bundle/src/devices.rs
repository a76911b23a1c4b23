// SPDX-License-Identifier: Apache-2.0
//! Devices of the host in the container: their nodes, and leave to use them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use crate::args::Args;
use crate::rootfs::clean;
use crate::spec::list;

/// What a runtime puts into /dev by itself, or mounts there.
const OWN: [&str; 13] = [
    "console",
    "fd",
    "full",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "tty",
    "urandom",
    "zero",
    ".lxd-mounts",
];

/// Adds the devices of `--device`, and all of the host's to a privileged container.
pub(crate) fn add_devices(spec: &mut Value, args: &Args) -> Result<(), Error> {
    if args.privileged {
        let mut found = Vec::new();
        collect(Path::new("/dev"), &mut found).unable_to(|| "list the devices in /dev")?;
        list(&mut spec["linux"]["devices"]).extend(found);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    }
    for text in &args.device {
        let (host, container, access) = parse(text)?;
        let node = match fs::metadata(host) {
            Ok(metadata) => node(&metadata, &container),
            Err(error) => {
                return Err(Error::new(ErrorKind::of_io(&error), format!("--device {text:?}: {host}: {error}")));
            }
        };
        let node = node.ok_or_else(|| Error::misuse(format!("--device {text:?}: {host} is not a device")))?;
        let rule = json!({
            "allow": true,
            "type": node["type"],
            "major": node["major"],
            "minor": node["minor"],
            "access": access,
        });
        let devices = list(&mut spec["linux"]["devices"]);
        devices.retain(|device| device["path"] != node["path"]);
        devices.push(node);
        if ctr_sys::process::is_root() {
            list(&mut spec["linux"]["resources"]["devices"]).push(rule);
        }
    }
    Ok(())
}

// HOST[:CONTAINER][:ACCESS]
fn parse(text: &str) -> Result<(&str, String, &str), Error> {
    let is_access = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b"rwm".contains(&b));
    let (host, container, access) = match text.split(':').collect::<Vec<_>>()[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, container] => (host, container, "rwm"),
        [host, container, access] if is_access(access) => (host, container, access),
        _ => return Err(Error::misuse(format!("--device {text:?} is not HOST[:CONTAINER][:rwm]"))),
    };
    match host.starts_with('/') && container.starts_with('/') {
        true => Ok((host, clean(container), access)),
        false => Err(Error::misuse(format!("--device {text:?}: a device's path is absolute"))),
    }
}

// linux.devices[]; `None` for what is no device.
fn node(metadata: &fs::Metadata, path: &str) -> Option<Value> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    Some(json!({
        "path": path,
        "type": kind,
        "major": major(metadata.rdev()),
        "minor": minor(metadata.rdev()),
        "fileMode": metadata.mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    }))
}

fn collect(directory: &Path, found: &mut Vec<Value>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if directory == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        // Devices come and go: one that is gone by now is none.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect(&entry.path(), found)?;
        } else if let Some(path) = entry.path().to_str() {
            found.extend(node(&metadata, path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_spec::default_spec;
    use clap::Parser;

    fn with(flags: &[&str]) -> Result<Value, String> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        let mut spec = default_spec("default", "id");
        add_devices(&mut spec, &args).map_err(|error| error.to_line())?;
        Ok(spec["linux"].take())
    }

    #[test]
    fn a_device_gets_a_node_and_a_rule() {
        for (flag, path, access) in [
            ("/dev/null", "/dev/null", "rwm"),
            ("/dev/null:r", "/dev/null", "r"),
            ("/dev/null:/dev/x", "/dev/x", "rwm"),
            ("/dev/null:/dev/../dev/x:rw", "/dev/x", "rw"),
        ] {
            let linux = with(&["--device", flag]).unwrap();
            let node = &linux["devices"][0];
            assert_eq!((&node["path"], &node["type"], &node["major"]), (&json!(path), &json!("c"), &json!(1)));
            if ctr_sys::process::is_root() {
                let rule = linux["resources"]["devices"].as_array().unwrap().last().unwrap();
                assert_eq!(rule, &json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": access}));
            }
        }
        let twice = with(&["--device", "/dev/null:/dev/x", "--device", "/dev/zero:/dev/x"]).unwrap();
        assert_eq!(twice["devices"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for bad in ["null", "/dev", "/dev/null:x", "/dev/null:/dev/x:rx", "/dev/null:a:b:c", "", "/etc/passwd"] {
            assert!(with(&["--device", bad]).is_err(), "{bad}");
        }
        assert!(with(&["--device", "/dev/not-there"]).unwrap_err().contains("/dev/not-there"));
    }

    #[test]
    fn a_privileged_container_may_use_every_device() {
        let linux = with(&["--privileged"]).unwrap();
        assert_eq!(linux["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
        let paths: Vec<&str> =
            linux["devices"].as_array().unwrap().iter().filter_map(|device| device["path"].as_str()).collect();
        assert!(!paths.contains(&"/dev/null") && !paths.iter().any(|path| path.starts_with("/dev/pts")));
    }
}
