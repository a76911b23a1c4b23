// SPDX-License-Identifier: Apache-2.0
//! Layers made entry by entry, honest or hostile: a small writer of tar streams.
//!
//! It writes what it is told, `../` and repeated names included. Long names, extended attributes and
//! fractions of seconds become PAX records.

use std::io::Write;

use ctr_record::{DiffId, Digest};

const BLOCK: usize = 512;

/// The modification time of every entry that is not told otherwise: 2001-09-09T01:46:40Z.
pub const MTIME: u64 = 1_000_000_000;

/// How a layer's blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// A layer under construction: a tar stream, and how it is to be compressed.
#[derive(Clone, Debug)]
pub struct Layer {
    tar: Vec<u8>,
    compression: Compression,
}

/// One entry of a tar stream, with the values that most entries have.
#[derive(Clone, Debug)]
pub struct Entry {
    name: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    mtime: u64,
    link: Vec<u8>,
    device: (u32, u32),
    content: Vec<u8>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    fn new(kind: u8, name: &str, mode: u32) -> Self {
        Self {
            name: name.into(),
            kind,
            mode,
            owner: (0, 0),
            mtime: MTIME,
            link: Vec::new(),
            device: (0, 0),
            content: Vec::new(),
            pax: Vec::new(),
        }
    }

    /// A regular file.
    pub fn file(name: &str, content: impl AsRef<[u8]>) -> Self {
        Self { content: content.as_ref().to_vec(), ..Self::new(b'0', name, 0o644) }
    }

    /// A directory.
    pub fn dir(name: &str) -> Self {
        Self::new(b'5', &format!("{}/", name.trim_end_matches('/')), 0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: &str, target: &str) -> Self {
        Self { link: target.into(), ..Self::new(b'2', name, 0o777) }
    }

    /// A hard link to an earlier entry.
    pub fn hardlink(name: &str, target: &str) -> Self {
        Self { link: target.into(), ..Self::new(b'1', name, 0o644) }
    }

    /// A character device.
    pub fn char_device(name: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(b'3', name, 0o600) }
    }

    /// A named pipe.
    pub fn fifo(name: &str) -> Self {
        Self::new(b'6', name, 0o644)
    }

    /// Sets the permission bits, setuid and its like included.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Sets the owner and group.
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    /// Sets the modification time, in seconds since 1970.
    pub fn mtime(self, seconds: u64) -> Self {
        Self { mtime: seconds, ..self }
    }

    /// Adds an extended attribute.
    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Adds a PAX record.
    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.into(), value.into()));
        self
    }

    fn write(mut self, tar: &mut Vec<u8>) {
        if self.name.len() > 100 {
            self.pax.push((b"path".into(), self.name.clone()));
            self.name.truncate(100);
        }
        if self.link.len() > 100 {
            self.pax.push((b"linkpath".into(), self.link.clone()));
            self.link.truncate(100);
        }
        if !self.pax.is_empty() {
            let mut records = Vec::new();
            for (key, value) in &self.pax {
                records.extend(pax_record(key, value));
            }
            Self { content: records, ..Self::new(b'x', "PaxHeaders", 0o644) }.write(tar);
        }
        tar.extend(self.header());
        tar.extend(&self.content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }

    fn header(&self) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, &octal(u64::from(self.mode), 8));
        put(108, &octal(u64::from(self.owner.0), 8));
        put(116, &octal(u64::from(self.owner.1), 8));
        put(124, &octal(self.content.len() as u64, 12));
        put(136, &octal(self.mtime, 12));
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        put(329, &octal(u64::from(self.device.0), 8));
        put(337, &octal(u64::from(self.device.1), 8));
        let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
        header[148..156].copy_from_slice(&octal(sum, 8));
        header
    }
}

// Digits and a NUL, `width` bytes in all.
fn octal(value: u64, width: usize) -> Vec<u8> {
    let mut field = format!("{value:0digits$o}", digits = width - 1).into_bytes();
    assert!(field.len() < width, "{value} does not fit an octal field");
    field.push(0);
    field
}

// "LENGTH KEY=VALUE\n", where LENGTH counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// An empty layer, to be compressed by gzip.
    pub fn new() -> Self {
        Self { tar: Vec::new(), compression: Compression::Gzip }
    }

    /// A layer whose tar stream exists already.
    pub fn from_tar(tar: Vec<u8>) -> Self {
        Self { tar, compression: Compression::Gzip }
    }

    /// Adds an entry.
    pub fn with(mut self, entry: Entry) -> Self {
        entry.write(&mut self.tar);
        self
    }

    /// Adds a directory.
    pub fn dir(self, name: &str) -> Self {
        self.with(Entry::dir(name))
    }

    /// Adds a regular file, 0644.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.with(Entry::file(name, content))
    }

    /// Adds an executable file, 0755.
    pub fn program(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.with(Entry::file(name, content).mode(0o755))
    }

    /// Adds a symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.with(Entry::symlink(name, target))
    }

    /// Adds a hard link.
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.with(Entry::hardlink(name, target))
    }

    /// Adds a whiteout: removes `name` of the layers below.
    pub fn whiteout(self, name: &str) -> Self {
        let (dir, base) = name.rsplit_once('/').map_or(("", name), |(dir, base)| (dir, base));
        let slash = if dir.is_empty() { "" } else { "/" };
        self.file(&format!("{dir}{slash}.wh.{base}"), b"")
    }

    /// Adds an opaque marker: hides what the layers below have in `dir`.
    pub fn opaque(self, dir: &str) -> Self {
        self.file(&format!("{dir}/.wh..wh..opq"), b"")
    }

    /// Sets the compression of the blob.
    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// The finished tar stream.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        if !tar.ends_with(&[0; 2 * BLOCK]) {
            tar.resize(tar.len() + 2 * BLOCK, 0);
        }
        tar
    }

    /// The digest of the finished tar stream.
    pub fn diff_id(&self) -> DiffId {
        DiffId(Digest::of(&self.tar()))
    }

    /// The blob: the tar stream, compressed.
    pub fn blob(&self) -> Vec<u8> {
        match self.compression {
            Compression::None => self.tar(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&self.tar()).and_then(|()| encoder.finish()).expect("writing to memory")
            }
            Compression::Zstd => zstd::encode_all(&self.tar()[..], 1).expect("writing to memory"),
        }
    }

    /// The blob's media type, OCI's.
    pub fn media_type(&self) -> &'static str {
        match self.compression {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}
