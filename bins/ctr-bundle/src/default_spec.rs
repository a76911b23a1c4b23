// SPDX-License-Identifier: Apache-2.0
//! The config.json that everything else modifies: containerd's default for Linux.
//!
//! Three things differ, as they do in containerd's own CRI plugin and in nerdctl: there is a cgroup
//! namespace with its read-only /sys/fs/cgroup, and there is no tmpfs on /run, which would hide what an
//! image has there.

use serde_json::{Value, json};

/// The oldest version of the runtime specification that has all that is used here: crun before 1.9 takes
/// no later one than 1.0.
const OCI_VERSION: &str = "1.0.2";

/// The capabilities of a container's processes.
pub(crate) const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

// Directly below the root: a directory that containers shared would stay when the last of them is gone.
// An id has no @, so no two namespaces meet.
fn cgroups_path(namespace: &str, id: &str) -> String {
    match namespace {
        "default" => format!("/ctr-{id}"),
        other => format!("/ctr-{id}@{other}"),
    }
}

/// The default config.json of a container.
pub(crate) fn default_spec(namespace: &str, id: &str) -> Value {
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [],
            "env": [],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroups_path(namespace, id),
            "resources": {"devices": device_rules()},
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!([
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

// Nothing but the devices that every container has: null, random, full, tty, zero, urandom, console, the
// pseudo-terminals, ptmx.
fn device_rules() -> Value {
    let allow = |major: u32, minor: Option<u32>| {
        let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rwm"});
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    };
    json!([
        {"allow": false, "access": "rwm"},
        allow(1, Some(3)),
        allow(1, Some(8)),
        allow(1, Some(7)),
        allow(5, Some(0)),
        allow(1, Some(5)),
        allow(1, Some(9)),
        allow(5, Some(1)),
        allow(136, None),
        allow(5, Some(2)),
    ])
}
