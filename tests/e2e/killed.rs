// SPDX-License-Identifier: Apache-2.0
//! Tools that are killed at any moment: the next run finishes the work, and nothing is lost or left.

use std::time::Duration;

use ctr_tests::layer::Entry;
use ctr_tests::{Image, Layer, Need, Registry, Tool, World, need};
use nix::sys::signal::Signal;
use serde_json::json;

/// Runs what `tool` makes again and again, killed a little later each time, until it comes to its end.
fn kill_ever_later(mut tool: impl FnMut() -> Tool) -> String {
    let mut delay = Duration::from_micros(500);
    loop {
        let running = tool().spawn();
        std::thread::sleep(delay);
        running.signal(Signal::SIGKILL);
        let outcome = running.wait();
        if outcome.status.code().is_some() {
            return outcome.success().stdout;
        }
        delay = delay * 6 / 5;
    }
}

fn noise(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
}

fn image() -> Image {
    let mut many = Layer::new().with(Entry::file("big", noise(1, 2 << 20)));
    for n in 0..300 {
        many = many.dir(&format!("d{n}")).file(&format!("d{n}/f"), "x");
    }
    Image::new([many, Layer::new().file("big", noise(2, 1 << 20)).whiteout("d7"), Layer::new().file("last", "x")])
        .config("Cmd", json!(["x"]))
}

#[test]
fn a_pull_is_finished_by_the_next_one() {
    let (world, registry, blobs) = (World::create(), Registry::start(), image().blobs());
    registry.add("demo/app", "v1", &blobs);
    let reference = registry.reference("demo/app:v1");
    kill_ever_later(|| world.tool("ctr-pull").arg(&reference));
    let stored = world.files("image/blobs/sha256");
    assert_eq!(stored.len(), blobs.by_digest.len(), "{stored:?}");
    for (digest, blob) in &blobs.by_digest {
        assert_eq!(&std::fs::read(world.state().join("image/blobs/sha256").join(digest.hex())).unwrap(), blob);
    }
    assert_eq!(world.files("ingest"), Vec::<String>::new());
    world.tool("ctr-unpack").stdin(world.tool("ctr-pull").arg(&reference).run().stdout).run().success();
}

#[test]
fn an_unpack_is_finished_by_the_next_one() {
    need!(Need::Root);
    let world = World::create();
    let pulled = world.tool("ctr-pull").arg(world.layout("t", &image())).run().success().stdout;
    let record = kill_ever_later(|| world.tool("ctr-unpack").stdin(pulled.clone()));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let root = ctr_tests::Mounted::at(&world, "root", &record["snapshot"]["mounts"]);
    assert_eq!(std::fs::read(root.path().join("big")).unwrap(), noise(2, 1 << 20));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 299 + 2);
    let snapshots = std::fs::read_dir(world.state().join("snapshots")).unwrap();
    let unfinished: Vec<_> = snapshots.flatten().filter(|dir| !dir.path().join("snapshot.json").exists()).collect();
    let unfinished = unfinished.iter().filter(|dir| dir.path().is_dir()).count();
    assert_eq!(unfinished, 0, "{:?}", std::fs::read_dir(world.state().join("snapshots")).unwrap().collect::<Vec<_>>());
}

#[test]
fn a_bundle_is_made_by_the_next_one() {
    need!(Need::Root);
    let world = World::create();
    let pulled = world.tool("ctr-pull").arg(world.layout("t", &image())).run().success().stdout;
    let unpacked = world.tool("ctr-unpack").stdin(pulled).run().success().stdout;
    for round in 0..30 {
        let running = world.tool("ctr-bundle").args(["--id", "t"]).stdin(unpacked.clone()).spawn();
        std::thread::sleep(Duration::from_micros(300 * round));
        running.signal(Signal::SIGKILL);
        running.wait();
        let again = world.tool("ctr-bundle").args(["--id", "t"]).stdin(unpacked.clone()).run();
        // It is there as a whole, or not at all.
        assert!(matches!(again.code(), 0 | 4), "{}", again.stderr);
        let names: Vec<_> = std::fs::read_dir(world.state().join("bundles/default")).unwrap().flatten().collect();
        let names: Vec<_> = names.iter().map(std::fs::DirEntry::file_name).collect();
        assert!(names.iter().any(|name| name == "t"), "{names:?}");
        assert!(world.state().join("bundles/default/t/config.json").exists());
        std::fs::remove_dir_all(world.state().join("bundles/default/t")).unwrap();
    }
}

#[test]
fn a_start_that_is_killed_can_be_cleared_away() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let reference = world.busybox(None);
    for round in 0..20 {
        let id = world.id(&format!("k{round}"));
        let record = world.bundle(&reference, &id, &[], &["sleep", "1000"]);
        let running = world.tool("ctr-shim").stdin(record).spawn();
        std::thread::sleep(Duration::from_millis(round));
        // The caller and, while it is still of the same group, its supervisor.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(running.pid()), Signal::SIGKILL);
        let _ = running.wait();
        let deleted = world.tool("ctr-task").args(["delete", "--force", &id]).run();
        assert!(matches!(deleted.code(), 0 | 3), "round {round}: {}", deleted.stderr);
    }
    assert_eq!(world.tool("ctr-task").arg("list").run().success().stdout, "");
}
