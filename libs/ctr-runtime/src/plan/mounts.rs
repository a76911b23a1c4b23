// SPDX-License-Identifier: Apache-2.0
//! The container's mounts and device nodes.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType, Mount};
use serde::Serialize;

use super::{MountOptions, words};
use crate::RuntimeError;

/// One mount inside the container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPlan {
    /// Where, relative to the container's root, without `..`.
    #[serde(serialize_with = "words::inside")]
    pub destination: PathBuf,
    /// What.
    #[serde(flatten)]
    pub kind: MountKind,
    /// How.
    pub options: MountOptions,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Where it is on the host, absolute.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// The container's own cgroups.
    Cgroup,
    /// A new file system of this type.
    New {
        /// `proc`, `tmpfs`, `sysfs`, …
        fstype: String,
        /// What the mount table shows, or the file system's device.
        source: String,
    },
}

impl MountPlan {
    /// Plans the mount number `index` of the config.
    pub fn new(index: usize, mount: &Mount, bundle: &Path) -> Result<Self, RuntimeError> {
        let refuse = |reason: String| {
            RuntimeError::config(format!("mounts[{index}] ({})", mount.destination().display()), reason)
        };
        let options = MountOptions::parse(mount.options().iter().flatten());
        let mapped = mount.uid_mappings().is_some() || mount.gid_mappings().is_some() || options.idmap.is_some();
        if mapped {
            return Err(RuntimeError::Unsupported(format!("an idmapped mount (mounts[{index}])")));
        }
        let fstype = mount.typ().as_deref().unwrap_or_default();
        let bind = options.bind.or_else(|| (fstype == "bind" || fstype == "rbind").then_some(fstype == "rbind"));
        let kind = match (bind, fstype) {
            (Some(recursive), _) => {
                if let Some(option) = options.data.first() {
                    return Err(refuse(format!("a bind mount cannot have the option {option:?}")));
                }
                let source = mount.source().as_ref().filter(|source| !source.as_os_str().is_empty());
                let source = source.ok_or_else(|| refuse("a bind mount needs a source".into()))?;
                MountKind::Bind { source: bundle.join(source), recursive }
            }
            (None, "") => return Err(refuse("it has no type".into())),
            (None, "cgroup" | "cgroup2") => MountKind::Cgroup,
            (None, fstype) => {
                let source = mount.source().as_ref().map(|source| source.to_string_lossy().into_owned());
                MountKind::New { fstype: fstype.to_owned(), source: source.unwrap_or_else(|| fstype.to_owned()) }
            }
        };
        if options.copy_up && !matches!(&kind, MountKind::New { fstype, .. } if fstype == "tmpfs") {
            return Err(refuse("tmpcopyup is for tmpfs".into()));
        }
        let destination = below_root(mount.destination());
        check_proc(&destination, &kind).map_err(refuse)?;
        Ok(Self { destination, kind, options })
    }

    /// Whether this is the mount that fills `/dev` from the host.
    pub fn is_host_dev(&self) -> bool {
        self.destination == Path::new("dev") && matches!(self.kind, MountKind::Bind { .. })
    }
}

/// A path as the container sees it, relative to its root: `/a/../../b` is `b`.
pub(super) fn below_root(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

// Something else in /proc would receive what is written there (CVE-2019-16884). The exceptions are
// what lxcfs provides.
fn check_proc(destination: &Path, kind: &MountKind) -> Result<(), String> {
    const LXCFS: [&str; 10] = [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ];
    let Ok(inside) = destination.strip_prefix("proc") else { return Ok(()) };
    let is_proc = match kind {
        MountKind::New { fstype, .. } => fstype == "proc",
        MountKind::Bind { source, .. } => source == Path::new("/proc"),
        MountKind::Cgroup => false,
    };
    match inside.as_os_str().is_empty() {
        true if is_proc => Ok(()),
        true => Err("only proc can be mounted on /proc".into()),
        false if LXCFS.iter().any(|allowed| inside == Path::new(allowed)) => Ok(()),
        false => Err("nothing can be mounted inside /proc".into()),
    }
}

/// A device node of `linux.devices`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct DevicePlan {
    /// Relative to the container's root, without `..`.
    #[serde(serialize_with = "words::inside")]
    pub path: PathBuf,
    pub kind: NodeKind,
    pub major: u64,
    pub minor: u64,
    #[serde(serialize_with = "words::mode")]
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What mknod makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

/// Plans the nodes of `linux.devices`.
pub(super) fn devices(linux: &Linux) -> Result<Vec<DevicePlan>, RuntimeError> {
    let plan = |(i, device): (usize, &oci_spec::runtime::LinuxDevice)| {
        let refuse = |reason: String| RuntimeError::config(format!("linux.devices[{i}]"), reason);
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Character,
            LinuxDeviceType::B => NodeKind::Block,
            LinuxDeviceType::P => NodeKind::Fifo,
            LinuxDeviceType::A => return Err(refuse("type a is none of a node".into())),
        };
        let path = below_root(device.path());
        if !device.path().is_absolute() || path.as_os_str().is_empty() {
            return Err(refuse(format!("path {} is not absolute", device.path().display())));
        }
        let number = |n: i64| u32::try_from(n).map(u64::from).map_err(|_| refuse(format!("{n} is no device number")));
        let (major, minor) = match kind {
            NodeKind::Fifo => (0, 0),
            _ => (number(device.major())?, number(device.minor())?),
        };
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
        let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        Ok(DevicePlan { path, kind, major, minor, mode, uid, gid })
    };
    linux.devices().iter().flatten().enumerate().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(mount: serde_json::Value) -> Result<MountPlan, RuntimeError> {
        MountPlan::new(0, &serde_json::from_value(mount).unwrap(), Path::new("/bundle"))
    }

    #[test]
    fn a_bind_is_what_has_the_option_whatever_its_type() {
        let mount = plan(json!({"destination": "/d", "type": "none", "source": "data", "options": ["rbind", "ro"]}));
        let kind = MountKind::Bind { source: "/bundle/data".into(), recursive: true };
        assert_eq!(mount.unwrap().kind, kind);
        assert!(plan(json!({"destination": "/d", "type": "bind", "source": "/x", "options": ["size=1"]})).is_err());
        assert!(plan(json!({"destination": "/d", "type": "bind"})).is_err());
    }

    #[test]
    fn destinations_stay_below_the_root() {
        assert_eq!(below_root(Path::new("/a/../../b/./c")), Path::new("b/c"));
        assert_eq!(below_root(Path::new("relative")), Path::new("relative"));
    }

    #[test]
    fn nothing_else_is_mounted_on_proc() {
        let tmpfs = |destination: &str| plan(json!({"destination": destination, "type": "tmpfs"}));
        assert!(tmpfs("/proc").is_err());
        assert!(tmpfs("/x/../proc/self/attr").is_err());
        assert!(plan(json!({"destination": "/proc", "type": "proc"})).is_ok());
        assert!(plan(json!({"destination": "/proc/meminfo", "type": "bind", "source": "/x"})).is_ok());
    }
}
