// SPDX-License-Identifier: Apache-2.0
//! A state directory whose disk is full: exit code 75, one line, and nothing half-made.

use std::path::PathBuf;

use ctr_tests::{Image, Layer, Mounted, Need, Tool, World, need};
use serde_json::json;

/// A world whose state directory has two megabytes.
struct Small {
    disk: Mounted,
    world: World,
}

impl Small {
    fn new() -> Self {
        let world = World::create();
        let mounts = json!([{ "type": "tmpfs", "source": "small", "options": ["size=2m,mode=700"] }]);
        Self { disk: Mounted::at(&world, "small", &mounts), world }
    }

    fn state(&self) -> PathBuf {
        self.disk.path().join("state")
    }

    fn tool(&self, name: &str) -> Tool {
        self.world.tool(name).env("CTR_STATE_DIR", self.state())
    }
}

fn noise(bytes: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes()).collect()
}

#[test]
fn stops_a_pull() {
    need!(Need::Root);
    let small = Small::new();
    let reference = small.world.layout("big", &Image::new([Layer::new().file("big", noise(4 << 20))]));
    small.tool("ctr-pull").arg(reference).run().fails(75, &["No space left"]);
    let index = std::fs::read_to_string(small.state().join("image/index.json")).unwrap_or_default();
    assert!(!index.contains("big"), "{index}");
    // What is left of the attempt does not keep a smaller image away.
    let reference = small.world.layout("little", &Image::new([Layer::new().file("little", "x")]));
    small.tool("ctr-pull").arg(reference).run().success();
}

#[test]
fn stops_an_unpack() {
    need!(Need::Root);
    let small = Small::new();
    // Zeros: the blob fits, the file does not.
    let reference = small.world.layout("big", &Image::new([Layer::new().file("big", vec![0; 8 << 20])]));
    let pulled = small.tool("ctr-pull").arg(reference).run().success();
    small.tool("ctr-unpack").stdin(pulled.stdout).run().fails(75, &["No space left"]);
    let reference = small.world.layout("little", &Image::new([Layer::new().file("little", "x")]));
    let pulled = small.tool("ctr-pull").arg(reference).run().success();
    small.tool("ctr-unpack").stdin(pulled.stdout).run().success();
    let find = small.world.program("find").arg(small.state().join("snapshots")).args(["-name", "big"]);
    assert_eq!(find.run().success().stdout, "");
}

#[test]
fn stops_a_bundle() {
    need!(Need::Root);
    let small = Small::new();
    let image = Image::new([Layer::new().file("a", "x")]).config("Cmd", json!(["x"]));
    let pulled = small.tool("ctr-pull").arg(small.world.layout("t", &image)).run().success();
    let unpacked = small.tool("ctr-unpack").stdin(pulled.stdout).run().success();
    small.world.sh("cat /dev/zero > small/filler").run();
    let failed = small.tool("ctr-bundle").args(["--id", "t"]).stdin(unpacked.stdout.clone()).run();
    failed.fails(75, &["No space left"]);
    std::fs::remove_file(small.disk.path().join("filler")).unwrap();
    small.tool("ctr-bundle").args(["--id", "t"]).stdin(unpacked.stdout).run().success();
}
