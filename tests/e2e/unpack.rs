// SPDX-License-Identifier: Apache-2.0
//! `ctr-unpack`: layers into snapshots that the kernel can stack, and into plain directories.

use std::path::Path;

use ctr_tests::layer::{Compression, Entry, MTIME};
use ctr_tests::tree::Tree;
use ctr_tests::{Image, Layer, Mounted, Need, World, need};
use serde_json::{Value, json};

fn pull(world: &World, name: &str, image: &Image) -> String {
    world.tool("ctr-pull").arg(world.layout(name, image)).run().success().stdout
}

fn unpack(world: &World, record: &str) -> Value {
    world.tool("ctr-unpack").stdin(record).run().success().json()
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn adds_the_snapshot_and_keeps_the_rest_of_the_record() {
    need!(Need::Root);
    let world = World::create();
    let image = Image::new([Layer::new().file("a", ""), Layer::new().file("b", "")]);
    let mut record: Value = serde_json::from_str(&pull(&world, "t", &image)).unwrap();
    record["future"] = json!({ "kept": [1, 2] });
    let unpacked = unpack(&world, &record.to_string());
    assert_eq!(unpacked["image"], record["image"]);
    assert_eq!(unpacked["future"], record["future"]);
    let diff_ids: Vec<_> = image.layers().iter().map(Layer::diff_id).collect();
    let chain = ctr_record::ChainId::stack(&diff_ids);
    assert_eq!(unpacked["snapshot"]["chainId"], chain[1].to_string());
    let committed: Vec<String> = std::fs::read_dir(world.state().join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| world.state().join("snapshots").join(name).join("snapshot.json").exists())
        .collect();
    assert_eq!(committed.len(), 2, "{committed:?}");
    for id in chain {
        assert!(committed.iter().any(|name| name.contains(id.0.hex())), "{committed:?}");
    }
}

#[test]
fn keeps_everything_that_a_layer_says_about_a_file() {
    need!(Need::Root, Need::Program("getfattr"));
    let world = World::create();
    // cap_net_raw+ep, as `setcap` writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Layer::new()
        .with(Entry::dir("d").mode(0o1750).owner(3, 4).mtime(MTIME + 5))
        .with(Entry::file("d/setuid", "x").mode(0o6755).owner(7, 8))
        .with(Entry::file("d/ping", "x").mode(0o755).xattr("security.capability", &capability))
        .with(Entry::file("d/marked", "").xattr("user.mark", b"v"))
        .with(Entry::file("d/nano", "").pax("mtime", b"1000000000.123456789"))
        .with(Entry::file("d/foreign", "").owner(100_000, 65_534))
        .with(Entry::char_device("null", 1, 3).mode(0o666))
        .with(Entry::fifo("pipe").mode(0o640))
        .hardlink("link", "d/setuid")
        .symlink("dangling", "/no/such/file")
        .file(&format!("{}/deep", "long".repeat(50)), "x");
    let record = unpack(&world, &pull(&world, "t", &Image::new([layer])));
    let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
    let look = |path: &str| {
        let format = "--printf=%F %a %u:%g %Y %t,%T %h";
        world.program("stat").args([format, path]).dir(root.path()).run().success().stdout
    };
    assert_eq!(look("d"), "directory 1750 3:4 1000000005 0,0 2");
    assert_eq!(look("d/setuid"), "regular file 6755 7:8 1000000000 0,0 2");
    assert_eq!(look("link"), look("d/setuid"));
    assert_eq!(look("d/foreign"), "regular empty file 644 100000:65534 1000000000 0,0 1");
    assert_eq!(look("null"), "character special file 666 0:0 1000000000 1,3 1");
    assert_eq!(look("pipe"), "fifo 640 0:0 1000000000 0,0 1");
    assert_eq!(look("dangling"), "symbolic link 777 0:0 1000000000 0,0 1");
    assert_eq!(std::fs::read_link(root.path().join("dangling")).unwrap(), Path::new("/no/such/file"));
    assert_eq!(std::fs::read(root.path().join("long".repeat(50)).join("deep")).unwrap(), b"x");
    let tree = format!("{:?}", Tree::read(root.path()).unwrap());
    assert!(tree.contains("security.capability=0x0100000200200000"), "{tree}");
    assert!(tree.contains("user.mark=0x76"), "{tree}");
    assert!(tree.contains("(1000000000, 123456789)"), "{tree}");
}

#[test]
fn whiteouts_remove_what_lies_below_and_nothing_else() {
    need!(Need::Root);
    let world = World::create();
    let image = Image::new([
        Layer::new().dir("d").file("d/old", "1").file("d/kept", "1").dir("gone").file("gone/x", "").file("file", "1"),
        Layer::new().dir("d").whiteout("d/old").whiteout("gone").whiteout("file").file("d/new", "2"),
        Layer::new().file("file", "3"),
    ]);
    let record = unpack(&world, &pull(&world, "t", &image));
    let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
    assert_eq!(names(root.path()), ["d", "file"]);
    assert_eq!(names(&root.path().join("d")), ["kept", "new"]);
    assert_eq!(std::fs::read(root.path().join("file")).unwrap(), b"3");
}

#[test]
fn an_opaque_directory_hides_what_lies_below_wherever_its_mark_stands() {
    need!(Need::Root);
    for mark_last in [false, true] {
        let world = World::create();
        let mut top = Layer::new().dir("d");
        top = match mark_last {
            false => top.opaque("d").file("d/new", "").dir("d/sub").file("d/sub/new", ""),
            true => top.file("d/new", "").dir("d/sub").file("d/sub/new", "").opaque("d"),
        };
        let below = Layer::new().dir("d").file("d/old", "").dir("d/sub").file("d/sub/old", "");
        let record = unpack(&world, &pull(&world, "t", &Image::new([below, top])));
        let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
        assert_eq!(names(&root.path().join("d")), ["new", "sub"]);
        assert_eq!(names(&root.path().join("d/sub")), ["new"]);
    }
}

// In overlay a plain whiteout inside an opaque directory would show itself.
#[test]
fn a_whiteout_in_an_opaque_directory_is_not_seen() {
    need!(Need::Root);
    let world = World::create();
    let below = Layer::new().dir("d").file("d/old", "");
    let top = Layer::new().dir("d").opaque("d").whiteout("d/old").file("d/new", "");
    let record = unpack(&world, &pull(&world, "t", &Image::new([below, top])));
    let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
    assert_eq!(names(&root.path().join("d")), ["new"]);
}

#[test]
fn a_directory_that_replaces_a_file_and_the_other_way_round() {
    need!(Need::Root);
    let world = World::create();
    let below = Layer::new().file("a", "file").dir("b").file("b/x", "");
    let top = Layer::new().dir("a").file("a/x", "").file("b", "file");
    let record = unpack(&world, &pull(&world, "t", &Image::new([below, top])));
    let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
    assert_eq!(names(&root.path().join("a")), ["x"]);
    assert_eq!(std::fs::read(root.path().join("b")).unwrap(), b"file");
}

#[test]
fn every_compression_gives_the_same_snapshot() {
    need!(Need::Root);
    let mut chains = Vec::new();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let world = World::create();
        let layer = Layer::new().file("a", "same".repeat(1000)).compression(compression);
        let record = unpack(&world, &pull(&world, "t", &Image::new([layer])));
        let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
        assert_eq!(std::fs::read_to_string(root.path().join("a")).unwrap(), "same".repeat(1000));
        chains.push(record["snapshot"]["chainId"].clone());
    }
    assert!(chains.iter().all(|chain| *chain == chains[0]), "{chains:?}");
}

fn stacked() -> Image {
    Image::new([
        Layer::new()
            .dir("d")
            .file("d/old", "1")
            .file("d/kept", "1")
            .dir("gone")
            .file("gone/x", "")
            .dir("o")
            .file("o/x", ""),
        Layer::new()
            .with(Entry::dir("d").mode(0o700).mtime(MTIME + 1))
            .whiteout("d/old")
            .whiteout("gone")
            .file("d/a", "2")
            .hardlink("d/b", "d/a")
            .symlink("d/c", "a"),
        Layer::new().dir("o").opaque("o").file("o/y", "").with(Entry::file("d/kept", "3").owner(5, 6).mode(0o4711)),
    ])
}

#[test]
fn a_flattened_directory_is_what_the_stack_shows() {
    need!(Need::Root, Need::Program("getfattr"));
    let world = World::create();
    let pulled = pull(&world, "t", &stacked());
    let record = unpack(&world, &pulled);
    let flat = world.dir().join("flat");
    let flattened = world.tool("ctr-unpack").arg("--to").arg(&flat).stdin(pulled).run().success().json();
    assert_eq!(flattened["snapshot"].get("chainId"), None);
    let root = Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
    let (flat, mut stack) = (Tree::read(&flat).unwrap(), Tree::read(root.path()).unwrap());
    // Of overlay's own making.
    for node in stack.0.values_mut() {
        node.forget_xattrs("trusted.overlay.");
    }
    assert_eq!(stack.differences(&flat), Vec::<String>::new());
    assert_eq!(flat.0.len(), 8);
}

#[test]
fn refuses_to_flatten_into_a_directory_that_is_not_empty() {
    need!(Need::Root);
    let world = World::create();
    let pulled = pull(&world, "t", &stacked());
    std::fs::create_dir_all(world.dir().join("full/of")).unwrap();
    let full = world.dir().join("full");
    world.tool("ctr-unpack").arg("--to").arg(&full).stdin(pulled).run().fails(4, &[full.to_str().unwrap()]);
    assert_eq!(names(&full), ["of"]);
}

#[test]
fn a_second_unpack_changes_nothing() {
    need!(Need::Root);
    let world = World::create();
    let pulled = pull(&world, "t", &stacked());
    let first = unpack(&world, &pulled);
    let snapshots = world.state().join("snapshots");
    let inodes = |dir: &Path| world.program("find").arg(dir).args(["-printf", "%i %C@ %p\n"]).run().success().stdout;
    let before = inodes(&snapshots);
    assert_eq!(unpack(&world, &pulled), first);
    assert_eq!(inodes(&snapshots), before);
}

#[test]
fn images_share_the_snapshots_of_their_common_layers() {
    need!(Need::Root);
    let world = World::create();
    let base = Layer::new().file("base", "");
    for name in ["x", "y", "z"] {
        unpack(&world, &pull(&world, name, &Image::new([base.clone(), Layer::new().file(name, "")])));
    }
    let markers = world.files("snapshots").into_iter().filter(|path| path.ends_with("snapshot.json")).count();
    assert_eq!(markers, 4);
}

#[test]
fn parallel_callers_unpack_every_layer_once() {
    need!(Need::Root);
    let world = World::create();
    let pulled = pull(&world, "t", &stacked());
    let running: Vec<_> = (0..6).map(|_| world.tool("ctr-unpack").stdin(pulled.clone()).spawn()).collect();
    let records: Vec<Value> = running.into_iter().map(|unpack| unpack.wait().success().json()).collect();
    assert!(records.iter().all(|record| *record == records[0]));
    let events = world.tool("ctr-events").run().success();
    let commits = events.json_lines().into_iter().filter(|event| event["topic"] == "/snapshot/commit").count();
    assert_eq!(commits, 3);
}

#[test]
fn many_records_pass_in_order_and_a_bad_one_does_not_stop_them() {
    need!(Need::Root);
    let world = World::create();
    let (a, b) = (pull(&world, "a", &stacked()), pull(&world, "b", &Image::new([Layer::new().file("b", "")])));
    let no_image = json!({ "ctr": 1, "stateDir": world.state(), "namespace": "default" });
    let outcome = world.tool("ctr-unpack").stdin(format!("{a}{no_image}\n{b}")).run().fails(6, &["image"]);
    let references: Vec<Value> = outcome.json_lines().iter().map(|r| r["image"]["reference"].clone()).collect();
    assert_eq!(references.len(), 2);
    assert!(references[0].as_str().unwrap().ends_with(":a") && references[1].as_str().unwrap().ends_with(":b"));
}
