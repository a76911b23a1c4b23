// SPDX-License-Identifier: Apache-2.0
//! A directory tree as data, to compare two path by path.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ctr_record::Digest;

/// Everything that a layer says about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    /// The first of the paths that are hard links to one file.
    first_link: Option<PathBuf>,
    target: Option<PathBuf>,
    content: Option<Digest>,
    xattrs: Vec<String>,
}

/// A tree: its paths, relative to its root, and what is there.
#[derive(Clone, Debug, Default)]
pub struct Tree(pub BTreeMap<PathBuf, Node>);

impl Tree {
    /// Reads a tree.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut links = HashMap::new();
        let mut pending = vec![PathBuf::new()];
        // In order, so that the first of several links is the same one in each tree.
        while let Some(path) = pending.pop() {
            let node = Node::read(root, &path, &mut links)?;
            if node.kind == "directory" {
                let entries: io::Result<Vec<_>> = fs::read_dir(root.join(&path))?.collect();
                let mut names: Vec<_> = entries?.into_iter().map(|entry| path.join(entry.file_name())).collect();
                names.sort_unstable_by(|a, b| b.cmp(a));
                pending.extend(names);
            }
            tree.0.insert(path, node);
        }
        tree.read_xattrs(root)?;
        Ok(tree)
    }

    /// Where two trees differ, one line for each path.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differs = |path: &&PathBuf| self.0.get(*path) != other.0.get(*path);
        let describe =
            |path: &PathBuf| format!("{}: {:?} != {:?}", path.display(), self.0.get(path), other.0.get(path));
        paths.into_iter().filter(differs).map(describe).collect()
    }

    // getfattr prints a block per file: "# file: PATH", "NAME=0xHEX"…, and an empty line.
    fn read_xattrs(&mut self, root: &Path) -> io::Result<()> {
        let output = Command::new("getfattr")
            .args(["--recursive", "--no-dereference", "--dump", "--match=-", "--encoding=hex", "--absolute-names"])
            .arg(root)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for block in text.split("\n\n") {
            let mut lines = block.lines();
            let file = lines.next().and_then(|line| line.strip_prefix("# file: "));
            let path = file.and_then(|file| Path::new(file).strip_prefix(root).ok());
            if let Some(node) = path.and_then(|path| self.0.get_mut(path)) {
                node.xattrs = lines.map(str::to_owned).collect();
                node.xattrs.sort();
            }
        }
        Ok(())
    }
}

impl Node {
    /// Leaves out the extended attributes whose names begin so.
    pub fn forget_xattrs(&mut self, prefix: &str) {
        self.xattrs.retain(|xattr| !xattr.starts_with(prefix));
    }

    fn read(root: &Path, path: &Path, links: &mut HashMap<(u64, u64), PathBuf>) -> io::Result<Self> {
        let full = root.join(path);
        let metadata = fs::symlink_metadata(&full)?;
        let file_type = metadata.file_type();
        let kind = match file_type {
            t if t.is_dir() => "directory",
            t if t.is_file() => "file",
            t if t.is_symlink() => "symlink",
            t if t.is_char_device() => "character device",
            t if t.is_block_device() => "block device",
            t if t.is_fifo() => "fifo",
            _ => "socket",
        };
        let is_link = kind != "directory" && metadata.nlink() > 1;
        let first = || links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.to_owned()).clone();
        Ok(Self {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            device: metadata.rdev(),
            first_link: is_link.then(first),
            target: if kind == "symlink" { Some(fs::read_link(&full)?) } else { None },
            content: if kind == "file" { Some(Digest::of(&fs::read(&full)?)) } else { None },
            xattrs: Vec::new(),
        })
    }
}
