// SPDX-License-Identifier: Apache-2.0
//! Credentials: how they are asked for, and whom they are never shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ctr_record::{Classify, ErrorKind};

use super::*;

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ="; // user:secret

fn login(server: &Server) -> Credentials {
    Credentials::anonymous().with_login(&server.address.to_string(), "user", "secret")
}

fn fetch(server: &Server, credentials: Credentials) -> Result<crate::Manifest, Error> {
    block_on(client(credentials).fetch_manifest(&reference(server)))
}

/// A registry that wants `Bearer good`, and hands it out itself at `/token`.
fn token_registry(expected_login: Option<&'static str>) -> Server {
    let port = Arc::new(Mutex::new(String::new()));
    let realm = port.clone();
    let server = Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            return match seen.header("authorization") == expected_login {
                true => Reply::ok(r#"{"access_token":"good","expires_in":60}"#),
                false => Reply::ok(r#"{"details":"wrong password"}"#).status(401),
            };
        }
        match seen.header("authorization") {
            Some("Bearer good") => Reply::ok(manifest(&Digest::of(b"layer"))),
            _ => {
                let realm = realm.lock().unwrap();
                let challenge =
                    format!(r#"Bearer realm="{realm}",service="the registry",scope="repository:team/app:pull""#);
                Reply::empty(401)
                    .header("WWW-Authenticate", r#"Basic realm="x, y""#)
                    .header("WWW-Authenticate", &challenge)
            }
        }
    });
    *port.lock().unwrap() = server.url("/token");
    server
}

#[test]
fn a_token_is_fetched_once_and_kept() {
    let server = token_registry(None);
    let (client, reference) = (client(Credentials::anonymous()), reference(&server));
    block_on(async {
        client.fetch_manifest(&reference).await.unwrap();
        client.fetch_manifest(&reference).await.unwrap();
    });
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    let manifest = "/v2/team/app/manifests/1";
    let token = "/token?service=the+registry&scope=repository%3Ateam%2Fapp%3Apull";
    assert_eq!(targets, [manifest, token, manifest, manifest]);
}

#[test]
fn a_login_goes_to_the_realm_as_basic() {
    let server = token_registry(Some(BASIC));
    fetch(&server, login(&server)).unwrap();
    let error = fetch(&server, Credentials::anonymous()).unwrap_err();
    assert!(error.to_string().ends_with("/token: 401 Unauthorized: wrong password"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Denied);
    // The registry itself was never shown the password.
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.target.starts_with("/token") || seen.header("authorization") != Some(BASIC))
    );
}

#[test]
fn an_identity_token_is_traded_in() {
    let realm = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let realm = realm.clone();
        move |seen| match (seen.method.as_str(), seen.header("authorization")) {
            ("POST", None) => Reply::ok(r#"{"token":"good"}"#),
            ("GET", Some("Bearer good")) => Reply::ok(manifest(&Digest::of(b"layer"))),
            _ => Reply::empty(401).header("WWW-Authenticate", &format!(r#"Bearer realm="{}""#, realm.lock().unwrap())),
        }
    });
    *realm.lock().unwrap() = server.url("/token");
    let credentials = Credentials::anonymous().with_login(&server.address.to_string(), "<token>", "idt");
    fetch(&server, credentials).unwrap();
    let posted = server.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(
        posted.body,
        "grant_type=refresh_token&service=&scope=repository%3Ateam%2Fapp%3Apull&client_id=ctr&refresh_token=idt"
    );
}

#[test]
fn basic_alone_is_answered_with_a_login() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some(BASIC) => Reply::ok(manifest(&Digest::of(b"layer"))),
        _ => Reply::empty(401).header("WWW-Authenticate", r#"Basic realm="registry""#),
    });
    fetch(&server, login(&server)).unwrap();
    let error = fetch(&server, Credentials::anonymous()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[test]
fn a_registry_that_always_wants_more_is_denied_an_answer() {
    let tokens = AtomicUsize::new(0);
    let realm = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let realm = realm.clone();
        move |seen| match seen.target.starts_with("/token") {
            true => Reply::ok(format!(r#"{{"token":"t{}"}}"#, tokens.fetch_add(1, Ordering::SeqCst))),
            false => {
                Reply::empty(401).header("WWW-Authenticate", &format!(r#"Bearer realm="{}""#, realm.lock().unwrap()))
            }
        }
    });
    *realm.lock().unwrap() = server.url("/token");
    let error = fetch(&server, Credentials::anonymous()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_token_that_has_expired_is_renewed() {
    let (requests, tokens) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let realm = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let realm = realm.clone();
        move |seen| {
            if seen.target.starts_with("/token") {
                return Reply::ok(format!(r#"{{"token":"t{}"}}"#, tokens.fetch_add(1, Ordering::SeqCst)));
            }
            // Valid once each.
            let valid = format!("Bearer t{}", requests.load(Ordering::SeqCst));
            match seen.header("authorization") == Some(&valid) {
                true => {
                    requests.fetch_add(1, Ordering::SeqCst);
                    Reply::ok(manifest(&Digest::of(b"layer")))
                }
                false => Reply::empty(401)
                    .header("WWW-Authenticate", &format!(r#"Bearer realm="{}""#, realm.lock().unwrap())),
            }
        }
    });
    *realm.lock().unwrap() = server.url("/token");
    let (client, reference) = (client(Credentials::anonymous()), reference(&server));
    block_on(async {
        for _ in 0..3 {
            client.fetch_manifest(&reference).await.unwrap();
        }
    });
}

// CVE-2026-48978
#[test]
fn realms_that_are_no_token_server_are_refused() {
    for realm in ["http://192.0.2.1/token", "https://user:pw@auth.example/", "file:///x", "no url", ""] {
        let server =
            Server::start(move |_| Reply::empty(401).header("WWW-Authenticate", &format!(r#"Bearer realm="{realm}""#)));
        let error = fetch(&server, login(&server)).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{realm}: {error:?}");
        assert_eq!(server.seen().len(), 1, "{realm}");
    }
}

// GHSA-vh4v-2xq2-g5cg
#[test]
fn another_host_is_never_shown_credentials() {
    let elsewhere = Server::start(|seen| match seen.target.as_str() {
        "/back" => Reply::empty(401).header("WWW-Authenticate", r#"Basic realm="x""#),
        _ => Reply::ok(b"layer"),
    });
    for (target, expected) in [("/storage", Ok(())), ("/back", Err(ErrorKind::Denied))] {
        let there = elsewhere.url(target);
        let server = Server::start(move |seen| match seen.header("authorization") {
            Some(BASIC) => Reply::empty(307).header("Location", &there),
            _ => Reply::empty(401).header("WWW-Authenticate", r#"Basic realm="registry""#),
        });
        let outcome = read(&client(login(&server)), &reference(&server), &blob(b"layer"), 0);
        assert_eq!(outcome.map(drop).map_err(|error| error.kind()), expected);
    }
    assert_eq!(elsewhere.seen().len(), 2);
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_way_back_from_elsewhere_does_not_restore_credentials() {
    let home = Arc::new(Mutex::new(String::new()));
    let elsewhere = Server::start({
        let home = home.clone();
        move |_| Reply::empty(302).header("Location", &home.lock().unwrap())
    });
    let there = elsewhere.url("/");
    let server = Server::start(move |seen| match (seen.target.as_str(), seen.header("authorization")) {
        ("/again", None) => Reply::ok(b"layer"),
        ("/again", Some(_)) => Reply::empty(500),
        (_, Some(BASIC)) => Reply::empty(302).header("Location", &there),
        _ => Reply::empty(401).header("WWW-Authenticate", r#"Basic realm="registry""#),
    });
    *home.lock().unwrap() = server.url("/again");
    assert_eq!(read(&client(login(&server)), &reference(&server), &blob(b"layer"), 0).unwrap(), b"layer");
}
