// SPDX-License-Identifier: Apache-2.0
//! Owners, modes, times and extended attributes.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::*;

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let flags = nix::libc::O_PATH | nix::libc::O_NOFOLLOW;
    let inode = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
    ctr_sys::xattr::get(inode.as_fd(), name.as_bytes()).unwrap()
}

fn shown(path: &Path) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let (mtime, nanoseconds) = (stat.mtime(), stat.mtime_nsec());
    format!("{:o} {}:{} {mtime}.{nanoseconds:09}", stat.mode() & 0o7777, stat.uid(), stat.gid())
}

#[test]
fn owners_modes_and_times_are_as_the_layer_says() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .add(Header::new(b'5', "./").mode(0o700).owner(3, 4).mtime(5))
        .add(Header::new(b'5', "d").mode(0o3777).owner(1000, 2000).mtime(1_234_567_890))
        .add(Header::new(b'0', "d/suid").mode(0o6755).owner(33, 44).content(b"#!"))
        .add(Header::new(b'0', "d/open").mode(0o666).mtime(0))
        .add(Header::new(b'0', "d/none").mode(0))
        .add(Header::new(b'2', "d/link").target("x").owner(5, 6).mtime(77))
        .add(Header::new(b'6', "d/fifo").mode(0o622).owner(7, 8).mtime(99))
        .add(Header::new(b'3', "d/null").mode(0o666).owner(9, 10).device(1, 3))
        .apply_to(&root, OVERLAY)
        .unwrap();
    for (name, expected) in [
        ("", "700 3:4 5.000000000"),
        ("d", "3777 1000:2000 1234567890.000000000"),
        ("d/suid", "6755 33:44 1600000000.000000000"),
        ("d/open", "666 0:0 0.000000000"),
        ("d/none", "0 0:0 1600000000.000000000"),
        ("d/link", "777 5:6 77.000000000"),
        ("d/fifo", "622 7:8 99.000000000"),
        ("d/null", "666 9:10 1600000000.000000000"),
    ] {
        assert_eq!(shown(&root.join(name)), expected, "{name}");
    }
}

#[test]
fn a_setgid_directory_gives_nothing_to_what_is_made_in_it() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .add(Header::new(b'5', "d").mode(0o2755).owner(0, 50))
        .dir("d/sub")
        .file("d/file", "")
        .apply_to(&root, OVERLAY)
        .unwrap();
    assert_eq!(shown(&root.join("d/sub")), "755 0:0 1600000000.000000000");
    assert_eq!(shown(&root.join("d/file")), "644 0:0 1600000000.000000000");
}

#[test]
fn directories_keep_their_times_whatever_is_done_in_them() {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .add(Header::new(b'5', "./").mtime(1))
        .add(Header::new(b'5', "a").mtime(2))
        .add(Header::new(b'5', "a/b").mtime(3))
        .file("a/b/f", "")
        .file("a/g", "")
        .file("h", "")
        .file("a/b/f", "again")
        .hardlink("a/i", "a/b/f")
        .symlink("a/j", "b")
        .file("a/j/k", "")
        .file(".wh.l", "")
        .file("a/.wh.g", "")
        .dir("a/new")
        .apply_to(&root, OVERLAY)
        .unwrap();
    for (name, mtime) in [("", 1), ("a", 2), ("a/b", 3)] {
        assert_eq!(fs::metadata(root.join(name)).unwrap().mtime(), mtime, "{name}");
    }
}

#[test]
fn a_directory_that_comes_after_its_content_has_the_last_word() {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .file("a/f", "")
        .add(Header::new(b'5', "a").mode(0o711).mtime(9))
        .add(Header::new(b'5', ".").mtime(8))
        .apply_to(&root, OVERLAY)
        .unwrap();
    assert_eq!(shown(&root.join("a")), "711 0:0 9.000000000");
    assert_eq!(fs::metadata(&root).unwrap().mtime(), 8);
}

#[test]
fn pax_overrides_the_header() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .add(
            Header::new(b'0', "short")
                .pax("path", b"long/er")
                .pax("uid", b"4000000000")
                .pax("gid", b"3000000")
                .pax("mtime", b"1500000000.123456789")
                .pax("atime", b"1400000000.5")
                .pax("SCHILY.unknown", b"ignored")
                .content(b"x"),
        )
        .add(Header::new(b'0', "ancient").pax("mtime", b"-1.5"))
        .apply_to(&root, OVERLAY)
        .unwrap();
    assert_eq!(shown(&root.join("long/er")), "644 4000000000:3000000 1500000000.123456789");
    let stat = fs::metadata(root.join("long/er")).unwrap();
    assert_eq!((stat.atime(), stat.atime_nsec()), (1_400_000_000, 500_000_000));
    assert_eq!(shown(&root.join("ancient")), "644 0:0 0.000000000");
}

#[test]
fn large_ids_in_base_256_are_read() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default().add(Header::new(b'0', "f").owner(3_000_000, 4_000_000_000)).apply_to(&root, OVERLAY).unwrap();
    assert_eq!(shown(&root.join("f")), "644 3000000:4000000000 1600000000.000000000");
}

#[test]
fn ids_that_are_none_are_invalid() {
    let scratch = Scratch::create();
    for (i, bad) in ["-1", "4294967295", "4294967296"].iter().enumerate() {
        let layer = Layer::default().add(Header::new(b'0', "f").pax("uid", bad.as_bytes()));
        let line = invalid(layer.apply_to(&scratch.root(&format!("r{i}")), OVERLAY));
        assert_eq!(line, format!(r#"entry "f": the uid {bad} is out of range"#));
    }
}

#[test]
fn device_numbers_that_linux_cannot_hold_are_invalid() {
    let scratch = Scratch::create();
    for (i, (major, minor)) in [(4096, 0), (0, 1 << 20)].iter().enumerate() {
        let layer = Layer::default().add(Header::new(b'3', "c").device(*major, *minor));
        let line = invalid(layer.apply_to(&scratch.root(&format!("r{i}")), OVERLAY));
        assert!(line.starts_with(r#"entry "c": the device m"#) && line.ends_with(" is out of range"), "{line}");
    }
}

#[test]
fn file_capabilities_survive_the_change_of_owner() {
    needs_root!();
    // cap_net_raw=ep, version 2
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .add(
            Header::new(b'0', "ping")
                .mode(0o4755)
                .owner(12, 34)
                .xattr("security.capability", capability)
                .content(b"elf"),
        )
        .apply_to(&root, OVERLAY)
        .unwrap();
    assert_eq!(xattr(&root.join("ping"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(shown(&root.join("ping")), "4755 12:34 1600000000.000000000");
}

#[test]
fn attributes_may_hold_any_byte_and_go_where_they_can() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    let applied = Layer::default()
        .add(Header::new(b'0', "f").xattr("user.a", b"x\n\0=y").xattr("user.empty", b""))
        .add(Header::new(b'5', "d").xattr("user.a", b"1"))
        .add(Header::new(b'2', "s").target("f").xattr("user.a", b"not possible"))
        .add(Header::new(b'0', "host").xattr("security.selinux", b"l").xattr("trusted.x", b"t"))
        .apply_to(&root, OVERLAY)
        .unwrap();
    assert_eq!(applied.warnings, []);
    assert_eq!(xattr(&root.join("f"), "user.a").as_deref(), Some(&b"x\n\0=y"[..]));
    assert_eq!(xattr(&root.join("f"), "user.empty").as_deref(), Some(&b""[..]));
    assert_eq!(xattr(&root.join("d"), "user.a").as_deref(), Some(&b"1"[..]));
    assert_eq!(xattr(&root.join("s"), "user.a"), None);
    assert_eq!(xattr(&root.join("host"), "trusted.x"), None);
}

#[test]
fn an_image_cannot_instruct_the_overlay() {
    needs_root!();
    let scratch = Scratch::create();
    let layer = || {
        Layer::default()
            .add(Header::new(b'5', "d").xattr("trusted.overlay.opaque", b"y").xattr("user.overlay.opaque", b"y"))
    };
    let by_root = scratch.root("root");
    layer().apply_to(&by_root, OVERLAY).unwrap();
    assert_eq!(xattr(&by_root.join("d"), "trusted.overlay.opaque"), None);
    assert_eq!(xattr(&by_root.join("d"), "trusted.overlay.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(xattr(&by_root.join("d"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
    let by_user = scratch.root("user");
    layer().apply_to(&by_user, Target::Overlay { userxattr: true }).unwrap();
    assert_eq!(xattr(&by_user.join("d"), "user.overlay.opaque"), None);
    assert_eq!(xattr(&by_user.join("d"), "user.overlay.overlay.opaque").as_deref(), Some(&b"y"[..]));
    let plain = scratch.root("plain");
    layer().apply_to(&plain, Target::Flatten).unwrap();
    assert_eq!(xattr(&plain.join("d"), "trusted.overlay.opaque"), None);
}

#[test]
fn a_directory_loses_the_attributes_that_a_later_entry_does_not_give() {
    needs_root!();
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .add(Header::new(b'5', "d").xattr("user.old", b"1").xattr("user.both", b"1"))
        .apply_to(&root, Target::Flatten)
        .unwrap();
    Layer::default().add(Header::new(b'5', "d").xattr("user.both", b"2")).apply_to(&root, Target::Flatten).unwrap();
    assert_eq!(xattr(&root.join("d"), "user.old"), None);
    assert_eq!(xattr(&root.join("d"), "user.both").as_deref(), Some(&b"2"[..]));
}

#[test]
fn the_root_inherits_nothing_from_where_it_is_made() {
    needs_root!();
    let scratch = Scratch::create();
    let parent = File::open(&scratch.0).unwrap();
    // user::rwx user:1:rwx group::r-x mask::rwx other::r-x
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [(1_u16, 7_u16, u32::MAX), (2, 7, 1), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(bits.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    if ctr_sys::xattr::set(parent.as_fd(), b"system.posix_acl_default", &acl).is_err() {
        println!("SKIP the_root_inherits_nothing_from_where_it_is_made: the file system has no ACLs");
        return;
    }
    let root = scratch.root("r");
    Layer::default().add(Header::new(b'0', "f").mode(0o640)).apply_to(&root, OVERLAY).unwrap();
    assert_eq!(xattr(&root, "system.posix_acl_default"), None);
    assert_eq!(xattr(&root.join("f"), "system.posix_acl_access"), None);
    assert_eq!(shown(&root.join("f")), "640 0:0 1600000000.000000000");
}
