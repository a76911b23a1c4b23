// SPDX-License-Identifier: Apache-2.0
//! Where a process' cgroups are on this machine: v2, v1 or both.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::Deserialize;

/// A process' cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The hierarchy's controllers (`memory`, `name=systemd`); empty for v2.
    pub controllers: Vec<String>,
    /// The directory.
    pub directory: PathBuf,
}

/// The cgroups that a process is in, as far as their hierarchies are mounted, without those where it is
/// in the root.
pub fn cgroups_of(pid: Pid) -> io::Result<Vec<Cgroup>> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mounts = fs::read("/proc/self/mountinfo")?;
    Ok(locate(&memberships, &mounts))
}

/// Removes the cgroups of a container that its runtime did not live to write down: those at the absolute
/// `cgroupsPath` of its config, if that is named for the container alone. What is still in them is killed.
///
/// As much as can be is removed; a runtime's own `delete` should have gone before.
pub fn remove_abandoned_cgroups(config: &[u8], id: &str) {
    #[derive(Deserialize)]
    struct Config {
        linux: Option<Linux>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Linux {
        cgroups_path: Option<PathBuf>,
    }
    let config = serde_json::from_slice::<Config>(config).ok();
    let Some(path) = config.and_then(|config| config.linux?.cgroups_path) else { return };
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if !path.is_absolute() || !plain || !path.file_name().is_some_and(|name| is_named_for(name, id)) {
        return;
    }
    let Ok(mountinfo) = fs::read("/proc/self/mountinfo") else { return };
    for mount in mountinfo.split(|&b| b == b'\n').filter_map(Mount::parse).filter(Mount::is_cgroup) {
        if let Some(directory) = mount.directory_of(&path) {
            remove_cgroup(&directory);
        }
    }
}

// By its id, as containerd does it, or as ctr-bundle does: `ctr-ID` or `ctr-ID@NAMESPACE`.
fn is_named_for(name: &OsStr, id: &str) -> bool {
    let Some(name) = name.to_str() else { return false };
    let own = name.strip_prefix("ctr-").and_then(|rest| rest.split('@').next());
    name == id || own == Some(id)
}

fn remove_cgroup(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path());
    }
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0) {
        if let Ok(process) = ctr_sys::process::pidfd_open(Pid::from_raw(pid))
            && ctr_sys::process::pidfd_send_signal(process.as_fd(), libc::SIGKILL).is_ok()
        {
            let _ = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
    }
    let _ = fs::remove_dir(directory);
}

fn locate(memberships: &str, mountinfo: &[u8]) -> Vec<Cgroup> {
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let controllers: Vec<String> =
            if controllers.is_empty() { Vec::new() } else { controllers.split(',').map(str::to_owned).collect() };
        if path != "/"
            && let Some(directory) = mountinfo
                .split(|&b| b == b'\n')
                .filter_map(Mount::parse)
                .filter(|mount| mount.has(&controllers))
                .find_map(|mount| mount.directory_of(Path::new(path)))
        {
            found.push(Cgroup { controllers, directory });
        }
    }
    found
}

/// A line of mountinfo.
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        // proc_pid_mountinfo(5): any number of optional fields ends with a lone hyphen.
        let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        let hyphen = fields.iter().position(|field| *field == b"-")?;
        Some(Self {
            root: unescape(fields.get(3)?).into(),
            point: unescape(fields.get(4)?).into(),
            kind: fields.get(hyphen + 1)?,
            options: fields.get(hyphen + 3)?,
        })
    }

    fn is_cgroup(&self) -> bool {
        self.kind == b"cgroup" || self.kind == b"cgroup2"
    }

    /// Whether it is of the hierarchy of these controllers; of v2 for none.
    fn has(&self, controllers: &[String]) -> bool {
        let has = |wanted: &String| self.options.split(|&b| b == b',').any(|option| option == wanted.as_bytes());
        match controllers {
            [] => self.kind == b"cgroup2",
            names => self.kind == b"cgroup" && names.iter().all(has),
        }
    }

    fn directory_of(&self, path: &Path) -> Option<PathBuf> {
        Some(self.point.join(path.strip_prefix(&self.root).ok()?))
    }
}

// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"\
30 24 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
33 24 0:29 /docker/x /mnt/a\\040b rw - cgroup cgroup rw,pids\n";

    #[test]
    fn finds_each_hierarchy_where_it_is_mounted() {
        let memberships =
            "9:pids:/docker/x/web\n8:name=systemd:/web\n4:memory:/web\n3:cpu,cpuacct:/web\n2:devices:/\n0::/web\n";
        let found = locate(memberships, HYBRID);
        let directories: Vec<&str> = found.iter().map(|cgroup| cgroup.directory.to_str().unwrap()).collect();
        assert_eq!(
            directories,
            [
                "/mnt/a b/web",
                "/sys/fs/cgroup/memory/web",
                "/sys/fs/cgroup/cpu,cpuacct/web",
                "/sys/fs/cgroup/unified/web"
            ]
        );
        assert_eq!(found[3].controllers, Vec::<String>::new());
    }

    #[test]
    fn a_process_in_the_root_has_no_cgroup_of_its_own() {
        assert!(locate("4:memory:/\n0::/\n", HYBRID).is_empty());
        assert!(locate("9:pids:/elsewhere\n", HYBRID).is_empty(), "not below what is mounted");
    }

    #[test]
    fn a_cgroup_is_a_containers_own_by_its_name() {
        for (name, own) in
            [("web", true), ("ctr-web", true), ("ctr-web@ci", true), ("ctr-web-1", false), ("ctr", false)]
        {
            assert_eq!(is_named_for(OsStr::new(name), "web"), own, "{name}");
        }
    }
}
