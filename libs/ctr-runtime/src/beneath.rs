// SPDX-License-Identifier: Apache-2.0
//! Paths inside a container's root, resolved to descriptors and never again used as paths.
//!
//! Everything in the root is the image's, or already another container's that shares a volume: a
//! component may turn into a symlink at any time. openat2 resolves the whole path beneath the root in
//! one step; what follows is relative to the descriptor it returns (CVE-2021-30465, CVE-2024-45310).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// A container's root directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root<'a>(pub(crate) BorrowedFd<'a>);

impl Root<'_> {
    /// Opens what a path leads to, symlinks taken as the container sees them.
    pub(crate) fn open(self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        self.open_how(path, flags, ResolveFlag::empty())
    }

    /// Opens a path that must not lead through any symlink (CVE-2023-27561, CVE-2026-41579).
    pub(crate) fn open_plain(self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        self.open_how(path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn open_how(self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match openat2(self.0, path, how) {
                // A rename somewhere raced with a `..`, and the kernel could not be sure.
                Err(Errno::EAGAIN) => {}
                result => return result.map_err(io::Error::from),
            }
        }
    }

    /// Opens a directory, and makes what is missing of it, mode 0755.
    pub(crate) fn make_dir(self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.open(path, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut reached = PathBuf::new();
        let mut at = self.open(&reached, flags)?;
        for component in path.components() {
            reached.push(component);
            at = match self.open(&reached, flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(&at, Path::new(component.as_os_str()), Mode::from_bits_truncate(0o755)) {
                        Ok(()) | Err(Errno::EEXIST) => self.open(&reached, flags)?,
                        Err(errno) => return Err(errno.into()),
                    }
                }
                result => result?,
            };
        }
        Ok(at)
    }

    /// Opens a file to mount something on, and makes an empty one when it is missing.
    pub(crate) fn make_file(self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.make_dir(path.parent().unwrap_or(Path::new("")))?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&parent, name, flags, Mode::from_bits_truncate(0o644)) {
            Ok(_) | Err(Errno::EEXIST) => self.open(path, OFlag::O_PATH),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether a descriptor refers to a directory.
pub(crate) fn is_dir(fd: impl AsFd) -> io::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ctr-beneath-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("root")).unwrap();
        dir
    }

    #[test]
    fn cve_2024_45310_nothing_is_made_outside_the_root() {
        let dir = scratch("outside");
        let file = File::open(dir.join("root")).unwrap();
        let root = Root(file.as_fd());
        symlink("/abs/olute", dir.join("root/absolute")).unwrap();
        symlink("../../../up", dir.join("root/up")).unwrap();
        fs::create_dir_all(dir.join("root/abs/olute")).unwrap();
        root.make_dir(Path::new("absolute/x/y")).unwrap();
        assert!(dir.join("root/abs/olute/x/y").is_dir());
        // A dangling link is not followed to make its target.
        assert!(root.make_dir(Path::new("up/x")).is_err());
        assert!(root.make_file(Path::new("up")).is_err());
        assert!(!dir.join("up").exists() && !dir.parent().unwrap().join("up").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_plain_path_has_no_symlinks() {
        let dir = scratch("plain");
        let file = File::open(dir.join("root")).unwrap();
        let root = Root(file.as_fd());
        symlink("/etc", dir.join("root/proc")).unwrap();
        assert!(root.open_plain(Path::new("proc"), OFlag::O_PATH).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
