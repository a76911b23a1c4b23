// SPDX-License-Identifier: Apache-2.0
//! `tmpcopyup`, an extension of runc's: a tmpfs begins with what it covers.
//!
//! All of it is the image's. Nothing is followed: every name is looked up in the descriptor of its own
//! directory, and a symlink is copied as one.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

/// Deeper than anything that is put on a tmpfs, and not so deep that descriptors run out.
const MAX_DEPTH: usize = 128;

/// Copies a directory's entries, and its own owner and mode, to another directory.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    copy_dir(from, to, 0)
}

fn copy_dir(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::ELOOP.into());
    }
    let mut entries = Dir::openat(from, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            copy_entry(from, to, entry.file_name(), depth)?;
        }
    }
    let status = fstat(from)?;
    let to = openat(to, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    own(to.as_fd(), &status)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let status = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    let open = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let flags = open | OFlag::O_PATH | OFlag::O_DIRECTORY;
            let (from, to) = (openat(from, name, flags, Mode::empty())?, openat(to, name, flags, Mode::empty())?);
            copy_dir(from.as_fd(), to.as_fd(), depth + 1)
        }
        SFlag::S_IFREG => {
            // Not to wait, should it have become a FIFO.
            let mut source = File::from(openat(from, name, open | OFlag::O_NONBLOCK, Mode::empty())?);
            let flags = open | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let mut target = File::from(openat(to, name, flags, Mode::S_IRWXU)?);
            io::copy(&mut source, &mut target)?;
            own(target.as_fd(), &status)
        }
        SFlag::S_IFLNK => {
            symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
            Ok(fchownat(to, name, owner(&status).0, owner(&status).1, AtFlags::AT_SYMLINK_NOFOLLOW)?)
        }
        _ => {
            mknodat(to, name, kind, Mode::from_bits_truncate(status.st_mode), status.st_rdev)?;
            Ok(fchownat(to, name, owner(&status).0, owner(&status).1, AtFlags::AT_SYMLINK_NOFOLLOW)?)
        }
    }
}

// The owner first: a change of it clears setuid bits.
fn own(fd: BorrowedFd<'_>, status: &FileStat) -> io::Result<()> {
    fchown(fd, owner(status).0, owner(status).1)?;
    Ok(fchmod(fd, Mode::from_bits_truncate(status.st_mode))?)
}

fn owner(status: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_are_copied_and_not_followed() {
        let dir = std::env::temp_dir().join(format!("ctr-copy-up-{}", std::process::id()));
        for name in ["from/sub/deep", "to", "outside"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("outside/secret"), "secret").unwrap();
        fs::write(dir.join("from/sub/file"), "content").unwrap();
        fs::set_permissions(dir.join("from/sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(dir.join("from"), fs::Permissions::from_mode(0o1730)).unwrap();
        symlink("../outside", dir.join("from/link")).unwrap();
        nix::unistd::mkfifo(&dir.join("from/fifo"), Mode::S_IRWXU).unwrap();
        let open = |name: &str| File::open(dir.join(name)).unwrap();
        copy(open("from").as_fd(), open("to").as_fd()).unwrap();
        let mode = |name: &str| fs::symlink_metadata(dir.join(name)).unwrap().permissions().mode();
        assert_eq!(fs::read(dir.join("to/sub/file")).unwrap(), b"content");
        assert_eq!((mode("to/sub/file") & 0o7777, mode("to") & 0o7777), (0o4751, 0o1730));
        assert_eq!(fs::read_link(dir.join("to/link")).unwrap(), std::path::Path::new("../outside"));
        assert!(dir.join("to/sub/deep").is_dir() && mode("to/fifo") & 0o170_000 == 0o010_000);
        assert_eq!(fs::read_dir(dir.join("outside")).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
