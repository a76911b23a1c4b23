// SPDX-License-Identifier: Apache-2.0
//! Where the cgroup hierarchies of this machine are mounted, and which controllers each holds.
//!
//! Every start asks it, so a machine with cgroup v2 alone is recognised by one system call; otherwise
//! `/proc/self/mountinfo` is read once.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use serde::Serialize;

use super::{CgroupError, control};

const USUAL: &str = "/sys/fs/cgroup";

/// Which of the two versions of cgroups a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Neither is mounted.
    None,
    /// v1 alone.
    V1,
    /// v1 with the controllers, and v2 beside it.
    Hybrid,
    /// v2 alone.
    V2,
}

/// A kind of hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One of many, each with its controllers.
    V1,
    /// The one that all controllers share.
    V2,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The names by which a container's state knows it: its controllers or `name=…` for v1, one empty name for v2.
    pub(super) names: Vec<String>,
    /// The cgroup that the mount point shows, as `/proc/PID/cgroup` writes it.
    pub(super) root: PathBuf,
    pub(super) mount_point: PathBuf,
}

impl Hierarchy {
    pub(super) fn version(&self) -> Version {
        if self.names == [""] { Version::V2 } else { Version::V1 }
    }
}

/// The hierarchies that containers are placed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Finds what is mounted in this mount namespace.
    pub fn detect() -> Result<Self, CgroupError> {
        if is_cgroup(Path::new(USUAL), Version::V2) {
            let v2 = Hierarchy { names: vec![String::new()], root: "/".into(), mount_point: USUAL.into() };
            return Ok(Self(vec![v2]));
        }
        let path = Path::new("/proc/self/mountinfo");
        let mountinfo =
            control::read_file(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })?;
        let mut found = Self::parse(&mountinfo);
        // another mount may cover one of these
        found.0.retain(|hierarchy| is_cgroup(&hierarchy.mount_point, hierarchy.version()));
        Ok(found)
    }

    /// Which versions there are.
    pub fn mode(&self) -> Mode {
        let has = |version| self.0.iter().any(|hierarchy| hierarchy.version() == version);
        match (has(Version::V1), has(Version::V2)) {
            (false, false) => Mode::None,
            (true, false) => Mode::V1,
            (true, true) => Mode::Hybrid,
            (false, true) => Mode::V2,
        }
    }

    /// Where the one hierarchy of v2 is mounted, when there is no other.
    pub(crate) fn only_v2(&self) -> Option<&Path> {
        match &self.0[..] {
            [only] if only.version() == Version::V2 => Some(&only.mount_point),
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// Reads the text of a mountinfo file (proc_pid_mountinfo(5)).
    fn parse(mountinfo: &str) -> Self {
        let mut found: Vec<Hierarchy> = Vec::new();
        for hierarchy in mountinfo.lines().filter_map(parse_line) {
            // A hierarchy mounted twice counts once, at the usual place if it is there; a mount over
            // another at the same place is what one sees.
            match found.iter_mut().find(|known| known.names == hierarchy.names) {
                None => found.push(hierarchy),
                Some(known) if !known.mount_point.starts_with(USUAL) || known.mount_point == hierarchy.mount_point => {
                    *known = hierarchy;
                }
                Some(_) => {}
            }
        }
        Self(found)
    }
}

/// Reads `ID PARENT MAJ:MIN ROOT MOUNT-POINT OPTIONS [TAG…] - TYPE SOURCE SUPER-OPTIONS`.
fn parse_line(line: &str) -> Option<Hierarchy> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
    let names = match kind {
        "cgroup2" => vec![String::new()],
        "cgroup" => v1_names(options),
        _ => return None,
    };
    let mut mount = mount.split(' ').skip(3);
    let (root, mount_point) = (mount.next()?, mount.next()?);
    let hierarchy = Hierarchy { names, root: unescape(root), mount_point: unescape(mount_point) };
    (!hierarchy.names.is_empty()).then_some(hierarchy)
}

/// The controllers among the options of a v1 mount, or its name where that is systemd's: containers have no
/// place in other named hierarchies.
fn v1_names(options: &str) -> Vec<String> {
    const FLAGS: [&str; 7] = ["rw", "ro", "noprefix", "xattr", "cpuset_v2_mode", "favordynmods", "clone_children"];
    let named = |option: &&str| !option.contains('=') || *option == "name=systemd";
    options.split(',').filter(|option| !FLAGS.contains(option)).filter(named).map(str::to_owned).collect()
}

/// White space and backslashes are written as three octal digits.
pub(crate) fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn is_cgroup(path: &Path, version: Version) -> bool {
    let magic = match version {
        Version::V1 => CGROUP_SUPER_MAGIC,
        Version::V2 => CGROUP2_SUPER_MAGIC,
    };
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == magic)
}

/// Whether the path is in a cgroup filesystem of either version.
pub(super) fn is_in_cgroupfs(path: &Path) -> bool {
    is_cgroup(path, Version::V1) || is_cgroup(path, Version::V2)
}

/// The cgroup that a process is in, by `/proc/PID/cgroup`, relative to what the hierarchy's mount shows; the top of
/// that, if it is not shown.
pub(super) fn cgroup_of(pid: Pid, hierarchy: &Hierarchy) -> Result<PathBuf, CgroupError> {
    shown_cgroup_of(pid, hierarchy).map(Option::unwrap_or_default)
}

/// The same; `None`, if it is not shown.
pub(super) fn shown_cgroup_of(pid: Pid, hierarchy: &Hierarchy) -> Result<Option<PathBuf>, CgroupError> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = control::read_file(&path).map_err(|source| CgroupError::Read { path, source })?;
    Ok(find_own(&text, hierarchy))
}

/// Finds a hierarchy's line, `ID:NAME,NAME…:PATH`.
fn find_own(text: &str, hierarchy: &Hierarchy) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (names, path) = line.split_once(':')?;
        names.split(',').eq(hierarchy.names.iter().map(String::as_str)).then_some(path)
    })?;
    Some(Path::new(path).strip_prefix(&hierarchy.root).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:12 master:3 - cgroup cgroup rw,xattr,memory,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
44 31 0:39 / /sys/fs/cgroup/elogind rw - cgroup cgroup rw,name=elogind
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 23 0:32 / /mnt/again rw - cgroup cgroup rw,memory
";

    fn names(hierarchies: &Hierarchies) -> Vec<(String, &str)> {
        hierarchies.iter().map(|h| (h.names.join("+"), h.mount_point.to_str().expect("UTF-8"))).collect()
    }

    #[test]
    fn finds_controllers_mounted_together_and_apart() {
        let hybrid = Hierarchies::parse(HYBRID);
        let expected = [
            ("cpu+cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
            ("memory", "/sys/fs/cgroup/memory"),
            ("name=systemd", "/sys/fs/cgroup/systemd"),
            ("", "/sys/fs/cgroup/unified"),
        ];
        assert_eq!(names(&hybrid), expected.map(|(names, path)| (names.to_owned(), path)));
        assert_eq!(hybrid.mode(), Mode::Hybrid);
    }

    #[test]
    fn modes_follow_from_the_mounts() {
        let lines =
            |pick: fn(&&str) -> bool| Hierarchies::parse(&HYBRID.lines().filter(pick).collect::<Vec<_>>().join("\n"));
        assert_eq!(lines(|line| !line.contains("cgroup2")).mode(), Mode::V1);
        assert_eq!(lines(|line| line.contains("cgroup2")).mode(), Mode::V2);
        assert_eq!(lines(|line| line.contains("ext4")).mode(), Mode::None);
    }

    #[test]
    fn a_later_mount_covers_an_earlier_one() {
        let text = "1 1 0:1 /a /mnt/x rw - cgroup2 none rw\n2 1 0:1 / /sys/fs/cgroup rw - cgroup2 none rw\n\
                    3 1 0:1 /b /sys/fs/cgroup rw - cgroup2 none rw\n4 1 0:1 / /mnt/y rw - cgroup2 none rw\n";
        let found = Hierarchies::parse(text);
        assert_eq!((found.0.len(), found.0[0].root.to_str()), (1, Some("/b")));
    }

    #[test]
    fn paths_are_unescaped() {
        let text = "1 1 0:1 /a\\040b /mnt/x\\134y\\9 rw - cgroup2 none rw\n";
        let found = Hierarchies::parse(text);
        assert_eq!(found.0[0].root.to_str(), Some("/a b"));
        assert_eq!(found.0[0].mount_point.to_str(), Some("/mnt/x\\y\\9"));
        for junk in ["", "x", "1 2 3 - cgroup2", "1 1 0:1 - cgroup2 none rw", "a - b - cgroup c d"] {
            assert_eq!(Hierarchies::parse(junk).mode(), Mode::None, "{junk}");
        }
    }

    #[test]
    fn own_cgroup_is_relative_to_the_mount() {
        let text = "5:cpu,cpuacct:/docker/x\n4:memory:/\n1:name=systemd:/a:b\n0::/docker/x/y\n";
        let hierarchy = |names: &[&str], root: &str| Hierarchy {
            names: names.iter().map(|name| name.to_string()).collect(),
            root: root.into(),
            mount_point: "/m".into(),
        };
        for (names, root, own) in [
            (&["cpu", "cpuacct"][..], "/docker/x", Some("")),
            (&["memory"], "/", Some("")),
            (&["name=systemd"], "/", Some("a:b")),
            (&[""], "/docker", Some("x/y")),
            (&[""], "/other", None),
            (&["cpu"], "/", None),
        ] {
            assert_eq!(find_own(text, &hierarchy(names, root)), own.map(PathBuf::from), "{names:?} {root}");
        }
    }

    #[test]
    fn finds_what_this_machine_has() {
        let found = Hierarchies::detect().expect("readable mounts");
        for hierarchy in found.iter() {
            assert!(hierarchy.mount_point.join("cgroup.procs").exists(), "{hierarchy:?}");
        }
    }
}
