// SPDX-License-Identifier: Apache-2.0
//! `features`: what this runtime can do (runtime-spec, "Features Structure").

use ctr_runtime::capability;
use ctr_runtime::seccomp::vocabulary;
use serde_json::{Value, json};

/// The features object.
pub(crate) fn features() -> Value {
    let capabilities: Vec<String> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": ctr_runtime::spec::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "bind", "rbind", "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "symfollow",
            "nosymfollow", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime",
            "nostrictatime", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable",
            "runbindable", "rro", "rrw", "rsuid", "rnosuid", "rdev", "rnodev", "rexec", "rnoexec", "rsymfollow",
            "rnosymfollow", "ratime", "rnoatime", "rdiratime", "rnodiratime", "rrelatime", "rnorelatime",
            "rstrictatime", "rnostrictatime", "tmpcopyup", "async", "sync", "dirsync", "lazytime", "nolazytime", "mand",
            "nomand", "iversion", "noiversion", "silent", "loud", "remount", "idmap", "ridmap", "copy-symlink",
            "src-nofollow", "dest-nofollow"
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": vocabulary::ACTIONS,
                "operators": vocabulary::OPERATORS,
                "archs": vocabulary::ARCHITECTURES,
                "knownFlags": vocabulary::FLAGS,
                "supportedFlags": vocabulary::supported_flags()
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true}
        },
        "annotations": {
            "ctr.runtime.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "ctr.runtime.cgroup.managers": "cgroupfs,systemd,disabled"
        },
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property.", "run.oci."]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctr_runtime::plan::MountOptions;

    // What the parser does not know is handed to the file system.
    #[test]
    fn every_mount_option_that_is_told_is_known() {
        let told: Vec<String> = serde_json::from_value(features()["mountOptions"].take()).unwrap();
        let unknown = MountOptions::parse(&told).data;
        assert!(told.len() > 60 && unknown.is_empty(), "{unknown:?}");
    }
}
