// SPDX-License-Identifier: Apache-2.0
//! `spec`: the config.json that runc writes to begin with.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use ctr_runtime::cgroup::{Hierarchies, Mode};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

/// Writes config.json into a directory that has none yet.
pub(crate) fn write(bundle: &Path, rootless: bool) -> Result<(), Error> {
    let mut spec = spec(rootless);
    // As runc has it: with a cgroup namespace of its own on v1, the container would not see where it is.
    if Hierarchies::detect()?.mode() == Mode::V2 {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("an array");
        let user = namespaces.iter().position(|namespace| namespace["type"] == "user");
        namespaces.insert(user.unwrap_or(namespaces.len()), json!({"type": "cgroup"}));
    }
    let path = bundle.join("config.json");
    let mut file = match File::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::new(ErrorKind::Conflict, "File config.json exists. Remove it first"));
        }
        created => created.unable_to(|| format!("make {}", path.display()))?,
    };
    file.write_all(&as_go_writes(&spec)).unable_to(|| format!("write {}", path.display()))
}

// With tabs, and no newline at the end.
fn as_go_writes(spec: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut Serializer::with_formatter(&mut text, formatter)).expect("string keys");
    text
}

fn spec(rootless: bool) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut spec = json!({
        "ociVersion": ctr_runtime::spec::VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if rootless {
        make_rootless(&mut spec);
    }
    spec
}

// One user who is root inside, the host's network and therefore the host's sysfs.
fn make_rootless(spec: &mut Value) {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let mapping = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let rest = spec["linux"].take();
    spec["linux"] = json!({"uidMappings": mapping(uid), "gidMappings": mapping(gid)});
    for member in ["namespaces", "maskedPaths", "readonlyPaths"] {
        spec["linux"][member] = rest[member].clone();
    }
    let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("an array");
    namespaces.retain(|namespace| namespace["type"] != "network");
    namespaces.push(json!({"type": "user"}));
    for mount in spec["mounts"].as_array_mut().expect("an array") {
        if mount["destination"] == "/sys" {
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        } else if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
            options.retain(|option| {
                !option.as_str().is_some_and(|option| option.starts_with("gid=") || option.starts_with("uid="))
            });
        }
    }
}
