// SPDX-License-Identifier: Apache-2.0
//! Manifests: what is refused, and what is tried again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ctr_record::{Classify, ErrorKind};

use super::*;
use crate::{Content, InvalidManifest, MANIFEST_LIMIT, Manifest};

fn fetch(server: &Server) -> Result<Manifest, Error> {
    block_on(client(Credentials::anonymous()).fetch_manifest(&reference(server)))
}

#[test]
fn a_tag_is_one_request() {
    let text = manifest(&Digest::of(b"layer"));
    let digest = Digest::of(text.as_bytes());
    let server = Server::start({
        let text = text.clone();
        move |_| Reply::ok(&text).header("Content-Type", media_type::OCI_MANIFEST)
    });
    let manifest = fetch(&server).unwrap();
    assert_eq!(manifest.bytes(), text.as_bytes());
    assert_eq!(manifest.descriptor().digest, digest);
    assert!(matches!(manifest.content(), Content::Image(image) if image.layers.len() == 1));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("GET", "/v2/team/app/manifests/1"));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    assert_eq!(seen[0].header("authorization"), None);
}

#[test]
fn an_error_names_the_request_and_says_what_the_registry_said() {
    let body = "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest\\u001b[2J\\nunknown\"}]}";
    let server = Server::start(move |_| Reply::ok(body).status(404));
    let error = fetch(&server).unwrap_err();
    let url = server.url("/v2/team/app/manifests/1");
    assert_eq!(error.to_string(), format!("GET {url}: 404 Not Found: manifest [2J unknown"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(server.seen().len(), 1);
}

// GHSA-qv35-3gw6-8q4j
#[test]
fn another_manifest_for_a_pinned_digest_is_refused() {
    let text = manifest(&Digest::of(b"layer"));
    let server = Server::start(move |_| Reply::ok(&text));
    let pinned: Reference = format!("{}/team/app@{}", server.address, Digest::of(b"pinned")).parse().unwrap();
    let error = block_on(client(Credentials::anonymous()).fetch_manifest(&pinned)).unwrap_err();
    assert!(matches!(error, Error::Manifest { source: InvalidManifest::Digest { .. }, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_tag_must_have_the_digest_that_the_registry_announces() {
    let text = manifest(&Digest::of(b"layer"));
    let announced = Digest::of(b"another").to_string();
    let server = Server::start(move |_| Reply::ok(&text).header("Docker-Content-Digest", &announced));
    assert_eq!(fetch(&server).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_manifest_in_an_index_must_be_as_described() {
    let text = manifest(&Digest::of(b"layer"));
    let mut described = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(text.as_bytes()), text.len() as u64);
    let server = Server::start(move |_| Reply::ok(&text));
    let (client, reference) = (client(Credentials::anonymous()), reference(&server));
    let fetch = |descriptor: &Descriptor| block_on(client.fetch_described_manifest(&reference, descriptor));
    assert!(fetch(&described).is_ok());
    described.size += 1;
    assert!(matches!(fetch(&described), Err(Error::Manifest { source: InvalidManifest::Size { .. }, .. })));
    described.size -= 1;
    described.media_type = media_type::OCI_INDEX.to_owned();
    assert!(matches!(fetch(&described), Err(Error::Manifest { source: InvalidManifest::Ambiguous(_), .. })));
}

#[test]
fn schema_1_and_ambiguous_manifests_are_refused() {
    let schema1 = Server::start(|_| Reply::ok(r#"{"schemaVersion":1,"fsLayers":[]}"#));
    assert!(matches!(fetch(&schema1), Err(Error::Manifest { source: InvalidManifest::Schema1, .. })));
    let text = manifest(&Digest::of(b"layer"));
    let confused = Server::start(move |_| Reply::ok(&text).header("Content-Type", media_type::OCI_INDEX));
    assert!(matches!(fetch(&confused), Err(Error::Manifest { source: InvalidManifest::Ambiguous(_), .. })));
}

#[test]
fn endless_and_oversized_manifests_are_cut_off() {
    let endless = Server::start(|_| Reply::ok("{").never_ending());
    assert!(matches!(fetch(&endless), Err(Error::TooLong { .. })));
    let oversized = Server::start(|_| Reply::ok(vec![b' '; MANIFEST_LIMIT + 1]));
    assert!(matches!(fetch(&oversized), Err(Error::TooLong { .. })));
}

#[test]
fn a_manifest_that_stops_coming_is_given_up() {
    let server = Server::start(|_| Reply::ok("{\"schemaVersion\":2}").silent_after(5));
    let error = block_on(impatient_client().fetch_manifest(&reference(&server))).unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Temporary);
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let text = manifest(&Digest::of(b"layer"));
    let requests = AtomicUsize::new(0);
    let server = Server::start(move |_| match requests.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::empty(429).header("Retry-After", "1"),
        1 => Reply::empty(503),
        2 => Reply::ok(&text).cut_after(10),
        _ => Reply::ok(&text),
    });
    let start = Instant::now();
    fetch(&server).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_registry_that_stays_busy_is_a_temporary_failure() {
    let storm = Server::start(|_| Reply::empty(429));
    let error = fetch(&storm).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary);
    assert_eq!(storm.seen().len(), 4);
    let later = Server::start(|_| Reply::empty(503).header("Retry-After", "86400"));
    let error = fetch(&later).unwrap_err().to_string();
    assert!(error.ends_with("503 Service Unavailable (retry after 86400 s)"), "{error}");
    assert_eq!(later.seen().len(), 1);
}

#[test]
fn a_registry_that_is_down_is_a_temporary_failure() {
    let reference = reference(&Server::start(|_| Reply::empty(200)));
    let error = block_on(client(Credentials::anonymous()).fetch_manifest(&reference)).unwrap_err();
    assert!(error.to_string().ends_with("/v2/team/app/manifests/1: connection refused"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Temporary);
}

#[test]
fn an_authority_that_is_none_is_refused_before_anything_is_sent() {
    let server = Server::start(|_| Reply::empty(200));
    let authority = std::env::temp_dir().join(format!("ctr-registry-{}.pem", std::process::id()));
    std::fs::write(&authority, "no certificate").unwrap();
    let options = Options { authorities: vec![authority.clone()], ..Options::default() };
    let error = block_on(Client::new(options).fetch_manifest(&reference(&server))).unwrap_err();
    std::fs::remove_file(authority).unwrap();
    assert!(matches!(error, Error::Authority { .. }), "{error:?}");
    assert_eq!(server.seen().len(), 0);
}
