// SPDX-License-Identifier: Apache-2.0
//! Answers and their bodies, read within bounds of size and time.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::error::printable;
use crate::retry::parse_retry_after;
use crate::transport::{Timeouts, deepest};

const ERROR_BODY_LIMIT: usize = 64 * 1024;
/// A body must bring this many bytes within [`Timeouts::stall`], or it counts as stalled.
const LEAST_PROGRESS: usize = 16 * 1024;

/// An answer whose body has not been read.
pub(crate) struct Response {
    answer: reqwest::Response,
    /// Method and URL, and where it was redirected to.
    pub(crate) request: String,
    /// Whether it comes from the host that was asked.
    pub(crate) at_home: bool,
    timeouts: Timeouts,
}

impl Response {
    pub(crate) fn new(answer: reqwest::Response, request: String, at_home: bool, timeouts: Timeouts) -> Self {
        Self { answer, request, at_home, timeouts }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.answer.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.answer.content_length()
    }

    /// Reads a body that is small by nature, up to `limit` bytes.
    pub(crate) async fn document(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let too_long = |request: &str| Error::TooLong { request: request.to_owned(), limit: limit as u64 };
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_long(&self.request));
        }
        let deadline = Instant::now() + self.timeouts.document;
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk_before(deadline, self.timeouts.document).await? {
            if body.len() + chunk.len() > limit {
                return Err(too_long(&self.request));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The error that an answer other than the expected one is.
    pub(crate) async fn into_error(self) -> Error {
        let (request, status) = (self.request.clone(), self.status());
        let retry_after = self.header(RETRY_AFTER.as_str()).and_then(|text| parse_retry_after(text, SystemTime::now()));
        let mut detail = self.document(ERROR_BODY_LIMIT).await.ok().and_then(|body| reason(&body)).unwrap_or_default();
        if !detail.is_empty() {
            detail.insert_str(0, ": ");
        }
        if let Some(after) = retry_after {
            detail.push_str(&format!(" (retry after {} s)", after.as_secs()));
        }
        Error::Status { request, status, detail, retry_after }
    }

    async fn chunk_before(&mut self, deadline: Instant, waited: Duration) -> Result<Option<Bytes>, Error> {
        match timeout_at(deadline, self.answer.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Error::Exchange { request: self.request.clone(), reason: deepest(&error) }),
            Err(_) => Err(Error::Stalled { request: self.request.clone(), waited }),
        }
    }
}

// What a registry says about an error (distribution-spec, "Error Codes"), or a token server.
fn reason(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value, member: &str| {
        value.get(member).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let first = document.pointer("/errors/0").unwrap_or(&document);
    ["message", "code", "details", "error_description", "error"]
        .iter()
        .find_map(|member| text(first, member))
        .map(|text| printable(&text))
}

/// A body whose progress is watched: it may neither stop nor drip.
pub(crate) struct Watched {
    response: Response,
    /// Bytes since the server last was given new time, and the time that it has left.
    progress: usize,
    patience: Duration,
}

impl Watched {
    pub(crate) fn new(response: Response) -> Self {
        let patience = response.timeouts.stall;
        Self { response, progress: 0, patience }
    }

    pub(crate) fn request(&self) -> &str {
        &self.response.request
    }

    /// The next bytes; `None` at the end of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        // Only the time in here is the server's: the caller may have waited for a slow disk meanwhile.
        let start = Instant::now();
        let stall = self.response.timeouts.stall;
        let chunk = self.response.chunk_before(start + self.patience, stall).await?;
        self.patience = self.patience.saturating_sub(start.elapsed());
        self.progress += chunk.as_ref().map_or(0, Bytes::len);
        if self.progress >= LEAST_PROGRESS {
            self.progress = 0;
            self.patience = stall;
        }
        Ok(chunk)
    }
}
