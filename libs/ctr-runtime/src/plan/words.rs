// SPDX-License-Identifier: Apache-2.0
//! The plan's numbers written as the words that config.json has for them, for plans that are printed.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use ctr_sys::affinity::{CpuSet, MAX_CPUS};
use ctr_sys::mount;
use ctr_sys::process::SchedulerAttributes;
use ctr_sys::terminal::Size;
use nix::mount::MsFlags;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::json;

use super::{Change, Rlimit, Sysctl, memory};
use crate::capability::NAMES;
use crate::seccomp::{Profile, vocabulary};

/// The word for a `CLONE_NEW*`.
pub(crate) fn namespace(kind: i32) -> &'static str {
    match kind {
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWPID => "pid",
        libc::CLONE_NEWNET => "network",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWUTS => "uts",
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWUSER => "user",
        _ => "time",
    }
}

/// The words for several, in their order.
pub(crate) fn kinds(kinds: u64) -> Vec<&'static str> {
    let mut words: Vec<&str> =
        (0..64).filter(|bit| kinds & (1 << bit) != 0).map(|bit| namespace((1_u64 << bit) as i32)).collect();
    words.sort_unstable();
    words
}

pub(super) fn namespaces<S: Serializer>(kinds: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(self::kinds(*kinds))
}

pub(super) fn joined<S: Serializer>(join: &[(i32, PathBuf)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(join.iter().map(|(kind, path)| (namespace(*kind), path)))
}

pub(super) fn sysctl<S: Serializer>(parameters: &[Sysctl], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(parameters.iter().map(|parameter| (&parameter.path, &parameter.value)))
}

pub(super) fn personality<S: Serializer>(personality: &Option<i32>, to: S) -> Result<S::Ok, S::Error> {
    match personality {
        None => to.serialize_none(),
        Some(0) => to.serialize_str("LINUX"),
        Some(_) => to.serialize_str("LINUX32"),
    }
}

pub(super) fn memory_mode<S: Serializer>(mode: &i32, to: S) -> Result<S::Ok, S::Error> {
    const FLAGS: [(i32, &str); 3] = [
        (libc::MPOL_F_STATIC_NODES, "MPOL_F_STATIC_NODES"),
        (libc::MPOL_F_RELATIVE_NODES, "MPOL_F_RELATIVE_NODES"),
        (libc::MPOL_F_NUMA_BALANCING, "MPOL_F_NUMA_BALANCING"),
    ];
    let all = FLAGS.iter().fold(0, |all, (flag, _)| all | flag);
    let word = match mode & !all {
        libc::MPOL_PREFERRED => "MPOL_PREFERRED",
        libc::MPOL_BIND => "MPOL_BIND",
        libc::MPOL_INTERLEAVE => "MPOL_INTERLEAVE",
        libc::MPOL_LOCAL => "MPOL_LOCAL",
        memory::MPOL_PREFERRED_MANY => "MPOL_PREFERRED_MANY",
        memory::MPOL_WEIGHTED_INTERLEAVE => "MPOL_WEIGHTED_INTERLEAVE",
        _ => "MPOL_DEFAULT",
    };
    to.collect_seq(
        std::iter::once(&word).chain(FLAGS.iter().filter(|(flag, _)| mode & flag != 0).map(|(_, word)| word)),
    )
}

/// The numbers of the bits that are set.
pub(super) fn bits<S: Serializer>(words: &[u64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq((0..words.len() * 64).filter(|bit| words[bit / 64] & (1 << (bit % 64)) != 0))
}

fn propagation_word((flag, recursive): (u64, bool)) -> String {
    let word = match MsFlags::from_bits_truncate(flag) {
        MsFlags::MS_PRIVATE => "private",
        MsFlags::MS_SLAVE => "slave",
        MsFlags::MS_SHARED => "shared",
        _ => "unbindable",
    };
    let prefix = if recursive { "r" } else { "" };
    format!("{prefix}{word}")
}

pub(super) fn propagation<S: Serializer>(change: &Option<(u64, bool)>, to: S) -> Result<S::Ok, S::Error> {
    match change {
        None => to.serialize_none(),
        Some(change) => to.serialize_str(&propagation_word(*change)),
    }
}

pub(super) fn propagations<S: Serializer>(changes: &[(u64, bool)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(changes.iter().map(|change| propagation_word(*change)))
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const FLAGS: [(u64, &str, &str); 6] = [
            (mount::MOUNT_ATTR_RDONLY, "ro", "rw"),
            (mount::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
            (mount::MOUNT_ATTR_NODEV, "nodev", "dev"),
            (mount::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
            (mount::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
            (mount::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
        ];
        let word = |&(flag, set, cleared): &(u64, &'static str, &'static str)| match self.set & flag != 0 {
            true => Some(set),
            false => (self.clear & flag != 0).then_some(cleared),
        };
        let access_time = (self.clear & mount::MOUNT_ATTR__ATIME != 0).then_some(match self.set {
            set if set & mount::MOUNT_ATTR_NOATIME != 0 => "noatime",
            set if set & mount::MOUNT_ATTR_STRICTATIME != 0 => "strictatime",
            _ => "relatime",
        });
        to.collect_seq(FLAGS.iter().filter_map(word).chain(access_time))
    }
}

/// A path relative to the container's root, as the container sees it.
pub(super) fn inside<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Path::new("/").join(path).display())
}

pub(super) fn mode<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{mode:04o}"))
}

pub(super) fn umask<S: Serializer>(mask: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
    match mask {
        None => to.serialize_none(),
        Some(mask) => mode(mask, to),
    }
}

pub(super) fn strings<S: Serializer>(strings: &[CString], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(strings.iter().map(|string| string.to_string_lossy()))
}

pub(super) fn size<S: Serializer>(size: &Option<Size>, to: S) -> Result<S::Ok, S::Error> {
    match size {
        None => to.serialize_none(),
        Some(size) => to.collect_map([("height", size.rows), ("width", size.columns)]),
    }
}

/// The names of a set of capabilities, by their numbers.
pub(crate) fn capabilities<S: Serializer>(set: &u64, to: S) -> Result<S::Ok, S::Error> {
    let known = NAMES.iter().enumerate().filter(|(number, _)| set & (1 << number) != 0);
    to.collect_seq(known.map(|(_, name)| format!("CAP_{name}")))
}

pub(super) fn rlimits<S: Serializer>(limits: &[Rlimit], to: S) -> Result<S::Ok, S::Error> {
    let value = |limit: u64| if limit == libc::RLIM_INFINITY { json!("unlimited") } else { json!(limit) };
    let mut map = to.serialize_map(Some(limits.len()))?;
    for &(resource, soft, hard) in limits {
        let name = format!("RLIMIT_{}", ctr_sys::process::rlimit_name(resource));
        map.serialize_entry(&name, &json!({"soft": value(soft), "hard": value(hard)}))?;
    }
    map.end()
}

pub(super) fn io_priority<S: Serializer>(priority: &Option<i32>, to: S) -> Result<S::Ok, S::Error> {
    let Some(priority) = priority else { return to.serialize_none() };
    let class = match priority >> 13 {
        1 => "IOPRIO_CLASS_RT",
        2 => "IOPRIO_CLASS_BE",
        _ => "IOPRIO_CLASS_IDLE",
    };
    let mut map = to.serialize_map(Some(2))?;
    map.serialize_entry("class", class)?;
    map.serialize_entry("priority", &(priority & 0x1fff))?;
    map.end()
}

pub(super) fn scheduler<S: Serializer>(attributes: &Option<SchedulerAttributes>, to: S) -> Result<S::Ok, S::Error> {
    let Some(attributes) = attributes else { return to.serialize_none() };
    let policy = match attributes.policy as i32 {
        libc::SCHED_FIFO => "SCHED_FIFO",
        libc::SCHED_RR => "SCHED_RR",
        libc::SCHED_BATCH => "SCHED_BATCH",
        libc::SCHED_IDLE => "SCHED_IDLE",
        libc::SCHED_DEADLINE => "SCHED_DEADLINE",
        _ => "SCHED_OTHER",
    };
    let mut map = to.serialize_map(None)?;
    map.serialize_entry("policy", policy)?;
    for (name, value) in [
        ("flags", attributes.flags),
        ("priority", attributes.priority.into()),
        ("runtime", attributes.runtime),
        ("deadline", attributes.deadline),
        ("period", attributes.period),
    ] {
        if value != 0 {
            map.serialize_entry(name, &value)?;
        }
    }
    map.serialize_entry("nice", &attributes.nice)?;
    map.end()
}

pub(super) fn cpus<S: Serializer>(cpus: &Option<CpuSet>, to: S) -> Result<S::Ok, S::Error> {
    let Some(cpus) = cpus else { return to.serialize_none() };
    let mut list = to.serialize_seq(None)?;
    for cpu in (0..MAX_CPUS).filter(|cpu| cpus.contains(*cpu)) {
        list.serialize_element(&cpu)?;
    }
    list.end()
}

/// How a profile's program is loaded. How long it is, the preview says in its place.
pub(super) fn profile<S: Serializer>(profile: &Option<Profile>, to: S) -> Result<S::Ok, S::Error> {
    let Some(profile) = profile else { return to.serialize_none() };
    let mut map = to.serialize_map(Some(3))?;
    map.serialize_entry("instructions", &())?;
    map.serialize_entry("flags", &vocabulary::names(profile.flags))?;
    map.serialize_entry("listener", &profile.notify)?;
    map.end()
}
