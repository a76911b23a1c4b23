// SPDX-License-Identifier: Apache-2.0
//! The tools together, in the ways that the README shows: pipes, files in between, make, many at once.

use ctr_tests::world::busybox_image;
use ctr_tests::{Layer, LayoutDir, Need, Registry, World, need};

#[test]
fn a_failure_travels_down_the_pipe_without_pipefail() {
    let world = World::create();
    let reference = Registry::start().reference("demo/nothing:v1");
    let ran = world.sh(&format!("ctr-pull {reference} | ctr-unpack | ctr-bundle > record")).run();
    assert_eq!(ran.code(), 6, "{}", ran.stderr);
    let tools: Vec<&str> = ran.stderr.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(tools, ["ctr-pull", "ctr-unpack", "ctr-bundle"], "{}", ran.stderr);
    assert_eq!(std::fs::read(world.dir().join("record")).unwrap(), b"");
}

#[test]
fn an_empty_pipe_before_ctr_run_is_an_error_with_a_hint() {
    need!(Need::Root);
    World::create().tool("ctr-run").run().fails(125, &["no record", "before"]);
}

#[test]
fn a_record_is_a_file_to_go_on_from() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let (reference, id) = (world.busybox(None), world.id("t"));
    let script = format!(
        "ctr-pull {reference} > image.json && ctr-unpack < image.json | tee snapshot.json | ctr-bundle --id {id}-1 | ctr-run &&
         ctr-bundle --id {id}-2 -- echo again < snapshot.json > bundle.json && ctr-run --record bundle.json"
    );
    assert_eq!(world.sh(&script).run().success().stdout, "hello from a container\nagain\n");
}

#[test]
fn ten_targets_of_make_share_their_layers() {
    need!(Need::Root, Need::Busybox, Need::Program("make"));
    let world = World::create();
    let registry = Registry::start();
    for n in 0..10 {
        let own = Layer::new().file("etc/motd", format!("image {n}\n"));
        registry.add("demo/app", &format!("v{n}"), &busybox_image(Some(own)).blobs());
    }
    let makefile = format!(
        "all: $(foreach n,0 1 2 3 4 5 6 7 8 9,out.$(n))\n\
         image.%:; ctr-pull {}:v$* > $@\n\
         snapshot.%: image.%; ctr-unpack < $< > $@\n\
         bundle.%: snapshot.%; ctr-bundle --id {}-$* < $< > $@\n\
         out.%: bundle.%; ctr-sched -n 2 ctr-run --record $< > $@\n\
         .SECONDARY:\n",
        registry.reference("demo/app"),
        world.id("make")
    );
    std::fs::write(world.dir().join("Makefile"), makefile).unwrap();
    world.program("make").args(["--silent", "-j8"]).run().success();
    for n in 0..10 {
        let out = std::fs::read_to_string(world.dir().join(format!("out.{n}"))).unwrap();
        assert_eq!(out, format!("image {n}\n"));
    }
    // Two layers in common, and ten times a layer and a config.
    assert_eq!(registry.blob_requests(), 2 + 10 * 2);
    assert_eq!(world.files("snapshots").into_iter().filter(|path| path.ends_with("snapshot.json")).count(), 2 + 10);
    world.program("make").args(["--silent", "-j8"]).run().success();
}

#[test]
fn a_stream_of_images_becomes_a_stream_of_containers() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let mut layout = LayoutDir::create(&world.dir().join("layout")).unwrap();
    for n in 0..4 {
        let own = Layer::new().file("etc/motd", format!("image {n}\n"));
        layout.add(&format!("v{n}"), &busybox_image(Some(own)).blobs()).unwrap();
    }
    let script = "for n in 0 1 2 3; do echo oci:$PWD/layout:v$n; done | ctr-pull | ctr-unpack | ctr-bundle | ctr-sched -n 2 ctr-run";
    let ran = world.sh(script).run().success();
    assert_eq!(ran.stdout, "image 0\nimage 1\nimage 2\nimage 3\n");
}

#[test]
fn many_containers_start_under_the_limiter_and_nothing_of_them_is_left() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let (reference, id) = (world.busybox(None), world.id("many"));
    let script = format!(
        "ctr-pull {reference} | ctr-unpack | ctr-bundle --id {id} --replicas 20 -- sh -c 'exit 7' |
         ctr-sched -n 5 ctr-shim > tasks"
    );
    world.sh(&script).run().success();
    assert_eq!(std::fs::read_to_string(world.dir().join("tasks")).unwrap().lines().count(), 20);
    for n in 1..=20 {
        assert_eq!(world.tool("ctr-task").args(["wait", &format!("{id}-{n}")]).run().code(), 7);
    }
    let events = world.tool("ctr-events").run().success().json_lines();
    let exits = events.iter().filter(|event| event["topic"] == "/tasks/exit" && event["event"]["exit_status"] == 7);
    assert_eq!(exits.count(), 20);
    let ids: Vec<String> = (1..=20).map(|n| format!("{id}-{n}")).collect();
    world.tool("ctr-task").arg("delete").args(ids).run().success();
    for part in ["tasks/default", "bundles/default", "ingest"] {
        assert_eq!(world.files(part), Vec::<String>::new(), "{part}");
    }
    assert_eq!(std::fs::read_dir(world.run_root()).map_or(0, Iterator::count), 0);
}
