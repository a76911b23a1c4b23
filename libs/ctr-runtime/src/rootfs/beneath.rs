// SPDX-License-Identifier: Apache-2.0
//! Paths inside a container's root, resolved to descriptors and never again used as paths.
//!
//! Everything in the root is the image's, or already another container's that shares a volume: a
//! component may turn into a symlink at any time. openat2 resolves the whole path beneath the root in
//! one step; what follows is relative to the descriptor it returns (CVE-2021-30465, CVE-2024-45310).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
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
        match self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(path, Leaf::Directory),
            result => result,
        }
    }

    /// Opens a file to mount something on, and makes an empty one when it is missing.
    pub(crate) fn make_file(self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(path, Leaf::File),
            result => result,
        }
    }

    /// Makes what is missing of a path that leads nowhere yet.
    pub(crate) fn make(self, path: &Path, leaf: Leaf) -> io::Result<OwnedFd> {
        // Most often it is the last component alone.
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = self.open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)
            && let Some(made) = make_in(parent.as_fd(), name, leaf)?
        {
            return Ok(made);
        }
        self.make_each(path, leaf)
    }

    // A symlink that dangles leads to a place in the container that is made as well. Every name is looked up
    // in the descriptor of its own directory, and `..` leads back to the descriptor before.
    fn make_each(self, path: &Path, leaf: Leaf) -> io::Result<OwnedFd> {
        const MAX_SYMLINKS: u32 = 40;
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut symlinks = 0;
        let mut reached = vec![self.open(Path::new(""), OFlag::O_PATH | OFlag::O_DIRECTORY)?];
        let mut left = names_reversed(path);
        while let Some(name) = left.pop() {
            if name == ".." {
                reached.truncate(reached.len().saturating_sub(1).max(1));
                continue;
            }
            let at = reached.last().expect("the root is never left").as_fd();
            let kind = if left.is_empty() { leaf } else { Leaf::Directory };
            if let Some(made) = make_in(at, &name, kind)? {
                reached.push(made);
                continue;
            }
            // It is there already, or is by now.
            if let Ok(target) = readlinkat(at, name.as_os_str()) {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(Errno::ELOOP.into());
                }
                let target = PathBuf::from(target);
                if target.is_absolute() {
                    reached.truncate(1);
                }
                left.extend(names_reversed(&target));
                continue;
            }
            let flags = match kind {
                Leaf::Directory => directory,
                Leaf::File => OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            };
            reached.push(openat(at, name.as_os_str(), flags, Mode::empty())?);
        }
        Ok(reached.pop().expect("the root is never left"))
    }
}

/// What the last component of a path is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

// Makes a name in a directory; `None`: something of that name is there.
fn make_in(dir: BorrowedFd<'_>, name: &OsStr, kind: Leaf) -> io::Result<Option<OwnedFd>> {
    let (made, flags) = match kind {
        Leaf::Directory => (mkdirat(dir, name, Mode::from_bits_truncate(0o755)), OFlag::O_DIRECTORY),
        Leaf::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            (openat(dir, name, flags, Mode::from_bits_truncate(0o644)).map(drop), OFlag::empty())
        }
    };
    match made {
        Ok(()) => {
            let flags = flags | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            Ok(Some(openat(dir, name, flags, Mode::empty())?))
        }
        Err(Errno::EEXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn names_reversed(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
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
        symlink("../../../above", dir.join("root/up")).unwrap();
        fs::create_dir_all(dir.join("root/abs/olute")).unwrap();
        root.make_dir(Path::new("absolute/x/y")).unwrap();
        assert!(dir.join("root/abs/olute/x/y").is_dir());
        // What a dangling link leads to is made where the container sees it.
        root.make_dir(Path::new("up/x")).unwrap();
        assert!(!dir.join("above").exists() && !dir.parent().unwrap().join("above").exists());
        assert!(dir.join("root/above/x").is_dir());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_mount_point_behind_dangling_links_is_made() {
        let dir = scratch("dangling");
        let file = File::open(dir.join("root")).unwrap();
        let root = Root(file.as_fd());
        fs::create_dir(dir.join("root/etc")).unwrap();
        symlink("/tmp/foo/bar", dir.join("root/jump")).unwrap();
        symlink("/jump/./baz/../baz/hosts", dir.join("root/etc/hosts")).unwrap();
        root.make_file(Path::new("etc/hosts")).unwrap();
        assert!(dir.join("root/tmp/foo/bar/baz/hosts").is_file());
        symlink("loop", dir.join("root/loop")).unwrap();
        assert_eq!(root.make(Path::new("loop/x"), Leaf::Directory).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        fs::write(dir.join("root/file"), "").unwrap();
        assert!(root.make_dir(Path::new("file/x")).is_err() && root.make_dir(Path::new("file")).is_err());
        root.make_dir(Path::new("../../above")).unwrap();
        assert!(dir.join("root/above").is_dir() && !dir.join("above").exists());
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
