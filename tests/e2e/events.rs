// SPDX-License-Identifier: Apache-2.0
//! `ctr-events`: what happened, in order, from any point on.

use ctr_tests::{Image, Layer, World};
use serde_json::Value;

fn pull(world: &World, name: &str) {
    let reference = world.layout(name, &Image::new([Layer::new().file(name, "")]));
    world.tool("ctr-pull").arg(reference).run().success();
}

fn events(world: &World, args: &[&str]) -> Vec<Value> {
    world.tool("ctr-events").args(args).run().success().json_lines()
}

#[test]
fn an_empty_log_is_no_error() {
    assert_eq!(World::create().tool("ctr-events").run().success().stdout, "");
}

#[test]
fn each_line_has_containerds_envelope_and_a_cursor() {
    let world = World::create();
    pull(&world, "a");
    let events = events(&world, &[]);
    let topics: Vec<&str> = events.iter().map(|event| event["topic"].as_str().unwrap()).collect();
    assert_eq!(topics.iter().filter(|&&topic| topic == "/content/create").count(), 3, "{topics:?}");
    assert_eq!(topics.last(), Some(&"/images/create"));
    for event in &events {
        assert_eq!(event["namespace"], "default");
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(event["cursor"].is_string(), "{event}");
    }
    let times: Vec<&str> = events.iter().map(|event| event["timestamp"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_cursor_is_where_the_next_reading_begins() {
    let world = World::create();
    pull(&world, "a");
    let all = events(&world, &[]);
    for (index, event) in all.iter().enumerate() {
        let rest = events(&world, &["--since", event["cursor"].as_str().unwrap()]);
        assert_eq!(rest, all[index + 1..]);
    }
    let last = all.last().unwrap()["cursor"].as_str().unwrap();
    pull(&world, "b");
    let rest = events(&world, &["--since", last]);
    assert!(rest.iter().any(|event| event["topic"] == "/images/create"), "{rest:?}");
    assert_eq!(events(&world, &[]).len(), all.len() + rest.len());
    world.tool("ctr-events").args(["--since", "no cursor"]).run().fails_with_one_line(&["no cursor"]);
}

#[test]
fn following_prints_what_was_and_what_comes() {
    let world = World::create();
    pull(&world, "a");
    let following = world.tool("ctr-events").arg("--follow").spawn();
    let first = following.wait_for_output("/images/create");
    pull(&world, "b");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while following.wait_for_output("/images/create").matches("/images/create").count() < 2 {
        assert!(std::time::Instant::now() < deadline);
    }
    following.signal(nix::sys::signal::Signal::SIGTERM);
    let printed = following.wait().stdout;
    assert!(printed.starts_with(&first));
    assert_eq!(printed, world.tool("ctr-events").run().stdout);
}

#[test]
fn many_writers_tear_no_line() {
    let world = World::create();
    let references: Vec<String> = (0..16)
        .map(|n| world.layout(&format!("i{n}"), &Image::new([Layer::new().file(&format!("f{n}"), "")])))
        .collect();
    let pulls: Vec<_> = references.iter().map(|reference| world.tool("ctr-pull").arg(reference).spawn()).collect();
    for pull in pulls {
        pull.wait().success();
    }
    let created = events(&world, &[]).into_iter().filter(|event| event["topic"] == "/images/create").count();
    assert_eq!(created, 16);
}
