// SPDX-License-Identifier: Apache-2.0
//! A registry on loopback that serves what it is given, remembers what it was asked, and misbehaves on
//! command.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use ctr_record::Digest;
use serde_json::{Value, json};

use crate::http::{Connection, Response};
use crate::image::Blobs;

pub use crate::http::Request;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What goes wrong with the answer to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status instead, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection is closed after so many bytes of the body that was announced.
    Cut(usize),
    /// Another body, with its own right length.
    Body(Vec<u8>),
    /// The right body under another header.
    Header(&'static str, String),
    /// A body that never ends.
    Endless,
    /// The head of the answer, and then silence.
    Stall,
}

/// Who is let in.
#[derive(Clone, Debug)]
enum Access {
    Anyone,
    Basic(String),
    /// The credentials that the token server asks for, if any.
    Bearer(Option<String>),
}

#[derive(Debug)]
struct State {
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    faults: Vec<(String, VecDeque<Fault>)>,
    access: Access,
    requests: Vec<Request>,
    connections: Vec<TcpStream>,
    stopped: bool,
}

/// A running registry; it ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

// A token that only this server can have issued.
const TOKEN: &str = "a-token-of-the-test-registry";

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics with the lock held")
}

impl Registry {
    /// Starts a registry on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0").expect("loopback has a free port")
    }

    /// Starts a registry on an address, `HOST:PORT`.
    pub fn start_on(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
            faults: Vec::new(),
            access: Access::Anyone,
            requests: Vec::new(),
            connections: Vec::new(),
            stopped: false,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, address, &shared));
        Ok(Self { address, state })
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A reference to an image here.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Serves an image under `repository:tag`, and under its digest.
    pub fn add(&self, repository: &str, tag: &str, blobs: &Blobs) {
        self.add_manifest(repository, tag, MANIFEST, blobs.by_digest[&blobs.manifest].clone());
        lock(&self.state).blobs.extend(blobs.by_digest.clone());
    }

    /// Serves a blob, in every repository.
    pub fn add_blob(&self, blob: Vec<u8>) {
        lock(&self.state).blobs.insert(Digest::of(&blob), blob);
    }

    /// Serves a manifest or an index of any kind, under a tag and under its digest.
    pub fn add_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: Vec<u8>) -> Digest {
        let digest = Digest::of(&manifest);
        let mut state = lock(&self.state);
        for reference in [tag, &digest.to_string()] {
            let key = (repository.to_owned(), reference.to_owned());
            state.manifests.insert(key, (media_type.to_owned(), manifest.clone()));
        }
        digest
    }

    /// Serves an index of several images, each for a platform `(os, architecture)`.
    pub fn add_index(&self, repository: &str, tag: &str, images: &[((&str, &str), &Blobs)]) -> Digest {
        let mut manifests = Vec::new();
        for ((os, architecture), blobs) in images {
            self.add(repository, &format!("{tag}-{os}-{architecture}"), blobs);
            let mut descriptor = blobs.descriptor();
            descriptor["platform"] = json!({ "os": os, "architecture": architecture });
            manifests.push(descriptor);
        }
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        self.add_manifest(repository, tag, media_type, index.to_string().into_bytes())
    }

    /// Spoils the answers to the next requests whose path contains `path`, one fault each.
    pub fn spoil(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.state).faults.push((path.to_owned(), faults.into_iter().collect()));
    }

    /// Asks for basic credentials.
    pub fn require_basic(&self, user: &str, password: &str) {
        lock(&self.state).access = Access::Basic(base64(&format!("{user}:{password}")));
    }

    /// Asks for a bearer token, which its own `/token` gives to anyone, or to who has the credentials.
    pub fn require_bearer(&self, credentials: Option<(&str, &str)>) {
        let credentials = credentials.map(|(user, password)| base64(&format!("{user}:{password}")));
        lock(&self.state).access = Access::Bearer(credentials);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    /// How many GET requests for blobs there were so far.
    pub fn blob_requests(&self) -> usize {
        let is_blob = |request: &&Request| request.method == "GET" && request.path.contains("/blobs/");
        lock(&self.state).requests.iter().filter(is_blob).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, address: SocketAddr, state: &Arc<Mutex<State>>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let mut guard = lock(state);
        if guard.stopped {
            return;
        }
        guard.connections.extend(stream.try_clone());
        let state = Arc::clone(state);
        thread::spawn(move || {
            let mut connection = Connection::new(stream);
            // A client that goes away in the middle is no failure of the registry.
            let _ = serve(&mut connection, address, &state);
            let _ = connection.output().shutdown(Shutdown::Both);
        });
    }
}

fn serve(connection: &mut Connection, address: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    connection.output().set_nodelay(true)?;
    while let Some(request) = connection.request()? {
        let mut guard = lock(state);
        guard.requests.push(request.clone());
        let response = answer(&guard, address, &request);
        let spoiled = |(path, faults): &mut (String, VecDeque<Fault>)| {
            if request.path.contains(path.as_str()) { faults.pop_front() } else { None }
        };
        let fault = guard.faults.iter_mut().find_map(spoiled);
        drop(guard);
        match fault {
            None => connection.respond(&request, &response)?,
            Some(Fault::Status(status, headers)) => {
                let add = |response: Response, (name, value): &(&str, String)| response.header(name, value);
                connection.respond(&request, &headers.iter().fold(Response::new(status), add))?;
            }
            Some(Fault::Cut(after)) => {
                connection.output().write_all(&response.head(Some(response.body.len())))?;
                connection.output().write_all(&response.body[..after.min(response.body.len())])?;
                return Ok(());
            }
            Some(Fault::Body(body)) => connection.respond(&request, &Response { body, ..response })?,
            Some(Fault::Header(name, value)) => connection.respond(&request, &response.header(name, value))?,
            Some(Fault::Endless) => {
                connection.output().write_all(&response.head(None))?;
                loop {
                    connection.output().write_all(format!("1000\r\n{:4096}\r\n", "").as_bytes())?;
                }
            }
            Some(Fault::Stall) => {
                connection.output().write_all(&response.head(Some(response.body.len())))?;
                while !lock(state).stopped {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
    Ok(())
}

fn answer(state: &State, address: SocketAddr, request: &Request) -> Response {
    let given = request.header("authorization");
    if request.path == "/token" {
        return match &state.access {
            Access::Bearer(Some(wanted)) if given != Some(&format!("Basic {wanted}")) => error(401, "UNAUTHORIZED"),
            _ => Response::new(200).body("application/json", json!({ "token": TOKEN, "expires_in": 300 }).to_string()),
        };
    }
    let challenge = match &state.access {
        Access::Anyone => None,
        Access::Basic(wanted) if given == Some(&format!("Basic {wanted}")) => None,
        Access::Basic(_) => Some("Basic realm=\"a test\"".to_owned()),
        Access::Bearer(_) if given == Some(&format!("Bearer {TOKEN}")) => None,
        Access::Bearer(_) => Some(format!("Bearer realm=\"http://{address}/token\",service=\"the test, a registry\"")),
    };
    if let Some(challenge) = challenge {
        return error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge);
    }
    if request.path == "/v2/" {
        return Response::new(200).body("application/json", "{}");
    }
    let Some(path) = request.path.strip_prefix("/v2/") else { return error(404, "NOT_FOUND") };
    if let Some((repository, reference)) = path.rsplit_once("/manifests/") {
        let key = (repository.to_owned(), reference.to_owned());
        return match state.manifests.get(&key) {
            None => error(404, "MANIFEST_UNKNOWN"),
            Some((media_type, manifest)) => Response::new(200)
                .header("Docker-Content-Digest", Digest::of(manifest))
                .body(media_type, manifest.clone()),
        };
    }
    let blob = path.rsplit_once("/blobs/").and_then(|(_, digest)| state.blobs.get(&digest.parse().ok()?));
    match blob {
        None => error(404, "BLOB_UNKNOWN"),
        Some(blob) => serve_blob(blob, request.header("range")),
    }
}

fn serve_blob(blob: &[u8], range: Option<&str>) -> Response {
    const BYTES: &str = "application/octet-stream";
    let bounds = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = bounds else { return Response::new(200).body(BYTES, blob) };
    let last = last.parse().unwrap_or(usize::MAX).min(blob.len().saturating_sub(1));
    match first.parse::<usize>() {
        Ok(first) if first <= last && first < blob.len() => Response::new(206)
            .header("Content-Range", format!("bytes {first}-{last}/{}", blob.len()))
            .body(BYTES, &blob[first..=last]),
        _ => Response::new(416),
    }
}

fn error(status: u16, code: &str) -> Response {
    let errors: Value = json!({ "errors": [{ "code": code, "message": "says the test registry" }] });
    Response::new(status).body("application/json", errors.to_string())
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            encoded.push(if at <= chunk.len() { digit.into() } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_credentials_as_rfc_7617_does() {
        assert_eq!(base64("Aladdin:open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(base64("abc"), "YWJj");
        assert_eq!(base64("ab"), "YWI=");
    }
}
