// SPDX-License-Identifier: Apache-2.0
//! The mount API by file descriptor: fsopen, fsmount, open_tree, move_mount, mount_setattr.
//!
//! A mount made here belongs to nobody until [`move_mount`] attaches it, but for that of [`mount_on`]; and it is
//! attached to a descriptor, not to a path: there is nothing that a racing symlink could redirect.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::NixPath;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;

pub use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
};

/// A file system under construction (fsopen(2)).
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Begins a file system of a type, `tmpfs`.
    pub fn open(kind: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(kind)?;
        // SAFETY: `name` is a NUL-terminated string that outlives the call; no other memory is passed.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
        owned(fd).map(Self)
    }

    /// Sets an option that has a value, `size=64k`.
    pub fn set_string(&self, key: &str, value: &str) -> io::Result<()> {
        let (key, value) = (std::ffi::CString::new(key)?, std::ffi::CString::new(value)?);
        self.config(libc::FSCONFIG_SET_STRING, Some(&key), Some(&value), 0)
    }

    /// Sets an option that has none, `nr_inodes` without a value or `newinstance`.
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        let key = std::ffi::CString::new(key)?;
        self.config(libc::FSCONFIG_SET_FLAG, Some(&key), None, 0)
    }

    /// Makes the superblock and a mount of it with `MOUNT_ATTR_*` attributes.
    pub fn mount(&self, attributes: u64) -> io::Result<OwnedFd> {
        self.config(libc::FSCONFIG_CMD_CREATE, None, None, 0)?;
        // SAFETY: three integers are passed, no memory.
        let fd = unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes as libc::c_uint)
        };
        owned(fd)
    }

    /// What the kernel has to say about the last failure, if it says anything.
    pub fn complaint(&self) -> Option<String> {
        let mut message = [0; 512];
        let n = nix::unistd::read(&self.0, &mut message).ok()?;
        let text = String::from_utf8_lossy(&message[..n]);
        // Messages are `e overlay: text`: severity first.
        Some(text.get(2..)?.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn config(&self, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>, aux: i32) -> io::Result<()> {
        let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or NUL-terminated strings that outlive the call, as these
        // commands of fsconfig(2) want them.
        let result = unsafe {
            libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, pointer(key), pointer(value), aux)
        };
        done(result)
    }
}

/// Copies the mount at a path, relative to `dir`, as a detached one (a bind mount not yet attached).
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    let empty = if path.as_os_str().is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    open_tree(dir, path, recursive | empty)
}

/// The same of a path whose last component is not followed: a symlink can be mounted as well as a file.
pub fn clone_unfollowed(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    open_tree(nix::fcntl::AT_FDCWD, path, recursive | libc::AT_SYMLINK_NOFOLLOW)
}

fn open_tree(dir: BorrowedFd<'_>, path: &Path, at_flags: i32) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | at_flags as libc::c_uint;
    let fd = path.with_nix_path(|path| {
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) }
    })?;
    owned(fd)
}

/// Attaches a detached mount on top of what `target` refers to.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are static empty strings.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    };
    done(result)
}

/// Makes a file system and mounts it on a directory (mount(2)), with its own options separated by commas and
/// `MOUNT_ATTR_*` attributes. Meanwhile that is the working directory, from which a relative path among the options
/// would lead.
pub fn mount_on(
    directory: BorrowedFd<'_>,
    fstype: &str,
    source: &str,
    options: &str,
    attributes: u64,
) -> io::Result<()> {
    let known = |rest: u64, (attribute, _): &(u64, MsFlags)| rest & !attribute;
    if FLAGS.iter().fold(attributes, known) != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = FLAGS.iter().filter(|(attribute, _)| attributes & attribute == *attribute).map(|(_, flag)| *flag);
    let options = Some(options).filter(|options| !options.is_empty());
    let here = nix::fcntl::open(".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    // What cannot be come back to is not left.
    nix::unistd::fchdir(&here)?;
    nix::unistd::fchdir(directory)?;
    // By this name it can reach nothing else.
    let mounted = nix::mount::mount(Some(source), ".", Some(fstype), flags.collect(), options);
    nix::unistd::fchdir(here)?;
    Ok(mounted?)
}

// What the attributes are in mount(2), which has relatime where neither of two is given.
const FLAGS: [(u64, MsFlags); 7] = [
    (MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY),
    (MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID),
    (MOUNT_ATTR_NODEV, MsFlags::MS_NODEV),
    (MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC),
    (MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME),
    (MOUNT_ATTR_STRICTATIME, MsFlags::MS_STRICTATIME),
    (MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
];

/// Unmounts whatever is mounted on a directory, lazily, the last mounted first; a symlink is not followed.
pub fn unmount_all(directory: &Path) {
    use nix::mount::{MntFlags, umount2};
    while umount2(directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
}

/// What [`set_attributes`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
    /// The user namespace whose mappings an idmapped mount gets.
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// Changes the attributes of a mount, and of those below it when `recursive` (mount_setattr(2)).
pub fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, attributes: Attributes<'_>) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    if let Some(fd) = attributes.user_namespace {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = fd.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty string; `attr` is an initialised mount_attr whose size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    done(result)
}

/// Makes a mount read-only.
pub fn make_read_only(mount: impl AsFd) -> io::Result<()> {
    set_attributes(mount.as_fd(), false, Attributes { set: MOUNT_ATTR_RDONLY, ..Attributes::default() })
}

/// Whether a file is one of proc.
pub fn is_on_proc(file: impl AsFd) -> io::Result<bool> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC)
}

/// The `MOUNT_ATTR_*` that the mount of a file has, be it of itself or of its file system (statvfs(3)).
pub fn attributes_of(file: impl AsFd) -> io::Result<u64> {
    // SAFETY: statvfs is plain integers, for which zero is valid.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is a statvfs that outlives the call, which fills it.
    let result = unsafe { libc::fstatvfs(file.as_fd().as_raw_fd(), &raw mut status) };
    done(result.into())?;
    // The kernel's ST_* are another numbering (linux/statfs.h).
    let table = [
        (0x1, MOUNT_ATTR_RDONLY),
        (0x2, MOUNT_ATTR_NOSUID),
        (0x4, MOUNT_ATTR_NODEV),
        (0x8, MOUNT_ATTR_NOEXEC),
        (0x400, MOUNT_ATTR_NOATIME),
        (0x800, MOUNT_ATTR_NODIRATIME),
        (0x2000, MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let flags = status.f_flag;
    let mut attributes = table.iter().filter(|(st, _)| flags & st != 0).fold(0, |all, (_, attr)| all | attr);
    const ST_RELATIME: u64 = 0x1000;
    if flags & ST_RELATIME == 0 && attributes & MOUNT_ATTR_NOATIME == 0 {
        attributes |= MOUNT_ATTR_STRICTATIME;
    }
    Ok(attributes)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
