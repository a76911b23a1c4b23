// SPDX-License-Identifier: Apache-2.0
//! Layers built entry by entry, applied, and the resulting trees compared as text.

mod compression;
mod hostile;
mod metadata;
mod overlay;
mod random;
mod sparse;
mod tree;
mod whiteouts;

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ctr_record::{Algorithm, Classify, ErrorKind};

use crate::{Applied, Error, Limits, Options, Stream, Target, apply, create_root};

const OVERLAY: Target = Target::Overlay { userxattr: false };

/// A directory of its own below the system's temporary one, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ctr-layer-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// An empty root for a layer.
    fn root(&self, name: &str) -> PathBuf {
        create_root(File::open(&self.0).unwrap(), name).unwrap();
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = File::open(self.0.parent().unwrap()).unwrap();
        let name = self.0.file_name().unwrap().as_encoded_bytes();
        ctr_sys::tree::remove(parent, name).unwrap();
    }
}

/// A layer under construction. What a header cannot say, and all hostile things, are set by hand.
#[derive(Clone, Default)]
struct Layer(Vec<u8>);

/// A header to be changed before it is added.
struct Header {
    block: ::tar::Header,
    pax: Vec<u8>,
    content: Vec<u8>,
}

impl Header {
    fn new(type_flag: u8, name: &str) -> Self {
        let mut block = ::tar::Header::new_ustar();
        block.as_old_mut().linkflag[0] = type_flag;
        block.set_mode(if type_flag == b'5' { 0o755 } else { 0o644 });
        block.set_uid(0);
        block.set_gid(0);
        block.set_size(0);
        block.set_mtime(1_600_000_000);
        let mut header = Self { block, pax: Vec::new(), content: Vec::new() };
        match name.len() {
            0..=100 => header.block.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes()),
            _ => header = header.pax("path", name.as_bytes()),
        }
        header
    }

    fn pax(mut self, key: &str, value: &[u8]) -> Self {
        let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        self.pax.extend_from_slice(length.to_string().as_bytes());
        self.pax.extend_from_slice(&rest);
        self
    }

    fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    fn target(mut self, target: &str) -> Self {
        match target.len() {
            0..=100 => self.block.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes()),
            _ => self = self.pax("linkpath", target.as_bytes()),
        }
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.block.set_size(content.len() as u64);
        self.content = content.to_vec();
        self
    }

    fn mode(mut self, mode: u32) -> Self {
        self.block.set_mode(mode);
        self
    }

    fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.block.set_uid(uid);
        self.block.set_gid(gid);
        self
    }

    fn mtime(mut self, seconds: u64) -> Self {
        self.block.set_mtime(seconds);
        self
    }

    fn device(mut self, major: u32, minor: u32) -> Self {
        self.block.set_device_major(major).unwrap();
        self.block.set_device_minor(minor).unwrap();
        self
    }
}

impl Layer {
    fn add(mut self, mut header: Header) -> Self {
        if !header.pax.is_empty() {
            let pax = Header::new(b'x', "PaxHeaders").content(&std::mem::take(&mut header.pax));
            self = self.add(pax);
        }
        header.block.set_cksum();
        self.0.extend_from_slice(header.block.as_bytes());
        self.0.extend_from_slice(&header.content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn dir(self, name: &str) -> Self {
        self.add(Header::new(b'5', name))
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(Header::new(b'0', name).content(content.as_bytes()))
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(Header::new(b'2', name).target(target))
    }

    fn hardlink(self, name: &str, target: &str) -> Self {
        self.add(Header::new(b'1', name).target(target))
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// Applies it to a directory, on top of others (topmost first).
    fn apply_on(self, root: &Path, lowers: &[&Path], target: Target) -> Result<Applied, Error> {
        apply_bytes(self.end(), root, lowers, target)
    }

    fn apply_to(self, root: &Path, target: Target) -> Result<Applied, Error> {
        self.apply_on(root, &[], target)
    }
}

fn apply_bytes(bytes: Vec<u8>, root: &Path, lowers: &[&Path], target: Target) -> Result<Applied, Error> {
    let stream = Stream::open(std::io::Cursor::new(bytes), Algorithm::Sha256, &Limits::default())?;
    let lowers: Vec<File> = lowers.iter().map(|path| File::open(path).unwrap()).collect();
    let lowers: Vec<BorrowedFd<'_>> = lowers.iter().map(AsFd::as_fd).collect();
    apply(stream, File::open(root).unwrap(), &Options { target, lowers: &lowers, diff_id: None })
}

/// The entries of a tree, a line each: type, path, and what tells one from another.
fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut lines);
    lines
}

fn walk(root: &Path, below: &Path, lines: &mut Vec<String>) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut names: Vec<_> = fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let on_disk = root.join(&path);
        let stat = fs::symlink_metadata(&on_disk).unwrap();
        let (shown, kind) = (path.display(), stat.file_type());
        lines.push(match kind {
            _ if kind.is_dir() => match opaque(&on_disk) {
                true => format!("{shown}/ opaque"),
                false => format!("{shown}/"),
            },
            _ if kind.is_symlink() => format!("{shown} -> {}", fs::read_link(&on_disk).unwrap().display()),
            _ if kind.is_file() => format!("{shown} = {}", String::from_utf8_lossy(&fs::read(&on_disk).unwrap())),
            _ if kind.is_fifo() => format!("{shown} fifo"),
            _ if kind.is_char_device() && stat.rdev() == 0 => format!("{shown} whiteout"),
            _ => format!("{shown} device {}:{}", stat.rdev() >> 8, stat.rdev() & 0xff),
        });
        if kind.is_dir() {
            walk(root, &path, lines);
        }
    }
}

fn opaque(directory: &Path) -> bool {
    let directory = File::open(directory).unwrap();
    ctr_sys::xattr::get(directory.as_fd(), b"trusted.overlay.opaque").unwrap().as_deref() == Some(b"y")
}

/// The failure's kind, and its chain as a tool prints it.
fn failure(result: Result<Applied, Error>) -> (ErrorKind, String) {
    let error = result.expect_err("the layer was applied");
    let mut line = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    (error.kind(), line)
}

fn invalid(result: Result<Applied, Error>) -> String {
    let (kind, line) = failure(result);
    assert_eq!(kind, ErrorKind::Invalid, "{line}");
    line
}

/// Devices, owners and trusted attributes are root's.
macro_rules! needs_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIP {}: needs root", std::thread::current().name().unwrap_or_default());
            return;
        }
    };
}
use needs_root;
