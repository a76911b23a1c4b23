// SPDX-License-Identifier: Apache-2.0
//! Owner, permissions and times, in the order that keeps them: changing the owner takes setuid bits and
//! capabilities away, so that both follow it; times come last.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ctr_sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::directory::{Directory, mtime};
use super::{Applier, DIRECTORY, xattr as policy};
use crate::entry::{Entry, Kind, Time};
use crate::error::Fault;

/// Permission bits with setuid, setgid and sticky.
const MODE_BITS: u32 = 0o7777;

/// Makes an empty directory for a layer in `parent`: as image directories are that no layer describes,
/// 0755, root's, of 1970, and without what it would inherit from its place on this host.
pub fn create_root(parent: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    mkdirat(parent.as_fd(), name, Mode::S_IRWXU)?;
    let root = openat(parent.as_fd(), name, DIRECTORY, Mode::empty())?;
    // A default ACL would be passed on to everything below.
    for acl in [&b"system.posix_acl_default"[..], b"system.posix_acl_access"] {
        match xattr::remove(root.as_fd(), acl) {
            Err(error) if policy::errno(&error) != Errno::EOPNOTSUPP => return Err(error),
            _ => {}
        }
    }
    undescribed(root.as_fd())?;
    Ok(root)
}

/// Gives a directory the metadata of one that no layer describes.
pub(super) fn undescribed(directory: BorrowedFd<'_>) -> nix::Result<()> {
    fchown(directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    fchmod(directory, Mode::from_bits_truncate(0o755))?;
    let epoch = TimeSpec::new(0, 0);
    futimens(directory, &epoch, &epoch)
}

fn times(entry: &Entry) -> (TimeSpec, TimeSpec) {
    let spec = |time: Time| TimeSpec::new(time.seconds, time.nanoseconds.into());
    (spec(entry.atime.unwrap_or(entry.mtime)), spec(entry.mtime))
}

impl Applier<'_> {
    /// Gives a new regular file or a directory what its entry says of it.
    pub(super) fn describe(&mut self, inode: BorrowedFd<'_>, entry: &Entry) -> Result<(), Fault> {
        let stat = fstat(inode).map_err(Fault::io("look at it"))?;
        if stat.st_uid != entry.uid || stat.st_gid != entry.gid {
            let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            fchown(inode, owner.0, owner.1).map_err(not_given(entry))?;
        }
        self.set_xattrs(inode, &entry.name, &entry.xattrs)?;
        // The new owner may have cost setuid bits, which a stat from before does not tell.
        if stat.st_mode & MODE_BITS != entry.mode || entry.mode & 0o6000 != 0 {
            fchmod(inode, Mode::from_bits_truncate(entry.mode)).map_err(Fault::io("set its mode"))?;
        }
        let (atime, mtime) = times(entry);
        futimens(inode, &atime, &mtime).map_err(Fault::io("set its times"))
    }

    /// The same for what has no descriptor of its own: symlinks, devices, fifos. None is followed.
    pub(super) fn describe_at(&mut self, dir: &Directory, name: &[u8], entry: &Entry) -> Result<(), Fault> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(not_given(entry))?;
        if !entry.xattrs.is_empty() {
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
            let inode = openat(dir, name, flags, Mode::empty()).map_err(Fault::io("open it"))?;
            self.set_xattrs(inode.as_fd(), &entry.name, &entry.xattrs)?;
        }
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            let mode = Mode::from_bits_truncate(entry.mode);
            fchmodat(dir, name, mode, FchmodatFlags::NoFollowSymlink).map_err(Fault::io("set its mode"))?;
        }
        let (atime, mtime) = times(entry);
        utimensat(dir, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink).map_err(Fault::io("set its times"))
    }

    /// A directory that was there before takes the entry's metadata, and none of its own remains.
    pub(super) fn merge_directory(&mut self, directory: BorrowedFd<'_>, entry: &Entry) -> Result<(), Fault> {
        self.clear_xattrs(directory)?;
        self.describe(directory, entry)
    }

    /// What a layer does not say of its root is as in the layer below.
    pub(super) fn copy_root(&self, lower: BorrowedFd<'_>) -> nix::Result<()> {
        self.copy_directory(lower, self.root)
    }

    /// Gives a directory that a layer implies the metadata of the one in the layers below.
    pub(super) fn copy_directory(&self, lower: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
        let stat = fstat(lower)?;
        fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        policy::copy(self.xattrs, lower, to).map_err(|error| policy::errno(&error))?;
        fchmod(to, Mode::from_bits_truncate(stat.st_mode & MODE_BITS))?;
        let atime = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
        futimens(to, &atime, &mtime(&stat))
    }
}

fn not_given(entry: &Entry) -> impl FnOnce(Errno) -> Fault {
    let (uid, gid) = (entry.uid, entry.gid);
    move |errno| Fault::Owner { uid, gid, source: errno.into() }
}
