// SPDX-License-Identifier: Apache-2.0
//! Names, kinds, replacements, parents and links.

use super::*;

fn applied(layer: Layer) -> Vec<String> {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    layer.apply_to(&root, OVERLAY).unwrap();
    list(&root)
}

#[test]
fn makes_every_kind() {
    needs_root!();
    let layer = Layer::default()
        .dir("./")
        .dir("d/")
        .file("d/f", "x")
        .symlink("d/s", "/d/f")
        .hardlink("d/h", "d/f")
        .add(Header::new(b'6', "d/p"))
        .add(Header::new(b'3', "d/c").device(1, 3))
        .add(Header::new(b'4', "d/b").device(7, 200));
    let expected = ["d/", "d/b device 7:200", "d/c device 1:3", "d/f = x", "d/h = x", "d/p fifo", "d/s -> /d/f"];
    assert_eq!(applied(layer), expected);
}

#[test]
fn names_may_be_absolute_or_roundabout() {
    let layer = Layer::default().file("/a", "1").file("./b//c", "2").file("x/../d", "3").file("b/./e/", "4");
    assert_eq!(applied(layer), ["a = 1", "b/", "b/c = 2", "b/e = 4", "d = 3"]);
}

#[test]
fn names_of_every_length_and_dialect() {
    let component = "n".repeat(255);
    let long = format!("{}/end", ["d"; 100].join("/"));
    let mut ustar = Header::new(b'0', "name");
    ustar.block.as_ustar_mut().unwrap().prefix[..3].copy_from_slice(b"pre");
    let mut gnu = Header::new(b'0', "short");
    gnu.block = ::tar::Header::new_gnu();
    gnu.block.set_path("short").unwrap();
    gnu.block.set_size(0);
    gnu.block.set_mode(0o644);
    let layer = Layer::default()
        .file(&component, "")
        .file(&long, "")
        .add(ustar)
        .add(Header::new(b'L', "././@LongLink").content(b"from/long/link\0"))
        .add(Header::new(b'K', "././@LongLink").content(b"long-target\0"))
        .add(Header::new(b'2', "ignored").target("ignored"))
        .add(gnu);
    let lines = applied(layer);
    for expected in [
        format!("{component} = "),
        format!("{long} = "),
        "pre/name = ".into(),
        "from/long/link -> long-target".into(),
        "short = ".into(),
    ] {
        assert!(lines.contains(&expected), "{expected}");
    }
}

#[test]
fn a_prefix_in_a_gnu_header_is_read_as_go_wrote_it() {
    let mut header = Header::new(b'0', "name");
    let block = header.block.as_mut_bytes();
    block[257..265].copy_from_slice(b"ustar  \0");
    block[345..351].copy_from_slice(b"prefix");
    assert_eq!(applied(Layer::default().add(header)), ["prefix/", "prefix/name = "]);
}

#[test]
fn the_version_of_ustar_does_not_matter() {
    let mut header = Header::new(b'0', "name");
    header.block.as_ustar_mut().unwrap().prefix[..3].copy_from_slice(b"pre");
    header.block.as_mut_bytes()[263..265].copy_from_slice(b"\0\0");
    assert_eq!(applied(Layer::default().add(header)), ["pre/", "pre/name = "]);
}

#[test]
fn old_types_are_known() {
    let layer = Layer::default()
        .add(Header::new(0, "v7").content(b"x"))
        .add(Header::new(0, "v7dir/"))
        .add(Header::new(b'7', "contiguous").content(b"y"))
        .add(Header::new(b'V', "label"));
    assert_eq!(applied(layer), ["contiguous = y", "v7 = x", "v7dir/"]);
}

#[test]
fn only_files_have_content() {
    // To Go, the size in the header of anything else is nothing that is skipped.
    let mut dir = Header::new(b'5', "d");
    dir.block.set_size(512);
    let mut link = Header::new(b'2', "s").target("t");
    link.block.set_size(512);
    assert_eq!(applied(Layer::default().add(dir).add(link).file("f", "x")), ["d/", "f = x", "s -> t"]);
}

#[test]
fn global_headers_are_ignored() {
    let layer = Layer::default()
        .add(Header::new(b'g', "pax_global_header").content(b"52 comment=0123456789012345678901234567890123456789\n"))
        .add(Header::new(b'g', "pax_global_header").content(b"14 path=other\n"))
        .file("f", "x");
    assert_eq!(applied(layer), ["f = x"]);
}

#[test]
fn the_last_entry_of_a_name_wins_and_directories_merge() {
    let kinds = |name: &str| {
        [
            Layer::default().dir(name),
            Layer::default().file(name, "content"),
            Layer::default().symlink(name, "target"),
            Layer::default().hardlink(name, "other"),
            Layer::default().add(Header::new(b'6', name)),
        ]
    };
    let after = ["x/ opaque", "x = content", "x -> target", "x = o", "x fifo"];
    for (i, first) in kinds("x").into_iter().enumerate() {
        for (j, second) in kinds("x").into_iter().enumerate() {
            let mut layer = Layer::default().file("other", "o");
            layer.0.extend(&first.0);
            if i == 0 {
                layer = layer.file("x/child", "c");
            }
            layer.0.extend(&second.0);
            let expected = match (i, j) {
                (0, 0) => vec!["other = o", "x/", "x/child = c"],
                _ => vec!["other = o", after[j]],
            };
            assert_eq!(applied(layer), expected, "{} after {}", after[j], after[i]);
        }
    }
}

#[test]
fn parents_that_are_missing_are_made() {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default().file("a/b/c", "x").apply_to(&root, OVERLAY).unwrap();
    assert_eq!(list(&root), ["a/", "a/b/", "a/b/c = x"]);
    let stat = fs::metadata(root.join("a/b")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime()), (0o755, 0, 0));
}

#[test]
fn what_is_no_directory_gives_way_to_a_parent() {
    let layer = Layer::default().file("a", "x").file("a/b", "y").add(Header::new(b'6', "p")).file("p/q/r", "z");
    assert_eq!(applied(layer), ["a/ opaque", "a/b = y", "p/ opaque", "p/q/", "p/q/r = z"]);
}

#[test]
fn symlinks_on_the_way_are_followed_inside_the_root() {
    let layer = Layer::default()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("up", "../../../../usr")
        .symlink("usr/again", "../up/lib")
        .symlink("dangling", "to/nowhere")
        .file("lib/1", "")
        .file("abs/2", "")
        .file("up/lib/3", "")
        .file("usr/again/4", "")
        .file("dangling/5", "");
    let expected = [
        "abs -> /usr/lib",
        "dangling -> to/nowhere",
        "lib -> usr/lib",
        "to/",
        "to/nowhere/",
        "to/nowhere/5 = ",
        "up -> ../../../../usr",
        "usr/",
        "usr/again -> ../up/lib",
        "usr/lib/",
        "usr/lib/1 = ",
        "usr/lib/2 = ",
        "usr/lib/3 = ",
        "usr/lib/4 = ",
    ];
    assert_eq!(applied(layer), expected);
}

#[test]
fn hard_links_are_to_the_name_itself() {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    Layer::default()
        .file("d/f", "x")
        .symlink("s", "d/f")
        .hardlink("link-to-s", "s")
        .hardlink("absolute", "/d/f")
        .symlink("way", "d")
        .hardlink("through", "way/f")
        .hardlink("d/f", "d/f")
        .hardlink("absolute", "./d/../d/f")
        .apply_to(&root, OVERLAY)
        .unwrap();
    let expected = ["absolute = x", "d/", "d/f = x", "link-to-s -> d/f", "s -> d/f", "through = x", "way -> d"];
    assert_eq!(list(&root), expected);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(root.join("d/f")).unwrap().nlink(), 3);
    assert_eq!(fs::symlink_metadata(root.join("s")).unwrap().nlink(), 2);
}

#[test]
fn a_hard_link_replaces_what_has_its_name() {
    let layer = Layer::default().file("f", "x").dir("d").file("d/e", "").file("g", "y");
    assert_eq!(applied(layer.hardlink("d", "f").hardlink("g", "f")), ["d = x", "f = x", "g = x"]);
}

#[test]
fn a_hard_link_needs_a_target() {
    let fails = |layer: Layer| {
        let scratch = Scratch::create();
        invalid(layer.apply_to(&scratch.root("r"), OVERLAY))
    };
    let missing = r#"entry "l": the link target "gone" does not exist"#;
    assert_eq!(fails(Layer::default().hardlink("l", "gone")), missing);
    assert_eq!(fails(Layer::default().file(".wh.gone", "").hardlink("l", "gone")), missing);
    let directory = r#"entry "l": the link target "d" does not exist"#;
    assert_eq!(fails(Layer::default().dir("d").hardlink("l", "d")), directory);
    // The target goes with the directory that the link replaces.
    assert!(fails(Layer::default().file("d/f", "").hardlink("d", "d/f")).starts_with("entry \"d\": "));
}

#[test]
fn an_unknown_type_is_invalid() {
    let scratch = Scratch::create();
    let result = Layer::default().add(Header::new(b'Z', "f")).apply_to(&scratch.root("r"), OVERLAY);
    assert_eq!(invalid(result), r#"entry "f": unknown entry type 'Z'"#);
}

#[test]
fn a_lone_block_of_zeros_is_invalid_unless_it_is_the_end() {
    let scratch = Scratch::create();
    let mut bytes = Layer::default().file("a", "").0;
    bytes.extend([0; 512]);
    apply_bytes(bytes.clone(), &scratch.root("ends"), &[], OVERLAY).unwrap();
    bytes.extend(Layer::default().file("b", "").end());
    let line = invalid(apply_bytes(bytes, &scratch.root("goes-on"), &[], OVERLAY));
    assert_eq!(line, "malformed tar header at byte 512: a lone block of zeros");
}
