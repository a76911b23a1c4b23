// SPDX-License-Identifier: Apache-2.0
//! The log under writers that die, disks that fill, and readers that come back.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scratch(name: &str, segment_size: u64) -> (Scratch, EventLog) {
    let root = std::env::temp_dir().join(format!("ctr-store-event-{name}-{}", std::process::id()));
    let mut log = EventLog::open(&StateDir::open(&root).unwrap()).unwrap();
    log.segment_size = segment_size;
    (Scratch(root), log)
}

fn start(id: &str, pid: i32) -> Payload {
    Payload::TaskStart { container_id: id.into(), pid }
}

fn exit(id: &str, process: &str, status: u32) -> Payload {
    Payload::TaskExit {
        container_id: id.into(),
        id: process.into(),
        pid: 1,
        exit_status: status,
        exited_at: Timestamp::now(),
    }
}

fn texts(entries: &mut Entries) -> Vec<String> {
    entries.map(|entry| entry.unwrap().text).collect()
}

fn damage(log: &EventLog, segment: u64, bytes: &[u8]) {
    open_segment(&segment::path(&log.dir, segment)).unwrap().write_all(bytes).unwrap();
}

#[test]
fn an_event_comes_back_with_a_cursor_to_resume_from() {
    let (_scratch, log) = scratch("resume", SEGMENT_SIZE);
    let first = log.append("default", start("a", 1)).unwrap();
    let second = log.append("other", start("b", 2)).unwrap();
    let entries: Vec<Entry> = log.read(None).unwrap().map(Result::unwrap).collect();
    assert_eq!([entries[0].cursor, entries[1].cursor], [first, second]);
    assert_eq!((entries[1].namespace.as_str(), entries[1].topic.as_str()), ("other", "/tasks/start"));
    let event: Event = serde_json::from_str(&entries[0].text).unwrap();
    assert_eq!(event.payload, start("a", 1));
    let after: Vec<Entry> = log.read(Some(first)).unwrap().map(Result::unwrap).collect();
    assert_eq!(after, entries[1..]);
    assert_eq!(log.end().unwrap(), second);
    assert_eq!(log.read(Some(second)).unwrap().count(), 0);
}

#[test]
fn a_full_segment_is_followed_by_the_next_and_readers_cross_over() {
    let (_scratch, log) = scratch("rotate", 300);
    let mut reader = log.read(None).unwrap();
    let mut seen = Vec::new();
    for pid in 0..20 {
        log.append("default", start("a", pid)).unwrap();
        seen.extend(texts(&mut reader));
    }
    assert!(segment::list(&log.dir).unwrap().len() > 3);
    assert_eq!(seen.len(), 20);
    assert_eq!(seen, texts(&mut log.read(None).unwrap()));
    for entry in log.read(None).unwrap().map(Result::unwrap) {
        log.read(Some(entry.cursor)).unwrap();
    }
}

#[test]
fn what_a_killed_writer_left_is_skipped_and_the_next_event_is_whole() {
    let (_scratch, log) = scratch("torn", SEGMENT_SIZE);
    log.append("default", start("a", 1)).unwrap();
    damage(&log, 1, br#"{"timestamp":"2026-"#);
    let mut reader = log.read(None).unwrap();
    assert_eq!(texts(&mut reader).len(), 1);
    assert_eq!(reader.skipped(), 0, "an unfinished line may still be finished");
    log.append("default", start("b", 2)).unwrap();
    assert_eq!(texts(&mut reader).len(), 1);
    assert_eq!(reader.skipped(), 1);
    let mut lines = Backwards::open(log.dir.clone()).unwrap();
    assert!(lines.next_line().unwrap().unwrap().ends_with(br#""pid":2}}"#));
}

#[test]
fn a_cursor_at_the_end_stays_good_when_a_writer_was_killed_there() {
    let (_scratch, log) = scratch("tornend", SEGMENT_SIZE);
    damage(&log, 1, b"{");
    let end = log.end().unwrap();
    log.append("default", start("a", 1)).unwrap();
    let mut reader = log.read(Some(end)).unwrap();
    assert_eq!(texts(&mut reader).len(), 1);
    assert_eq!(reader.skipped(), 0);
}

#[test]
fn lines_that_are_no_events_are_skipped_and_counted() {
    let (_scratch, log) = scratch("broken", SEGMENT_SIZE);
    for bytes in [&b"\n"[..], b"[1]\n", b"{\"timestamp\":1}\n", b"\xff\xfe\n", b"\0\0\0\n"] {
        damage(&log, 1, bytes);
    }
    log.append("default", start("a", 1)).unwrap();
    let mut reader = log.read(None).unwrap();
    assert_eq!(texts(&mut reader).len(), 1);
    assert_eq!(reader.skipped(), 5);
}

#[test]
fn cursors_of_elsewhere_are_refused() {
    let (_scratch, log) = scratch("cursors", SEGMENT_SIZE);
    assert!(log.read(Some("1:0".parse().unwrap())).is_ok(), "the beginning of an empty log");
    log.append("default", start("a", 1)).unwrap();
    for unknown in ["1:7", "1:99999", "2:0", "0:0"] {
        let error = log.read(Some(unknown.parse().unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{unknown}");
    }
}

#[test]
fn concurrent_writers_lose_and_tear_nothing_and_keep_time_order() {
    let (_scratch, log) = scratch("concurrent", 4096);
    let mut follower = log.read(None).unwrap();
    let watch = log.watch().unwrap();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..100 {
                    log.append("default", start(&format!("w{writer}"), n)).unwrap();
                }
            });
        }
        while seen.len() < 800 {
            poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            watch.drain().unwrap();
            seen.extend(texts(&mut follower));
        }
    });
    assert_eq!(follower.skipped(), 0);
    let events: Vec<Event> = seen.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert!(events.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp));
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 800);
    for writer in 0..8 {
        let id = format!("w{writer}");
        let own = events.iter().filter_map(|event| match &event.payload {
            Payload::TaskStart { container_id, pid } if *container_id == id => Some(*pid),
            _ => None,
        });
        assert!(own.eq(0..100));
    }
}

#[test]
fn a_small_step_back_of_the_clock_is_hidden_and_a_large_one_is_not() {
    let (_scratch, log) = scratch("clock", SEGMENT_SIZE);
    for (ahead, hidden) in [(30, true), (3600, false)] {
        let future = Timestamp(Timestamp::now().0 + Duration::from_secs(ahead));
        let event = Event { timestamp: future, namespace: "default".into(), payload: start("a", 1) };
        damage(&log, 1, format!("{}\n", serde_json::to_string(&event).unwrap()).as_bytes());
        log.append("default", start("b", 2)).unwrap();
        let last = log.read(None).unwrap().last().unwrap().unwrap();
        let last: Event = serde_json::from_str(&last.text).unwrap();
        assert_eq!(last.timestamp == future, hidden);
    }
}

#[test]
fn the_last_exit_is_that_of_the_container_itself_and_of_its_last_life() {
    let (_scratch, log) = scratch("exit", 400);
    log.append("default", exit("a", "a", 3)).unwrap();
    log.append("default", exit("a", "exec-1", 4)).unwrap();
    log.append("other", exit("a", "a", 5)).unwrap();
    for pid in 0..20 {
        log.append("default", start("b", pid)).unwrap();
    }
    let status = |id| match log.last_exit("default", id).unwrap() {
        Some(Payload::TaskExit { exit_status, .. }) => Some(exit_status),
        _ => None,
    };
    assert_eq!((status("a"), status("b"), status("c")), (Some(3), None, None));
    log.append("default", Payload::ContainerCreate { id: "a".into(), image: None }).unwrap();
    assert_eq!(status("a"), None);
}

#[test]
fn the_story_is_that_of_the_latest_life_only() {
    let (_scratch, log) = scratch("story", 400);
    let create = |id: &str| Payload::TaskCreate {
        container_id: id.into(),
        bundle: "/b".into(),
        rootfs: Vec::new(),
        io: Default::default(),
        pid: 1,
    };
    let story = || log.story("default", "a").unwrap();
    assert_eq!(story(), Story::default());
    log.append("default", create("a")).unwrap();
    assert_eq!(story(), Story { created: true, ..Story::default() });
    log.append("default", start("a", 1)).unwrap();
    log.append("default", exit("a", "exec-1", 0)).unwrap();
    log.append("default", exit("b", "b", 0)).unwrap();
    assert_eq!(story(), Story { created: true, started: true, exited: false });
    log.append("default", exit("a", "a", 0)).unwrap();
    assert_eq!(story(), Story { created: true, started: true, exited: true });
    let (container_id, id, exited_at) = ("a".into(), "a".into(), Timestamp::now());
    log.append("default", Payload::TaskDelete { container_id, id, pid: 1, exit_status: 0, exited_at }).unwrap();
    assert_eq!(story(), Story::default());
}

#[test]
fn reading_backwards_gives_every_line_in_reverse() {
    let (_scratch, log) = scratch("backwards", 100_000);
    for pid in 0..50 {
        // Lines around the size of a chunk, and around each other's.
        let id = "x".repeat(pid * 401);
        log.append("default", start(&id, pid as i32)).unwrap();
    }
    damage(&log, segment::newest(&log.dir).unwrap().unwrap(), b"{\"torn");
    let mut lines = Backwards::open(log.dir.clone()).unwrap();
    let mut backwards: Vec<Vec<u8>> = std::iter::from_fn(|| lines.next_line().unwrap()).collect();
    backwards.reverse();
    let forwards: Vec<Vec<u8>> = texts(&mut log.read(None).unwrap()).into_iter().map(String::into_bytes).collect();
    assert_eq!(forwards.len(), 50);
    assert!(backwards == forwards);
}
