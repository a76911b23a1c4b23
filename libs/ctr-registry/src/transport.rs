// SPDX-License-Identifier: Apache-2.0
//! One HTTP request and its answer: connections, timeouts and redirects. The only user of reqwest's
//! clients; retries, credentials and meaning are left to the callers.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Certificate, Method, StatusCode, Url};
use tokio::time::timeout;

use crate::Error;
use crate::address::is_loopback;
use crate::endpoint::{Purpose, Schemes};
use crate::error::printable;
use crate::response::Response;

const REDIRECTS: usize = 10;

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To accept a connection, TLS included.
    pub connect: Duration,
    /// To begin its answer.
    pub answer: Duration,
    /// To send a whole manifest, token or error.
    pub document: Duration,
    /// To send the next 16 KiB of a blob.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { connect: Duration::from_secs(10), answer: minute, document: minute, stall: minute }
    }
}

/// The HTTP clients, each made when it is first needed: TLS costs milliseconds to set up.
pub(crate) struct Transport {
    pub(crate) schemes: Schemes,
    authorities: Vec<PathBuf>,
    timeouts: Timeouts,
    plain: OnceLock<reqwest::Client>,
    secure: OnceLock<reqwest::Client>,
    plain_here: OnceLock<reqwest::Client>,
    secure_here: OnceLock<reqwest::Client>,
}

/// A request to be made.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) purpose: Purpose,
    /// Headers that every host on the way may see.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Seen by the URL's own host only.
    pub(crate) authorization: Option<HeaderValue>,
    /// Sent to the URL's own host only.
    pub(crate) form: Option<String>,
}

impl Request {
    pub(crate) fn get(url: Url, purpose: Purpose) -> Self {
        Self { method: Method::GET, url, purpose, headers: Vec::new(), authorization: None, form: None }
    }

    /// Method and URL, as errors name it. Queries are left out: they hold signatures and scopes.
    pub(crate) fn name(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        format!("{} {url}", self.method)
    }
}

impl Transport {
    pub(crate) fn new(authorities: Vec<PathBuf>, plain_http: bool, timeouts: Timeouts) -> Self {
        Self {
            schemes: Schemes { plain_http, authority: !authorities.is_empty() },
            authorities,
            timeouts,
            plain: OnceLock::new(),
            secure: OnceLock::new(),
            plain_here: OnceLock::new(),
            secure_here: OnceLock::new(),
        }
    }

    /// Makes a request once and follows its redirects. Any status of the last answer is a success here.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, Error> {
        let refused = |url: &Url, rule| Error::Refused { request: request.name(), target: place(url), rule };
        let mut url = request.url.clone();
        let mut name = request.name();
        let mut at_home = true;
        for _ in 0..=REDIRECTS {
            request.purpose.allows(self.schemes, &url).map_err(|rule| refused(&url, rule))?;
            let answer = self.exchange(request, &url, at_home, &name).await?;
            if !is_redirect(answer.status()) {
                return Ok(Response::new(answer, name, at_home, self.timeouts));
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let rule = "the redirect names no location";
            let location = location.ok_or_else(|| Error::Protocol { request: name.clone(), rule })?;
            let next = url.join(location).map_err(|_| refused(&url, "the location it redirects to is no URL"))?;
            if request.form.is_some() {
                return Err(refused(&next, "what is posted is posted to one place"));
            }
            // Once elsewhere, a way back does not restore the credentials (GHSA-vh4v-2xq2-g5cg).
            at_home &= next.origin() == request.url.origin();
            if !at_home {
                name = format!("{} (redirected to {})", request.name(), place(&next));
            }
            url = next;
        }
        Err(refused(&url, "there were too many redirects"))
    }

    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        at_home: bool,
        name: &str,
    ) -> Result<reqwest::Response, Error> {
        let mut headers = HeaderMap::new();
        // A blob is hashed, resumed and counted as it is stored.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(request.headers.iter().cloned());
        if let (true, Some(authorization)) = (at_home, &request.authorization) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut builder = self.client(url)?.request(request.method.clone(), url.clone()).headers(headers);
        if let Some(form) = &request.form {
            builder = builder.body(form.clone());
        }
        let waited = self.timeouts.answer;
        match timeout(waited, builder.send()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(transport_error(name, &error)),
            Err(_) => Err(Error::Stalled { request: name.to_owned(), waited }),
        }
    }

    fn client(&self, url: &Url) -> Result<&reqwest::Client, Error> {
        let secure = url.scheme() == "https";
        let here = is_loopback(url.host_str().unwrap_or_default());
        let slot = match (secure, here) {
            (false, false) => &self.plain,
            (true, false) => &self.secure,
            (false, true) => &self.plain_here,
            (true, true) => &self.secure_here,
        };
        if slot.get().is_none() {
            let _ = slot.set(self.build_client(secure, here)?);
        }
        Ok(slot.get().expect("it has just been set"))
    }

    fn build_client(&self, secure: bool, here: bool) -> Result<reqwest::Client, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ctr/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.timeouts.connect)
            // Layers come over connections of their own: one HTTP/2 connection's window would throttle them.
            .http1_only();
        if here {
            builder = builder.no_proxy();
        }
        builder = match secure {
            true => builder.tls_certs_merge(self.read_authorities()?),
            false => builder.tls_certs_only([]),
        };
        builder.build().map_err(|error| Error::TlsSetup(deepest(&error)))
    }

    fn read_authorities(&self) -> Result<Vec<Certificate>, Error> {
        let mut certificates = Vec::new();
        for path in &self.authorities {
            let error = |source| Error::Authority { path: path.clone(), source };
            let invalid = |reason: &str| error(std::io::Error::new(std::io::ErrorKind::InvalidData, reason.to_owned()));
            let pem = std::fs::read(path).map_err(error)?;
            let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| invalid(&deepest(&error)))?;
            if bundle.is_empty() {
                return Err(invalid("there is no PEM certificate in it"));
            }
            certificates.extend(bundle);
        }
        Ok(certificates)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

// Scheme, host and port; the rest of a URL may be a signature.
fn place(url: &Url) -> String {
    printable(&url.origin().ascii_serialization())
}

fn transport_error(request: &str, error: &reqwest::Error) -> Error {
    let (request, reason) = (request.to_owned(), deepest(error));
    if error.is_connect() && has_invalid_data(error) {
        return Error::Tls { request, reason };
    }
    match error.is_connect() {
        true => Error::Connect { request, reason },
        false => Error::Exchange { request, reason },
    }
}

// rustls reports what is wrong with a certificate or a record as an io::Error of this kind, which the
// connector wraps into another one; that one's source is not the error that it wraps.
fn has_invalid_data(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let mut io = error.downcast_ref::<std::io::Error>();
        while let Some(error) = io {
            if error.kind() == std::io::ErrorKind::InvalidData {
                return true;
            }
            io = error.get_ref().and_then(|inner| inner.downcast_ref());
        }
        cause = error.source();
    }
    false
}

/// The cause at the end of the chain: the layers above it only say that sending or connecting failed.
pub(crate) fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    let text = match text.split(" (os error").next().unwrap_or_default() {
        // What openssl's req -x509 makes, used as it is.
        text if text.contains("CaUsedAsEndEntity") => {
            "the server shows a certificate authority's certificate as its own"
        }
        text => text,
    };
    let mut characters = printable(text).chars().collect::<Vec<_>>();
    if let [first, second, ..] = characters.as_mut_slice()
        && second.is_lowercase()
    {
        first.make_ascii_lowercase();
    }
    characters.into_iter().collect()
}
