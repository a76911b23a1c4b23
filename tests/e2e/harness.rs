// SPDX-License-Identifier: Apache-2.0
//! The harness itself, held against real peers: what it writes and serves must be what they accept.

use ctr_tests::layer::{Compression, Entry};
use ctr_tests::tree::Tree;
use ctr_tests::{Image, Layer, Need, Registry, World, need};
use nix::sys::signal::Signal;

#[test]
fn skopeo_reads_what_the_image_builder_writes() {
    need!(Need::Program("skopeo"));
    let world = World::create();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = Layer::new().dir("a").file(&"long".repeat(40), "x").compression(compression);
        let name = format!("{compression:?}").to_lowercase();
        let reference = world.layout(&name, &Image::new([layer]));
        let copy = format!("dir:{}", world.dir().join(&name).display());
        world.program("skopeo").args(["copy", &reference, &copy]).run().success();
    }
}

#[test]
fn umoci_unpacks_what_the_layer_builder_writes() {
    need!(Need::Root, Need::Program("umoci"));
    let world = World::create();
    let layer = Layer::new()
        .with(Entry::file("setuid", "x").mode(0o4755).owner(7, 8).xattr("user.mark", b"\x00\x01"))
        .with(Entry::char_device("null", 1, 3))
        .with(Entry::fifo("pipe"))
        .dir("d")
        .file("d/a", "one")
        .hardlink("d/b", "d/a")
        .symlink("d/c", "../setuid");
    let reference = world.layout("t", &Image::new([layer]));
    let (image, bundle) = (reference.strip_prefix("oci:").unwrap(), world.dir().join("bundle"));
    world.program("umoci").args(["unpack", "--image", image]).arg(&bundle).run().success();
    let tree = Tree::read(&bundle.join("rootfs")).unwrap();
    let shown = format!("{:#?}", tree.0);
    for fact in ["mode: 2541", "character device", "fifo", "user.mark=0x0001", "../setuid"] {
        assert!(shown.contains(fact), "{fact}: {shown}");
    }
    assert_eq!(shown.matches("first_link: Some").count(), 2, "{shown}");
}

#[test]
fn skopeo_pulls_from_the_fake_registry() {
    need!(Need::Program("skopeo"));
    let world = World::create();
    let blobs = Image::new([Layer::new().file("a", "x")]).blobs();
    let pull = |registry: &Registry, flags: &[&str]| {
        registry.add("demo/a", "v1", &blobs);
        let from = format!("docker://{}", registry.reference("demo/a:v1"));
        let tool = world.program("skopeo").args(["copy", "--src-tls-verify=false"]).args(flags);
        tool.arg(from).arg(format!("dir:{}", world.dir().join("copy").display())).run()
    };
    pull(&Registry::start(), &[]).success();

    let registry = Registry::start();
    registry.require_basic("user", "pass");
    assert_ne!(pull(&registry, &[]).code(), 0);
    pull(&registry, &["--src-creds=user:pass"]).success();

    let registry = Registry::start();
    registry.require_bearer(Some(("user", "pass")));
    assert_ne!(pull(&registry, &["--src-creds=user:wrong"]).code(), 0);
    pull(&registry, &["--src-creds=user:pass"]).success();
    assert_eq!(registry.blob_requests(), 2);
}

#[test]
#[should_panic(expected = "left behind")]
fn a_world_notices_a_process_that_was_left_behind() {
    let world = World::create();
    let sleeps = "until grep -qx sleep /proc/$!/comm; do :; done";
    world.sh(&format!("setsid sleep 1000 < /dev/null > /dev/null 2>&1 & {sleeps}")).run().success();
}

#[test]
fn a_hanging_program_is_ended_and_named() {
    let hang = std::panic::catch_unwind(|| {
        World::create().sh("sleep 1000").timeout(std::time::Duration::from_millis(50)).run();
    });
    let message = *hang.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("hangs"), "{message}");
}

#[test]
fn a_running_program_can_be_watched_and_signalled() {
    let world = World::create();
    let running = world.sh("echo ready; sleep 1000").spawn();
    running.wait_for_output("ready\n");
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(running.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(running.wait().code(), 128 + 15);
}
