// SPDX-License-Identifier: Apache-2.0
//! The client against registries that misbehave, each a few lines over a socket on loopback.

mod auth;
mod blobs;
mod manifests;
mod server;

use std::time::Duration;

use ctr_record::{Descriptor, Digest, Reference, media_type};

use crate::{Client, Credentials, Error, Options, RetryPolicy, Timeouts};
use server::{Reply, Seen, Server};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A client that pauses hardly at all between its tries.
fn client(credentials: Credentials) -> Client {
    Client::new(Options { credentials, retry: quick(), ..Options::default() })
}

/// A client that soon takes a silent server for a stalled one.
fn impatient_client() -> Client {
    let soon = Duration::from_millis(300);
    let timeouts = Timeouts { document: soon, stall: soon, ..Timeouts::default() };
    Client::new(Options { timeouts, retry: quick(), ..Options::default() })
}

fn quick() -> RetryPolicy {
    RetryPolicy { tries: 4, pause: Duration::from_millis(1), longest: Duration::from_secs(2) }
}

fn reference(server: &Server) -> Reference {
    format!("{}/team/app:1", server.address).parse().unwrap()
}

fn manifest(layer: &Digest) -> String {
    let config = Digest::of(b"config");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":6}},
           "layers":[{{"mediaType":"{}","digest":"{layer}","size":5}}]}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        media_type::OCI_LAYER_GZIP,
    )
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(content), content.len() as u64)
}

/// Everything that the blob's stream gives, from an offset on.
fn read(client: &Client, reference: &Reference, descriptor: &Descriptor, offset: u64) -> Result<Vec<u8>, Error> {
    block_on(async {
        let mut stream = client.fetch_blob(reference, descriptor, offset);
        let mut content = Vec::new();
        while let Some(chunk) = stream.chunk().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    })
}

fn offset_of(seen: &Seen) -> Option<usize> {
    seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Serves a blob as a registry that knows ranges does.
fn serve(content: &[u8], seen: &Seen) -> Reply {
    match offset_of(seen) {
        None => Reply::ok(content),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            Reply::ok(&content[from..]).status(206).header("Content-Range", &range)
        }
    }
}
