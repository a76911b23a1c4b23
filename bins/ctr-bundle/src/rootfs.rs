// SPDX-License-Identifier: Apache-2.0
//! Looks into a root file system without mounting it: through the layers of an overlay, as overlay would.
//!
//! The tree is an image's and may be hostile. Paths are walked one name at a time, by descriptor; symbolic
//! links are read and followed here, inside the root, so that nothing ever leads out of the layers
//! (CVE-2022-23648, CVE-2024-9676). `..` above the root is the root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ctr_sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, major, minor};

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// A root file system that is a stack of directories, the uppermost first.
#[derive(Debug)]
pub(crate) struct Rootfs {
    layers: Vec<PathBuf>,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A directory: those of the layers that make it up, the uppermost first.
    Directory(Vec<PathBuf>),
    /// A regular file, open.
    File(File),
    /// Something else: a device, a fifo, a socket.
    Special,
}

/// A directory of the merged tree: the layers' directories of that name, the uppermost first.
type Merged = Vec<(OwnedFd, PathBuf)>;

/// One name in a merged directory.
enum Entry {
    Nothing,
    Directory(Merged),
    Link(OsString),
    File(File),
    Special,
}

impl Rootfs {
    /// The root file system that these directories make up, the uppermost first.
    pub(crate) fn of(layers: Vec<PathBuf>) -> Self {
        Self { layers }
    }

    /// The content of a regular file; `None` when there is nothing of that name.
    pub(crate) fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        match self.find(path)? {
            Found::Nothing => Ok(None),
            Found::File(file) => {
                let size = file.metadata()?.len().min(limit) as usize;
                let mut content = Vec::with_capacity(size + 1);
                file.take(limit + 1).read_to_end(&mut content)?;
                match content.len() as u64 > limit {
                    true => Err(invalid(format!("larger than {limit} bytes"))),
                    false => Ok(Some(content)),
                }
            }
            Found::Directory(_) | Found::Special => Err(invalid("not a regular file".to_owned())),
        }
    }

    /// Follows a path from the root, links included.
    pub(crate) fn find(&self, path: &str) -> io::Result<Found> {
        let mut above: Vec<Merged> = vec![self.root()?];
        let mut names: VecDeque<OsString> = components(OsStr::new(path)).collect();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                above.truncate(above.len().saturating_sub(1).max(1));
                continue;
            }
            let here = above.last().expect("the root stays");
            match lookup(here, &name)? {
                Entry::Nothing => return Ok(Found::Nothing),
                Entry::Directory(directory) => above.push(directory),
                Entry::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    if target.as_bytes().starts_with(b"/") {
                        above.truncate(1);
                    }
                    for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        names.push_front(name);
                    }
                }
                Entry::File(file) if names.is_empty() => return Ok(Found::File(file)),
                Entry::Special if names.is_empty() => return Ok(Found::Special),
                Entry::File(_) | Entry::Special => return Ok(Found::Nothing),
            }
        }
        let directory = above.pop().expect("the root stays");
        Ok(Found::Directory(directory.into_iter().map(|(_, path)| path).collect()))
    }

    fn root(&self) -> io::Result<Merged> {
        let open = |path: &PathBuf| match File::open(path) {
            Ok(directory) => Ok((directory.into(), path.clone())),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        self.layers.iter().map(open).collect()
    }
}

fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    let names = path.as_bytes().split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.map(|name| OsStr::from_bytes(name).to_owned())
}

// Overlay's rules: the uppermost entry decides; directories of one name are merged, down to one that is
// opaque, or to an entry that is no directory.
fn lookup(directory: &Merged, name: &OsStr) -> io::Result<Entry> {
    let mut merged = Merged::new();
    for (layer, path) in directory {
        let stat = match fstatat(layer, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFDIR {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let child = openat(layer, name, flags, Mode::empty())?;
            let opaque = is_opaque(&child)?;
            merged.push((child, path.join(name)));
            if opaque {
                break;
            }
            continue;
        }
        if !merged.is_empty() {
            break;
        }
        return entry(layer, name, &stat, kind);
    }
    match merged.is_empty() {
        true => Ok(Entry::Nothing),
        false => Ok(Entry::Directory(merged)),
    }
}

fn entry(layer: &OwnedFd, name: &OsStr, stat: &FileStat, kind: SFlag) -> io::Result<Entry> {
    if kind == SFlag::S_IFLNK {
        return Ok(Entry::Link(readlinkat(layer, name)?));
    }
    if kind == SFlag::S_IFCHR && (major(stat.st_rdev), minor(stat.st_rdev)) == (0, 0) {
        return Ok(Entry::Nothing); // a whiteout
    }
    if kind != SFlag::S_IFREG {
        return Ok(Entry::Special);
    }
    // O_NONBLOCK: should it be a fifo by now, opening must not wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(layer, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    match metadata.is_file() {
        // The form of whiteout that needs no privilege.
        true if metadata.len() == 0 && has_mark(&file, "whiteout")? => Ok(Entry::Nothing),
        true => Ok(Entry::File(file)),
        false => Ok(Entry::Special),
    }
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    for attribute in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        if attribute_of(directory, attribute)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_mark(file: &impl AsFd, name: &str) -> io::Result<bool> {
    Ok(attribute_of(file, &format!("trusted.overlay.{name}"))?.is_some()
        || attribute_of(file, &format!("user.overlay.{name}"))?.is_some())
}

fn attribute_of(file: &impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    match xattr::get(file.as_fd(), name.as_bytes()) {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(None),
        value => value,
    }
}

/// A path without `.`, `..` and doubled slashes, as if no part of it were a link; always absolute.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `path` is `directory` or below it; both are clean.
pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    Path::new(path).starts_with(directory)
}

#[cfg(test)]
pub(crate) mod tests;
