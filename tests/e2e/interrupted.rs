// SPDX-License-Identifier: Apache-2.0
//! Tools that are asked to end: they end by the signal, and take their half-made work with them.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use ctr_tests::{Image, Layer, Need, World, need};
use nix::sys::signal::Signal;
use serde_json::json;

fn layer_of_many_files() -> Image {
    let layer = (0..3000).fold(Layer::new(), |layer, n| layer.file(&format!("f{n}"), vec![n as u8; 8192]));
    Image::new([layer]).config("Cmd", json!(["x"]))
}

fn interrupt(signal: Signal) {
    let world = World::create();
    let pulled = world.tool("ctr-pull").arg(world.layout("t", &layer_of_many_files())).run().success().stdout;
    let running = world.tool("ctr-unpack").stdin(pulled).spawn();
    let began = Instant::now();
    while world.files("snapshots").len() < 10 && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal(signal);
    let outcome = running.wait();
    assert_eq!(outcome.status.signal(), Some(signal as i32), "{outcome:?}");
    assert_eq!(world.files("snapshots"), Vec::<String>::new());
}

#[test]
fn an_unpack_removes_what_it_wrote() {
    need!(Need::Root);
    interrupt(Signal::SIGINT);
    interrupt(Signal::SIGTERM);
}
