// SPDX-License-Identifier: Apache-2.0
//! Blobs: bounds, resumption, and where they may come from.

use std::sync::atomic::{AtomicUsize, Ordering};

use ctr_record::{Classify, ErrorKind};

use super::*;

const CONTENT: &[u8] = b"the content of a layer";

fn anonymous() -> Client {
    client(Credentials::anonymous())
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let requests = AtomicUsize::new(0);
    let server = Server::start(move |seen| match requests.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok(CONTENT).cut_after(7),
        _ => serve(CONTENT, seen),
    });
    assert_eq!(read(&anonymous(), &reference(&server), &blob(CONTENT), 0).unwrap(), CONTENT);
    let offsets: Vec<_> = server.seen().iter().map(offset_of).collect();
    assert_eq!(offsets, [None, Some(7)]);
}

#[test]
fn a_download_of_an_earlier_process_is_continued() {
    let server = Server::start(|seen| serve(CONTENT, seen));
    assert_eq!(read(&anonymous(), &reference(&server), &blob(CONTENT), 5).unwrap(), &CONTENT[5..]);
    let all = CONTENT.len() as u64;
    assert_eq!(read(&anonymous(), &reference(&server), &blob(CONTENT), all).unwrap(), b"");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_server_without_ranges_repeats_itself_unheard() {
    let server = Server::start(|_| Reply::ok(CONTENT));
    assert_eq!(read(&anonymous(), &reference(&server), &blob(CONTENT), 5).unwrap(), &CONTENT[5..]);
}

#[test]
fn another_range_than_asked_for_is_refused() {
    let server = Server::start(|_| Reply::ok(&CONTENT[4..]).status(206).header("Content-Range", "bytes 4-21/22"));
    let error = read(&anonymous(), &reference(&server), &blob(CONTENT), 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_blob_that_is_always_truncated_is_a_temporary_failure() {
    // Content-Length agrees with the short body, so nothing but the descriptor tells.
    let server = Server::start(|seen| match offset_of(seen) {
        None => Reply::ok(&CONTENT[..9]),
        Some(_) => Reply::ok(b"").status(206).header("Content-Range", "bytes 9-21/22"),
    });
    let error = read(&anonymous(), &reference(&server), &blob(CONTENT), 0).unwrap_err();
    assert!(matches!(error, Error::Truncated { received: 9, size: 22, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Temporary);
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_blob_longer_than_its_descriptor_is_refused() {
    let longer = Server::start(|_| Reply::ok([CONTENT, b"!"].concat()));
    let endless = Server::start(|_| Reply::ok(CONTENT).never_ending());
    for server in [longer, endless] {
        let error = read(&anonymous(), &reference(&server), &blob(CONTENT), 0).unwrap_err();
        assert!(matches!(error, Error::TooLong { limit: 22, .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn a_blob_that_stops_coming_is_given_up() {
    let server = Server::start(|_| Reply::ok(CONTENT).silent_after(3));
    let error = read(&impatient_client(), &reference(&server), &blob(CONTENT), 0).unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error:?}");
}

#[test]
fn an_encoded_body_is_refused() {
    let server = Server::start(|_| Reply::ok(CONTENT).header("Content-Encoding", "gzip"));
    assert!(matches!(read(&anonymous(), &reference(&server), &blob(CONTENT), 0), Err(Error::Protocol { .. })));
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let storage = Server::start(|seen| serve(CONTENT, seen));
    let there = storage.url("/storage?signature=x");
    let server = Server::start(move |_| Reply::empty(307).header("Location", &there));
    assert_eq!(read(&anonymous(), &reference(&server), &blob(CONTENT), 5).unwrap(), &CONTENT[5..]);
    assert_eq!(storage.seen()[0].target, "/storage?signature=x");

    let circle = Server::start(|seen| Reply::empty(302).header("Location", &seen.target));
    let error = read(&anonymous(), &reference(&circle), &blob(CONTENT), 0).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(circle.seen().len(), 11);
}

#[test]
fn redirects_to_where_nothing_is_fetched_are_refused() {
    for place in ["file:///etc/passwd", "ftp://cdn.example/x", "http://192.0.2.1/x", "http://user:pw@127.0.0.1/x"] {
        let server = Server::start(move |_| Reply::empty(302).header("Location", place));
        let error = read(&anonymous(), &reference(&server), &blob(CONTENT), 0).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{place}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}

// CVE-2020-15157
#[test]
fn foreign_urls_on_this_machine_are_not_asked() {
    let metadata = Server::start(|_| Reply::ok(CONTENT));
    let server = Server::start(|_| Reply::empty(404));
    let mut foreign = blob(CONTENT);
    foreign.urls = vec![metadata.url("/x"), format!("https://{}/x", metadata.address)];
    let error = read(&anonymous(), &reference(&server), &foreign, 0).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(metadata.seen().len(), 0);
}
