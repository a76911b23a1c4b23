// SPDX-License-Identifier: Apache-2.0
//! Layers that are damaged or hostile: one clear line, exit code 6, no snapshot, nothing outside touched.

use std::fs;

use ctr_tests::image::Blobs;
use ctr_tests::layer::{Compression, Entry};
use ctr_tests::{Image, Layer, LayoutDir, Need, Outcome, World, need};

/// A world with something outside of the root that a layer must not reach.
struct Scene {
    world: World,
}

impl Scene {
    fn new() -> Self {
        let world = World::create();
        fs::create_dir(world.dir().join("outside")).unwrap();
        fs::write(world.dir().join("outside/canary"), "alive").unwrap();
        Self { world }
    }

    fn outside(&self) -> String {
        self.world.dir().join("outside").to_str().unwrap().to_owned()
    }

    fn unpack(&self, image: &Image) -> Outcome {
        self.unpack_blobs(&image.blobs())
    }

    fn unpack_blobs(&self, blobs: &Blobs) -> Outcome {
        let path = self.world.dir().join("layout");
        LayoutDir::create(&path).unwrap().add("t", blobs).unwrap();
        let pulled = self.world.tool("ctr-pull").arg(format!("oci:{}:t", path.display())).run().success();
        self.world.tool("ctr-unpack").stdin(pulled.stdout).run()
    }

    /// The layer is refused, and neither a snapshot nor a trace outside is left.
    fn refuses(&self, layer: Layer, words: &[&str]) {
        self.unpack(&Image::new([layer])).fails(6, words);
        self.is_untouched();
    }

    fn is_untouched(&self) {
        let markers = self.world.files("snapshots").into_iter().filter(|path| path.ends_with("snapshot.json"));
        assert_eq!(markers.count(), 0);
        self.canary_lives();
        let left: Vec<String> = self.world.files("snapshots").into_iter().filter(|path| path.contains("/fs")).collect();
        assert_eq!(left, Vec::<String>::new(), "a half-made snapshot");
    }

    fn canary_lives(&self) {
        assert_eq!(fs::read_to_string(self.world.dir().join("outside/canary")).unwrap(), "alive");
        assert_eq!(fs::read_dir(self.world.dir().join("outside")).unwrap().count(), 1);
    }
}

#[test]
fn a_name_with_dots_does_not_climb_out() {
    need!(Need::Root);
    let up = "../".repeat(20);
    for name in [format!("{up}tmp/escape"), format!("d/{up}escape"), "..".to_owned(), "d/../../escape".to_owned()] {
        let scene = Scene::new();
        scene.refuses(Layer::new().dir("d").file(&name, "x"), &["ctr-unpack: unable to"]);
    }
}

#[test]
fn a_long_name_in_a_pax_record_does_not_climb_out_either() {
    need!(Need::Root);
    let scene = Scene::new();
    let name = format!("{}{}", "../".repeat(60), "escape");
    scene.refuses(Layer::new().with(Entry::file("harmless", "x").pax("path", name.as_bytes())), &[]);
}

#[test]
fn a_symbolic_link_in_the_layer_is_no_way_out() {
    need!(Need::Root);
    let scene = Scene::new();
    let up = "../".repeat(20);
    let layer = Layer::new()
        .symlink("absolute", &scene.outside())
        .symlink("relative", &format!("{up}{}", &scene.outside()[1..]))
        .file("absolute/canary", "dead")
        .file("relative/canary", "dead")
        .with(Entry::dir("absolute").mode(0o777));
    // What lies behind the link is inside the root, or refused: both are right, and the canary tells.
    let _ = scene.unpack(&Image::new([layer]));
    scene.canary_lives();
}

#[test]
fn a_symbolic_link_of_a_lower_layer_is_no_way_out() {
    need!(Need::Root);
    let scene = Scene::new();
    let image = Image::new([
        Layer::new().symlink("link", &scene.outside()),
        Layer::new().file("link/canary", "dead").whiteout("link/canary"),
    ]);
    let _ = scene.unpack(&image);
    scene.canary_lives();
    let pulled = scene.world.tool("ctr-pull").arg(format!("oci:{}/layout:t", scene.world.dir().display())).run();
    let flat = scene.world.dir().join("flat");
    let _ = scene.world.tool("ctr-unpack").arg("--to").arg(&flat).stdin(pulled.stdout).run();
    scene.canary_lives();
}

// RUSTSEC-2018-0002, CVE-2026-50163: the target of a hard link is a path too.
#[test]
fn a_hard_link_does_not_reach_outside() {
    need!(Need::Root);
    let up = "../".repeat(20);
    let scene = Scene::new();
    for target in [format!("{}/canary", scene.outside()), format!("{up}{}/canary", &scene.outside()[1..])] {
        let layer = Layer::new().hardlink("link", &target).with(Entry::file("link", "dead"));
        let outcome = scene.unpack(&Image::new([layer]));
        outcome.fails(6, &["link"]);
        scene.is_untouched();
    }
}

#[test]
fn a_hard_link_through_a_symbolic_link_does_not_reach_outside() {
    need!(Need::Root);
    let scene = Scene::new();
    let layer = Layer::new().symlink("door", &scene.outside()).hardlink("link", "door/canary");
    scene.refuses(layer, &["link"]);
}

#[test]
fn a_whiteout_removes_nothing_outside() {
    need!(Need::Root);
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh..."] {
        let scene = Scene::new();
        scene.refuses(Layer::new().dir("d").file("d/x", "").file(name, ""), &[]);
    }
}

// CVE-2021-29136: the root itself as something that is no directory.
#[test]
fn the_root_is_a_directory() {
    need!(Need::Root);
    for name in [".", "/", "./"] {
        let scene = Scene::new();
        let outside = scene.outside();
        scene.refuses(Layer::new().symlink(name, &outside).file("canary", "dead"), &[]);
    }
}

#[test]
fn a_corrupt_gzip_is_named() {
    need!(Need::Root);
    for spoil in [0, 1] {
        let scene = Scene::new();
        let layer = Layer::new().file("a", "content".repeat(5000));
        let mut blob = layer.blob();
        match spoil {
            0 => {
                let middle = blob.len() / 2;
                blob[middle..middle + 20].fill(0xff);
            }
            _ => blob.truncate(blob.len() - 20),
        }
        scene.unpack_blobs(&with_blob(&layer, blob)).fails(6, &["ctr-unpack: unable to unpack"]);
        scene.is_untouched();
    }
}

#[test]
fn a_truncated_tar_is_no_layer() {
    need!(Need::Root);
    let scene = Scene::new();
    let mut tar = Layer::new().file("a", "content".repeat(5000)).tar();
    tar.truncate(20_000);
    let layer = Layer::new().compression(Compression::None);
    scene.unpack_blobs(&with_blob(&layer, tar)).fails(6, &[]);
    scene.is_untouched();
}

#[test]
fn a_layer_with_another_diff_id_is_refused() {
    need!(Need::Root);
    let scene = Scene::new();
    let layer = Layer::new().file("a", "told");
    let other = Layer::new().file("a", "held").blob();
    scene.unpack_blobs(&with_blob(&layer, other)).fails(6, &[&layer.diff_id().to_string()]);
    scene.is_untouched();
}

#[test]
fn overlays_own_attributes_do_not_come_from_an_image() {
    need!(Need::Root, Need::Program("getfattr"));
    let scene = Scene::new();
    let layer = Layer::new()
        .with(Entry::dir("d").xattr("trusted.overlay.opaque", b"y"))
        .with(Entry::file("f", "x").xattr("trusted.overlay.redirect", b"/etc"));
    let _ = scene.unpack(&Image::new([layer]));
    let snapshots = scene.world.state().join("snapshots");
    let dump = scene.world.program("getfattr").args(["-R", "-d", "-m", "^trusted.overlay.(opaque|redirect)"]);
    assert_eq!(dump.arg(snapshots).run().stdout, "");
}

#[test]
fn a_blob_that_is_not_there_is_named() {
    need!(Need::Root);
    let world = World::create();
    let image = Image::new([Layer::new().file("a", "")]);
    let pulled = world.tool("ctr-pull").arg(world.layout("t", &image)).run().success();
    let layer = image.blobs().layers.remove(0);
    fs::remove_file(world.state().join("image/blobs/sha256").join(layer.hex())).unwrap();
    world.tool("ctr-unpack").stdin(pulled.stdout).run().fails(3, &[&layer.to_string()]);
}

/// The blobs of an image of one layer whose stored bytes are others than the config's diffID was made of.
fn with_blob(layer: &Layer, blob: Vec<u8>) -> Blobs {
    let image = Image::new([layer.clone()]);
    let mut blobs = image.blobs_with(|manifest| {
        manifest["layers"][0] = ctr_tests::image::descriptor(layer.media_type(), &blob);
    });
    blobs.layers = vec![ctr_record::Digest::of(&blob)];
    blobs.by_digest.insert(blobs.layers[0].clone(), blob);
    blobs
}
