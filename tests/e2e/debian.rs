// SPDX-License-Identifier: Apache-2.0
//! A real tree, made by debootstrap: what we unpack of it is what umoci unpacks, path by path.

use ctr_tests::layer::Entry;
use ctr_tests::tree::Tree;
use ctr_tests::{Image, Layer, Mounted, Need, World, need};

/// The Debian tree, and a layer on top that changes some of it.
fn debian() -> Image {
    let tar = std::fs::read(ctr_tests::need::debian_tree()).unwrap();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let changes = Layer::new()
        .whiteout("usr/share/doc")
        .whiteout("etc/motd")
        .dir("var/cache")
        .opaque("var/cache")
        .file("var/cache/new", "")
        .with(Entry::file("usr/bin/raw", "x").mode(0o755).xattr("security.capability", &capability))
        .hardlink("usr/bin/raw2", "usr/bin/raw")
        .with(Entry::file("etc/hostname", "changed\n").mode(0o600).owner(1, 2));
    Image::new([Layer::from_tar(tar), changes])
}

#[test]
fn is_unpacked_as_umoci_does_it() {
    need!(Need::Root, Need::DebianTree, Need::Program("umoci"), Need::Program("getfattr"));
    let world = World::create();
    let reference = world.layout("debian", &debian());
    let pulled = world.tool("ctr-pull").arg(&reference).run().success().stdout;
    let unpacked = world.tool("ctr-unpack").stdin(pulled.clone()).run().success().json();
    let flat = world.dir().join("flat");
    world.tool("ctr-unpack").arg("--to").arg(&flat).stdin(pulled).run().success();
    let bundle = world.dir().join("umoci");
    let image = reference.strip_prefix("oci:").unwrap();
    world.program("umoci").args(["unpack", "--image", image]).arg(&bundle).run().success();

    let umoci = Tree::read(&bundle.join("rootfs")).unwrap();
    assert!(umoci.0.len() > 5000, "{}", umoci.0.len());
    let flat = Tree::read(&flat).unwrap();
    assert_eq!(flat.differences(&umoci), Vec::<String>::new(), "the flattened directory");
    let root = Mounted::at(&world, "root", &unpacked["snapshot"]["mounts"]);
    let mut stack = Tree::read(root.path()).unwrap();
    for node in stack.0.values_mut() {
        node.forget_xattrs("trusted.overlay.");
    }
    assert_eq!(stack.differences(&umoci), Vec::<String>::new(), "the mounted snapshot");
}

#[test]
fn runs_as_a_container() {
    need!(Need::Root, Need::DebianTree);
    let world = World::create();
    let reference = world.layout("debian", &debian());
    let script = format!(
        "ctr-pull {reference} | ctr-unpack | ctr-bundle --id {} -- dpkg --get-selections bash | ctr-run",
        world.id("debian")
    );
    let ran = world.sh(&script).run().success();
    assert_eq!(ran.stdout.split_whitespace().collect::<Vec<_>>(), ["bash", "install"]);
}
