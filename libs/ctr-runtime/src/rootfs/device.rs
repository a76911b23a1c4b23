// SPDX-License-Identifier: Apache-2.0
//! What stands in the container's /dev: nodes, links, and the console.
//!
//! Everything is made relative to a descriptor of the container's /dev, which must not be reached
//! through a symlink: an image whose /dev is one could have nodes made and links replaced on the host
//! (CVE-2026-41579).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ctr_sys::mount;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use crate::plan::{DevicePlan, NodeKind, Plan};
use crate::process::report::{InitFailure, Step, StepResult};
use crate::rootfs::beneath::Root;
use crate::rootfs::replace_symlink;

/// The nodes that every container has (runtime-spec, "Default Devices").
pub(crate) const DEFAULT_NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Fills the container's /dev (runtime-spec, "Default Devices"), unless it is the host's.
pub(crate) fn populate(plan: &Plan, root: Root<'_>) -> StepResult<()> {
    if plan.mounts.iter().any(|mount| mount.is_host_dev()) {
        return Ok(());
    }
    root.make_dir(Path::new("dev")).step("make /dev")?;
    let dev = root.open_plain(Path::new("dev"), OFlag::O_PATH | OFlag::O_DIRECTORY).step("open /dev")?;
    for (name, node) in default_nodes(plan) {
        make_node(&node, &dev, name, root)?;
    }
    for device in &plan.devices {
        let shown = || format!("make the directory of device /{}", device.path.display());
        let parent = root.make_dir(device.path.parent().unwrap_or(Path::new(""))).step_with(shown)?;
        let name = device.path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| InitFailure::finding("a device's name is not UTF-8"))?;
        make_node(device, &parent, name, root)?;
    }
    let link = |name, target| replace_symlink(dev.as_fd(), name, target).step_with(|| format!("make /dev/{name}"));
    link("fd", "/proc/self/fd")?;
    link("stdin", "/proc/self/fd/0")?;
    link("stdout", "/proc/self/fd/1")?;
    link("stderr", "/proc/self/fd/2")?;
    if Path::new("/proc/kcore").exists() {
        link("core", "/proc/kcore")?;
    }
    link("ptmx", "pts/ptmx")
}

/// All nodes that a container's /dev is filled with.
pub(crate) fn nodes(plan: &Plan) -> Vec<DevicePlan> {
    let fills = !plan.mounts.iter().any(|mount| mount.is_host_dev());
    let all = default_nodes(plan).map(|(_, node)| node).chain(plan.devices.iter().cloned());
    all.filter(|_| fills).collect()
}

// Those that the config does not want otherwise.
fn default_nodes(plan: &Plan) -> impl Iterator<Item = (&'static str, DevicePlan)> {
    let node = |(name, major, minor)| {
        let path = Path::new("dev").join(name);
        (name, DevicePlan { path, kind: NodeKind::Character, major, minor, mode: 0o666, uid: 0, gid: 0 })
    };
    let wanted_otherwise = |node: &DevicePlan| plan.devices.iter().any(|device| device.path == node.path);
    DEFAULT_NODES.into_iter().map(node).filter(move |(_, node)| !wanted_otherwise(node))
}

fn make_node(node: &DevicePlan, dir: &OwnedFd, name: &str, root: Root<'_>) -> StepResult<()> {
    let failed = || format!("make device /{}", node.path.display());
    let kind = match node.kind {
        NodeKind::Character => SFlag::S_IFCHR,
        NodeKind::Block => SFlag::S_IFBLK,
        NodeKind::Fifo => SFlag::S_IFIFO,
    };
    let number = makedev(node.major, node.minor);
    match mknodat(dir, name, kind, Mode::from_bits_truncate(node.mode), number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let status = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).step_with(failed)?;
            let same = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == kind
                && (node.kind == NodeKind::Fifo || status.st_rdev == number);
            return match same {
                true => Ok(()),
                false => Err(InitFailure::finding(format!("{}: something else is there", failed()))),
            };
        }
        // A user namespace may make no devices: the host's node is bound in its place.
        Err(Errno::EPERM) if node.kind != NodeKind::Fifo => return bind_from_host(node, kind, root),
        Err(errno) => return Err(errno).step_with(failed),
    }
    if node.uid != 0 || node.gid != 0 {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).step_with(failed)?;
    }
    Ok(())
}

fn bind_from_host(node: &DevicePlan, kind: SFlag, root: Root<'_>) -> StepResult<()> {
    let failed = || format!("bind the host's device /{}", node.path.display());
    let host = Path::new("/").join(&node.path);
    let status = nix::sys::stat::stat(&host).step_with(failed)?;
    let host_kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    if host_kind != kind || status.st_rdev != makedev(node.major, node.minor) {
        return Err(InitFailure::finding(format!("{}: it is another device there", failed())));
    }
    let tree = mount::clone_tree(AT_FDCWD, &host, false).step_with(failed)?;
    let target = root.make_file(&node.path).step_with(failed)?;
    mount::move_mount(tree.as_fd(), target.as_fd()).step_with(failed)
}

/// Both ends of the container's terminal.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a terminal in the container's own devpts and gives its slave to the container's user.
pub(crate) fn open_console(root: Root<'_>, uid: u32) -> StepResult<Console> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = root.open_plain(Path::new("dev/pts/ptmx"), flags).step("open the container's /dev/pts/ptmx")?;
    let slave = ctr_sys::terminal::open_slave(master.as_fd()).step("open the slave of the container's terminal")?;
    fchown(&slave, Some(Uid::from_raw(uid)), None).step("give the terminal to the container's user")?;
    Ok(Console { master, slave })
}

/// Puts the terminal at /dev/console. An image that has a link there would have it mounted over whatever it
/// likes (CVE-2025-52565).
pub(crate) fn mount_console(root: Root<'_>, slave: BorrowedFd<'_>) -> StepResult<()> {
    let path = Path::new("dev/console");
    root.make_file(path).step("make /dev/console")?;
    let target = root.open_plain(path, OFlag::O_PATH).step("open /dev/console")?;
    let tree = mount::clone_tree(slave, Path::new(""), false).step("bind the terminal")?;
    mount::move_mount(tree.as_fd(), target.as_fd()).step("mount /dev/console")
}
