// SPDX-License-Identifier: Apache-2.0
//! Kernel parameters (runtime-spec, config-linux, "Sysctl"): only what belongs to a namespace of the
//! container's own, as everything else is the host's.

use oci_spec::runtime::Linux;

use crate::RuntimeError;
use crate::plan::NamespacePlan;

/// A kernel parameter to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Its file below `/proc/sys`.
    pub path: String,
    /// What is written to it.
    pub value: String,
}

impl Sysctl {
    /// Plans `linux.sysctl`, in the order of the names.
    pub fn plan(linux: &Linux, namespaces: &NamespacePlan) -> Result<Vec<Self>, RuntimeError> {
        let mut all: Vec<(&String, &String)> = linux.sysctl().iter().flatten().collect();
        all.sort();
        all.into_iter().map(|(name, value)| Self::check(name, value, namespaces)).collect()
    }

    /// Whether it belongs to the network namespace.
    pub fn is_of_network(&self) -> bool {
        self.path.starts_with("net/")
    }

    fn check(name: &str, value: &str, namespaces: &NamespacePlan) -> Result<Self, RuntimeError> {
        let refuse = |reason: &str| Err(RuntimeError::config(format!("linux.sysctl.{name}"), reason));
        let path = path_of(name);
        let well_formed = |part: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"_-*.:@".contains(&b);
            !matches!(part, "" | "." | "..") && part.bytes().all(known)
        };
        if !path.split('/').all(well_formed) {
            return refuse("not a valid name");
        }
        if value.contains('\n') || value.contains('\0') {
            return refuse("the value is not one line");
        }
        let owner = match path.as_str() {
            "kernel/domainname" => libc::CLONE_NEWUTS,
            "kernel/hostname" => return refuse("it conflicts with the config's own \"hostname\", which sets it"),
            "kernel/msgmax"
            | "kernel/msgmnb"
            | "kernel/msgmni"
            | "kernel/sem"
            | "kernel/shmall"
            | "kernel/shmmax"
            | "kernel/shmmni"
            | "kernel/shm_rmid_forced" => libc::CLONE_NEWIPC,
            _ if path.starts_with("fs/mqueue/") => libc::CLONE_NEWIPC,
            _ if path.starts_with("net/") => libc::CLONE_NEWNET,
            _ if path.starts_with("user/") => libc::CLONE_NEWUSER,
            _ => return refuse("it is not in a separate kernel namespace, so it would change the host"),
        };
        match namespaces.is_private(owner) {
            true => Ok(Self { path, value: value.to_owned() }),
            false => refuse("it needs a namespace of the container's own"),
        }
    }
}

// The first separator tells which of the two the name uses; the other one is part of a name then, as in
// net/ipv4/conf/eth0.100/rp_filter (sysctl.d(5)).
fn path_of(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(sysctl: Value) -> Result<Vec<Sysctl>, RuntimeError> {
        let namespaces = json!([{"type": "mount"}, {"type": "network"}, {"type": "uts"}]);
        let linux: Linux = serde_json::from_value(json!({"namespaces": namespaces, "sysctl": sysctl})).unwrap();
        Sysctl::plan(&linux, &NamespacePlan::new(&linux).unwrap())
    }

    #[test]
    fn both_separators_lead_to_the_same_file() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            assert_eq!(plan(json!({name: "1"})).unwrap(), [Sysctl { path: path.into(), value: "1".into() }]);
        }
    }

    #[test]
    fn it_must_belong_to_a_namespace_of_the_container() {
        for bad in [
            json!({"kernel.shmmax": "1"}),
            json!({"kernel.hostname": "x"}),
            json!({"kernel.core_pattern": "|/evil"}),
            json!({"user.max_user_namespaces": "1"}),
            json!({"net..core_pattern": "x"}),
            json!({"net/../kernel.core_pattern": "x"}),
            json!({"net/../kernel/core_pattern": "x"}),
            json!({"net.//.kernel.core_pattern": "x"}),
            json!({"net.ipv4.ip_forward": "1\nx"}),
            json!({"net.ipv4.ip_forward\0": "1"}),
            json!({"net": "1"}),
            json!({"": "1"}),
        ] {
            assert!(plan(bad.clone()).is_err(), "{bad}");
        }
    }
}
