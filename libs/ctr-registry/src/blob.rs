// SPDX-License-Identifier: Apache-2.0
//! Blobs as streams: bounded by their descriptor, resumed where they broke off.
//!
//! The bytes are not hashed here: who stores them hashes what is stored.

use bytes::{Buf, Bytes};
use ctr_record::{Descriptor, Reference};
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{StatusCode, Url};

use crate::endpoint::Purpose;
use crate::response::{Response, Watched};
use crate::retry::Retry;
use crate::transport::Request;
use crate::{Client, Error};

/// Failures count anew after this many bytes without one.
const FORGIVEN_AFTER: u64 = 1 << 20;

/// A blob on its way. It ends after exactly the descriptor's size, or with an error.
pub struct BlobStream {
    client: Client,
    reference: Reference,
    descriptor: Descriptor,
    /// Bytes of the blob that the caller has.
    position: u64,
    /// Bytes still to come that the caller has already, from a server that does not do ranges.
    repeated: u64,
    body: Option<Watched>,
    retry: Retry,
    since_failure: u64,
}

impl BlobStream {
    pub(crate) fn new(client: Client, reference: Reference, descriptor: Descriptor, offset: u64) -> Self {
        let retry = client.retry();
        Self { client, reference, descriptor, position: offset, repeated: 0, body: None, retry, since_failure: 0 }
    }

    /// The next bytes; `None` once the blob is complete.
    ///
    /// A connection that breaks is replaced and the blob resumed with a range request, as often as
    /// the retry policy allows. A body that is too long is an error as soon as it is.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.try_chunk().await {
                Ok(chunk) => return Ok(chunk),
                Err(error) => {
                    self.body = None;
                    self.since_failure = 0;
                    match self.retry.pause_after(&error) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(error),
                    }
                }
            }
        }
    }

    async fn try_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let size = self.descriptor.size;
        loop {
            if self.position >= size {
                return self.end().await;
            }
            if self.body.is_none() {
                self.body = Some(self.open().await?);
            }
            let body = self.body.as_mut().expect("it has just been opened");
            let Some(mut chunk) = body.chunk().await? else {
                return Err(Error::Truncated { request: body.request().to_owned(), received: self.position, size });
            };
            let repeated = self.repeated.min(chunk.len() as u64);
            self.repeated -= repeated;
            chunk.advance(repeated as usize);
            if chunk.len() as u64 > size - self.position {
                return Err(Error::TooLong { request: body.request().to_owned(), limit: size });
            }
            if chunk.is_empty() {
                continue;
            }
            self.position += chunk.len() as u64;
            self.since_failure += chunk.len() as u64;
            if self.since_failure >= FORGIVEN_AFTER {
                self.retry.forget_failures();
            }
            return Ok(Some(chunk));
        }
    }

    // Everything is there; a body that goes on all the same belongs to another blob.
    async fn end(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(mut body) = self.body.take()
            && let Ok(Some(chunk)) = body.chunk().await
            && !chunk.is_empty()
        {
            return Err(Error::TooLong { request: body.request().to_owned(), limit: self.descriptor.size });
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<Watched, Error> {
        let mut request = self.client.request(&self.reference, &format!("blobs/{}", self.descriptor.digest));
        self.ask_for_rest(&mut request);
        let response = self.client.ask(&self.reference, request).await?;
        match response.status() {
            StatusCode::NOT_FOUND if !self.descriptor.urls.is_empty() => {
                let refusal = response.into_error().await;
                self.open_elsewhere(refusal).await
            }
            _ => self.check(response).await,
        }
    }

    // Layers that a registry may not distribute are at the URLs that the manifest names. They come
    // from strangers: no credentials (CVE-2020-15157), public addresses, https.
    async fn open_elsewhere(&mut self, mut failure: Error) -> Result<Watched, Error> {
        for url in self.descriptor.urls.clone() {
            let Ok(url) = Url::parse(&url) else { continue };
            let mut request = Request::get(url, Purpose::Foreign);
            self.ask_for_rest(&mut request);
            let outcome = match self.client.ask_stranger(&request).await {
                Ok(response) => self.check(response).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(body) => return Ok(body),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn ask_for_rest(&self, request: &mut Request) {
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position)).expect("digits are plain ASCII");
            request.headers.push((RANGE, range));
        }
    }

    async fn check(&mut self, response: Response) -> Result<Watched, Error> {
        let broken = |rule| Err(Error::Protocol { request: response.request.clone(), rule });
        let size = self.descriptor.size;
        let expected = match response.status() {
            StatusCode::OK => {
                self.repeated = self.position;
                size
            }
            StatusCode::PARTIAL_CONTENT if self.position > 0 => {
                let range = response.header(CONTENT_RANGE.as_str()).unwrap_or_default();
                if !continues(range, self.position, size) {
                    return broken("the range that came is not the range that was asked for");
                }
                self.repeated = 0;
                size - self.position
            }
            StatusCode::RANGE_NOT_SATISFIABLE if self.position > 0 => {
                return broken("the blob is shorter than its descriptor says");
            }
            status if status.is_success() => return broken("this is not the answer to a request for a blob"),
            _ => return Err(response.into_error().await),
        };
        if response.header(CONTENT_ENCODING.as_str()).is_some_and(|encoding| encoding != "identity") {
            return broken("the body is encoded, which was not asked for");
        }
        if response.content_length().is_some_and(|length| length > expected) {
            return Err(Error::TooLong { request: response.request.clone(), limit: size });
        }
        Ok(Watched::new(response))
    }
}

// Content-Range: bytes FIRST-LAST/SIZE, where SIZE may be * (RFC 9110, section 14.4).
fn continues(range: &str, position: u64, size: u64) -> bool {
    let parsed = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).and_then(|(range, total)| {
        let (first, _) = range.split_once('-')?;
        Some((first.trim().parse::<u64>().ok()?, total.trim()))
    });
    parsed.is_some_and(|(first, total)| first == position && (total == "*" || total.parse() == Ok(size)))
}

#[cfg(test)]
mod tests {
    use super::continues;

    #[test]
    fn a_range_must_continue_the_blob() {
        assert!(continues("bytes 5-9/10", 5, 10));
        assert!(continues("bytes 5-7/*", 5, 10));
        for bad in ["", "bytes 0-9/10", "bytes 5-9/11", "bytes */10", "items 5-9/10", "bytes 5", "bytes -5/10"] {
            assert!(!continues(bad, 5, 10), "{bad}");
        }
    }
}
