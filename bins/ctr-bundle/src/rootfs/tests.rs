// SPDX-License-Identifier: Apache-2.0
//! The merged view of layers, hostile ones among them.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::{makedev, mknod};
use nix::unistd::mkfifo;

use super::*;

/// Layers in a temporary directory, the uppermost last.
pub(crate) struct Layers {
    directory: PathBuf,
    layers: Vec<PathBuf>,
}

impl Layers {
    pub(crate) fn create(name: &str, count: usize) -> Self {
        let directory = std::env::temp_dir().join(format!("ctr-bundle-rootfs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let layers: Vec<PathBuf> = (0..count).map(|n| directory.join(n.to_string())).collect();
        for layer in &layers {
            fs::create_dir_all(layer).unwrap();
        }
        Self { directory, layers }
    }

    pub(crate) fn path(&self, layer: usize, path: &str) -> PathBuf {
        let path = self.layers[layer].join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn file(&self, layer: usize, path: &str, content: &str) -> &Self {
        fs::write(self.path(layer, path), content).unwrap();
        self
    }

    pub(crate) fn link(&self, layer: usize, path: &str, target: &str) -> &Self {
        symlink(target, self.path(layer, path)).unwrap();
        self
    }

    pub(crate) fn whiteout(&self, layer: usize, path: &str) -> &Self {
        let path = self.path(layer, path);
        if ctr_sys::process::is_root() {
            mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).unwrap();
        } else {
            let file = File::create(path).unwrap();
            xattr::set(file.as_fd(), b"user.overlay.whiteout", b"y").unwrap();
        }
        self
    }

    pub(crate) fn opaque(&self, layer: usize, path: &str) -> &Self {
        let path = self.path(layer, path);
        fs::create_dir_all(&path).unwrap();
        let name: &[u8] = if ctr_sys::process::is_root() { b"trusted.overlay.opaque" } else { b"user.overlay.opaque" };
        xattr::set(File::open(path).unwrap().as_fd(), name, b"y").unwrap();
        self
    }

    pub(crate) fn rootfs(&self) -> Rootfs {
        Rootfs::of(self.layers.iter().rev().cloned().collect())
    }

    fn read(&self, path: &str) -> Option<String> {
        self.rootfs().read(path, 1000).unwrap().map(|content| String::from_utf8(content).unwrap())
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn upper_layers_win_and_directories_merge() {
    let layers = Layers::create("merge", 3);
    layers.file(0, "etc/passwd", "low").file(0, "etc/group", "low").file(1, "etc/passwd", "high").file(2, "bin/sh", "");
    assert_eq!(layers.read("/etc/passwd").as_deref(), Some("high"));
    assert_eq!(layers.read("etc//./group").as_deref(), Some("low"));
    assert_eq!(layers.read("/etc/shadow"), None);
    assert_eq!(layers.read("/etc/passwd/x"), None);
    let Found::Directory(parts) = layers.rootfs().find("/etc").unwrap() else { panic!("no directory") };
    assert_eq!(parts, [layers.layers[1].join("etc"), layers.layers[0].join("etc")]);
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    let layers = Layers::create("whiteout", 4);
    layers.file(0, "etc/passwd", "low").file(0, "home/a/file", "low").file(0, "var/x", "low");
    layers.whiteout(1, "etc/passwd").whiteout(1, "home");
    assert_eq!(layers.read("/etc/passwd"), None);
    assert_eq!(layers.read("/home/a/file"), None);
    layers.file(2, "home/b", "new").opaque(2, "var");
    assert_eq!(layers.read("/home/b").as_deref(), Some("new"));
    assert_eq!(layers.read("/home/a/file"), None, "the whiteout in between ends the merge");
    assert_eq!(layers.read("/var/x"), None);
    layers.file(3, "var/y", "new");
    assert_eq!(layers.read("/var/x"), None, "an opaque directory hides from above it too");
    assert_eq!(layers.read("/var/y").as_deref(), Some("new"));
}

#[test]
fn a_directory_over_a_file_does_not_merge_with_what_is_under_that() {
    let layers = Layers::create("file-between", 3);
    layers.file(0, "a/x", "low").file(1, "a", "file").file(2, "a/y", "high");
    assert_eq!(layers.read("/a/x"), None);
    assert_eq!(layers.read("/a/y").as_deref(), Some("high"));
}

#[test]
fn links_stay_inside_the_root() {
    let layers = Layers::create("links", 2);
    layers.file(0, "usr/lib/passwd", "inside").file(0, "etc/real", "inside");
    layers.link(1, "etc/passwd", "../usr/lib/passwd").link(1, "etc/abs", "/usr/lib/passwd");
    layers.link(1, "etc/out", "../../../../../../etc/real").link(1, "lib", "usr/lib").link(1, "loop", "loop");
    layers.link(1, "etc/host", "/proc/self/exe").link(0, "up", "..");
    for path in ["/etc/passwd", "/etc/abs", "/etc/out", "/lib/passwd", "/../../lib/passwd", "/up/up/etc/real"] {
        assert_eq!(layers.read(path).as_deref(), Some("inside"), "{path}");
    }
    assert_eq!(layers.read("/etc/host"), None);
    assert!(layers.rootfs().read("/loop", 10).is_err());
}

// CVE-2024-9676: a fifo or a device as /etc/passwd.
#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let layers = Layers::create("special", 1);
    mkfifo(&layers.path(0, "etc/passwd"), Mode::S_IRWXU).unwrap();
    layers.link(0, "etc/link", "passwd").file(0, "etc/big", "12345678901");
    for path in ["/etc/passwd", "/etc/link", "/etc"] {
        let error = layers.rootfs().read(path, 10).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file", "{path}");
    }
    assert_eq!(layers.rootfs().read("/etc/big", 10).unwrap_err().to_string(), "larger than 10 bytes");
    assert!(layers.rootfs().read("/etc/big", 11).is_ok());
}

#[test]
fn paths_are_cleaned() {
    for (path, cleaned) in [("", "/"), ("a/b/", "/a/b"), ("/../../etc//x/./..", "/etc"), ("/..", "/")] {
        assert_eq!(clean(path), cleaned);
    }
    assert!(is_below("/dev/pts", "/dev") && is_below("/dev", "/dev") && !is_below("/devices", "/dev"));
}
