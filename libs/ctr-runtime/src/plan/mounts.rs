// SPDX-License-Identifier: Apache-2.0
//! The container's mounts.

use std::path::{Component, Path, PathBuf};

use ctr_sys::mount::MOUNT_ATTR_RDONLY;
use oci_spec::runtime::Mount;
use serde::Serialize;

use super::idmap::IdmapPlan;
use super::{MountOptions, NamespacePlan, words};
use crate::RuntimeError;

/// One mount inside the container.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPlan {
    /// Where, relative to the container's root, without `..`; never the root itself.
    #[serde(serialize_with = "words::inside")]
    pub destination: PathBuf,
    /// What.
    #[serde(flatten)]
    pub kind: MountKind,
    /// How. The data is complete: with what the file system is told of the mount label.
    pub options: MountOptions,
    /// The ids that it shows.
    pub idmap: Option<IdmapPlan>,
    /// Where in the container's root the source of a bind mount is, when it is named by the rootfs's path on
    /// the host: what is mounted there by then.
    #[serde(skip)]
    pub source_inside: Option<PathBuf>,
    /// The SELinux label, where it is not in the data of what is mounted here.
    pub label: Option<String>,
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

/// What a mount's plan depends on besides its own words.
#[derive(Clone, Copy, Debug)]
pub struct MountContext<'a> {
    /// The bundle directory, to which sources are relative.
    pub bundle: &'a Path,
    /// The root on the host, absolute.
    pub rootfs: &'a Path,
    /// The container's namespaces.
    pub namespaces: &'a NamespacePlan,
    /// `linux.mountLabel`.
    pub label: Option<&'a str>,
    /// Whether the runtime is not root.
    pub rootless: bool,
}

impl MountPlan {
    /// Plans the mount number `index` of the config.
    pub fn new(index: usize, mount: &Mount, context: MountContext<'_>) -> Result<Self, RuntimeError> {
        let refuse = |reason: String| {
            RuntimeError::config(format!("mounts[{index}] ({})", mount.destination().display()), reason)
        };
        let mut options = MountOptions::parse(mount.options().iter().flatten());
        let kind = MountKind::new(mount, &options, context.bundle).map_err(refuse)?;
        let is_bind = matches!(kind, MountKind::Bind { .. });
        if options.copy_up && !kind.is_new("tmpfs") {
            return Err(refuse("tmpcopyup is for tmpfs".into()));
        }
        if !is_bind && (options.copy_symlink || options.source_nofollow || options.destination_nofollow) {
            return Err(refuse("copy-symlink, src-nofollow and dest-nofollow are for bind mounts".into()));
        }
        if !is_bind && options.remount {
            return Err(refuse("remount is for bind mounts: what is mounted here is new".into()));
        }
        let idmap = IdmapPlan::new(mount, &options, context.namespaces).map_err(refuse)?;
        if idmap.is_some() {
            check_idmap(&kind, context.rootless).map_err(refuse)?;
        }
        if !is_bind {
            options.data.append(&mut options.superblock);
        }
        let mut label = None;
        match (context.label, &kind) {
            // Each ipc namespace's mqueue is there already and takes no options.
            (Some(given), kind) if kind.is_new("mqueue") || *kind == MountKind::Cgroup => {
                label = Some(given.to_owned());
            }
            (Some(given), kind) if kind.takes_label() => options.data.push(format!("context={given}")),
            _ => {}
        }
        let destination = context.inside(mount.destination()).unwrap_or_else(|| below_root(mount.destination()));
        check_destination(&destination, &kind).map_err(refuse)?;
        let source_inside = match &kind {
            MountKind::Bind { source, .. } => context.inside(source),
            MountKind::Cgroup | MountKind::New { .. } => None,
        };
        Ok(Self { destination, kind, options, idmap, source_inside, label })
    }

    /// Whether it is made read-only only when all is in it: nodes in /dev, mount points in a tmpfs.
    pub fn is_read_only_at_last(&self) -> bool {
        let is_filled = match &self.kind {
            MountKind::New { fstype, .. } => fstype == "tmpfs" || self.destination == Path::new("dev"),
            MountKind::Bind { .. } | MountKind::Cgroup => false,
        };
        is_filled && self.options.attributes.set & MOUNT_ATTR_RDONLY != 0
    }

    /// The `MOUNT_ATTR_*` that a new file system is mounted with at first.
    pub fn first_attributes(&self) -> u64 {
        let later = if self.is_read_only_at_last() { MOUNT_ATTR_RDONLY } else { 0 };
        self.options.attributes.set & !later
    }

    /// Whether what is mounted may belong to the container's network namespace.
    pub fn needs_network(&self) -> bool {
        matches!(self.kind, MountKind::New { .. }) && !self.is_of_nothing()
    }

    /// Whether it is one of the file systems that are made of nothing that has a name.
    pub fn is_of_nothing(&self) -> bool {
        ["proc", "tmpfs", "devpts", "mqueue"].iter().any(|fstype| self.kind.is_new(fstype))
    }

    /// Whether this is the mount that fills `/dev` from the host.
    pub fn is_host_dev(&self) -> bool {
        self.destination == Path::new("dev") && matches!(self.kind, MountKind::Bind { .. })
    }
}

impl MountContext<'_> {
    // A path on the host that leads into the root, as the container sees it; as with runc. With a `..` it
    // may lead out again.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let inside = path.strip_prefix(self.rootfs).ok().filter(|_| self.rootfs != Path::new("/"))?;
        let plain = inside.components().all(|component| matches!(component, Component::Normal(_)));
        (plain && !inside.as_os_str().is_empty()).then(|| inside.to_owned())
    }
}

impl MountKind {
    fn new(mount: &Mount, options: &MountOptions, bundle: &Path) -> Result<Self, String> {
        let fstype = mount.typ().as_deref().unwrap_or_default();
        let bind = options.bind.or_else(|| (fstype == "bind" || fstype == "rbind").then_some(fstype == "rbind"));
        match (bind, fstype) {
            (Some(recursive), _) => {
                // The kernel would ignore it.
                if let Some(option) = options.data.first() {
                    return Err(format!("a bind mount cannot have the option {option:?} of a file system"));
                }
                let source = mount.source().as_ref().filter(|source| !source.as_os_str().is_empty());
                let source = source.ok_or("a bind mount needs a source")?;
                Ok(Self::Bind { source: bundle.join(source), recursive })
            }
            (None, "") => Err("it has no type".into()),
            (None, "cgroup" | "cgroup2") => Ok(Self::Cgroup),
            (None, fstype) => {
                let source = mount.source().as_ref().map(|source| source.to_string_lossy().into_owned());
                Ok(Self::New { fstype: fstype.to_owned(), source: source.unwrap_or_else(|| fstype.to_owned()) })
            }
        }
    }

    /// Whether it is a new file system of a type.
    pub fn is_new(&self, wanted: &str) -> bool {
        matches!(self, Self::New { fstype, .. } if fstype == wanted)
    }

    fn takes_label(&self) -> bool {
        matches!(self, Self::New { fstype, .. } if !matches!(fstype.as_str(), "proc" | "sysfs" | "mqueue"))
    }
}

fn check_idmap(kind: &MountKind, rootless: bool) -> Result<(), String> {
    match kind {
        _ if rootless => Err("an idmapped mount takes a runtime that is root".into()),
        MountKind::Cgroup => Err("the container's cgroups cannot be idmapped".into()),
        // They belong to the container's namespaces, and so do the ids that they show.
        MountKind::New { fstype, .. } if matches!(fstype.as_str(), "proc" | "sysfs" | "mqueue" | "devpts") => {
            Err(format!("{fstype} cannot be idmapped"))
        }
        _ => Ok(()),
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
// what lxcfs provides. A bind on /proc itself has to be of a proc file system, which shows when it is made.
fn check_destination(destination: &Path, kind: &MountKind) -> Result<(), String> {
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
    if destination.as_os_str().is_empty() {
        return Err("nothing can be mounted on the container's root".into());
    }
    let Ok(inside) = destination.strip_prefix("proc") else { return Ok(()) };
    match inside.as_os_str().is_empty() {
        true if kind.is_new("proc") || matches!(kind, MountKind::Bind { .. }) => Ok(()),
        true => Err("only proc can be mounted on /proc".into()),
        false if LXCFS.iter().any(|allowed| inside == Path::new(allowed)) => Ok(()),
        false => Err("nothing can be mounted inside /proc".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan_with(mount: serde_json::Value, label: Option<&str>, rootless: bool) -> Result<MountPlan, RuntimeError> {
        let namespaces = NamespacePlan::default();
        let (bundle, rootfs) = (Path::new("/bundle"), Path::new("/bundle/rootfs"));
        let context = MountContext { bundle, rootfs, namespaces: &namespaces, label, rootless };
        MountPlan::new(0, &serde_json::from_value(mount).unwrap(), context)
    }

    fn plan(mount: serde_json::Value) -> Result<MountPlan, RuntimeError> {
        plan_with(mount, None, false)
    }

    #[test]
    fn a_bind_is_what_has_the_option_whatever_its_type() {
        let mount = plan(json!({"destination": "/d", "type": "none", "source": "data", "options": ["rbind", "ro"]}));
        let kind = MountKind::Bind { source: "/bundle/data".into(), recursive: true };
        assert_eq!(mount.unwrap().kind, kind);
        assert!(plan(json!({"destination": "/d", "type": "bind", "source": "/x", "options": ["size=1"]})).is_err());
        assert!(plan(json!({"destination": "/d", "type": "bind", "source": "/x", "options": ["sync"]})).is_ok());
        assert!(plan(json!({"destination": "/d", "type": "bind"})).is_err());
        assert!(plan(json!({"destination": "/d", "source": "/x", "options": ["bind", "remount"]})).is_ok());
        let refused = plan(json!({"destination": "/d", "type": "tmpfs", "options": ["remount", "ro"]})).unwrap_err();
        assert!(refused.to_string().contains("remount"), "{refused}");
    }

    #[test]
    fn destinations_stay_below_the_root() {
        assert_eq!(below_root(Path::new("/a/../../b/./c")), Path::new("b/c"));
        assert_eq!(below_root(Path::new("relative")), Path::new("relative"));
        assert!(plan(json!({"destination": "/a/..", "type": "tmpfs"})).is_err());
        let mount = json!({"destination": "/bundle/rootfs/d", "source": "/s", "options": ["bind"]});
        assert_eq!(plan(mount).unwrap().destination, Path::new("d"));
        let mount = |source: &str| plan(json!({"destination": "/d", "source": source, "options": ["bind"]})).unwrap();
        assert_eq!(mount("rootfs/s/t").source_inside.as_deref(), Some(Path::new("s/t")));
        for host in ["rootfs", "rootfs2/s", "rootfs/../s", "rootfs/s/../../t"] {
            assert_eq!(mount(host).source_inside, None);
        }
    }

    #[test]
    fn nothing_else_is_mounted_on_proc() {
        let tmpfs = |destination: &str| plan(json!({"destination": destination, "type": "tmpfs"}));
        assert!(tmpfs("/proc").is_err());
        assert!(tmpfs("/x/../proc/self/attr").is_err());
        assert!(plan(json!({"destination": "/proc", "type": "proc"})).is_ok());
        assert!(plan(json!({"destination": "/proc/meminfo", "type": "bind", "source": "/x"})).is_ok());
    }

    #[test]
    fn the_label_is_data_of_what_takes_it() {
        let labelled = |kind: &str| {
            let mount = json!({"destination": "/d", "type": kind, "source": "/s", "options": ["size=1", "sync"]});
            let mut mount = mount;
            if matches!(kind, "bind" | "proc") {
                mount["options"] = json!([]);
            }
            plan_with(mount, Some("u:r:t:s0:c1,c2"), false).unwrap()
        };
        assert_eq!(labelled("tmpfs").options.data, ["size=1", "sync", "context=u:r:t:s0:c1,c2"]);
        assert_eq!(labelled("devpts").options.data[2], "context=u:r:t:s0:c1,c2");
        for kind in ["bind", "proc", "cgroup", "sysfs", "mqueue"] {
            let mount = labelled(kind);
            assert!(!mount.options.data.iter().any(|option| option.starts_with("context")), "{kind}");
            assert_eq!(mount.label.is_some(), matches!(kind, "mqueue" | "cgroup"));
        }
    }

    #[test]
    fn what_belongs_to_a_namespace_is_not_idmapped() {
        let ids = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        let mapped = |kind: &str, rootless: bool| {
            let mount = json!({"destination": "/proc/../d", "type": kind, "source": "/s",
                "uidMappings": ids, "gidMappings": ids});
            plan_with(mount, None, rootless)
        };
        assert!(mapped("tmpfs", false).is_ok() && mapped("bind", false).is_ok());
        assert!(mapped("bind", true).is_err());
        for kind in ["proc", "sysfs", "mqueue", "devpts", "cgroup"] {
            assert!(mapped(kind, false).unwrap_err().to_string().contains("idmapped"), "{kind}");
        }
    }
}
