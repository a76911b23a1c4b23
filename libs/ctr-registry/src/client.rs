// SPDX-License-Identifier: Apache-2.0
//! The client: manifests, and the one way in which every request is authorised and retried.

use std::path::PathBuf;
use std::sync::Arc;

use ctr_record::{Descriptor, Digest, Reference, media_type};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};

use crate::auth::Auth;
use crate::challenge::{self, Challenge};
use crate::endpoint::Purpose;
use crate::response::Response;
use crate::retry::Retry;
use crate::transport::{Request, Timeouts, Transport};
use crate::{BlobStream, Credentials, Error, MANIFEST_LIMIT, Manifest, RetryPolicy};

/// How a [`Client`] behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// PEM files with certificate authorities that are trusted besides the system's. Where there is
    /// one, registries on loopback addresses speak https as well.
    pub authorities: Vec<PathBuf>,
    /// Speak plain http to every registry, not to those on loopback addresses only.
    pub plain_http: bool,
    /// Where credentials come from.
    pub credentials: Credentials,
    /// How long servers may take.
    pub timeouts: Timeouts,
    /// How often failures are retried.
    pub retry: RetryPolicy,
}

/// A client of any number of registries. Clones share connections and tokens.
///
/// Its futures run on a tokio runtime with time and I/O enabled.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Transport,
    auth: Auth,
    retry: RetryPolicy,
}

impl Client {
    /// A client that has not contacted anything yet.
    pub fn new(options: Options) -> Self {
        let transport = Transport::new(options.authorities, options.plain_http, options.timeouts);
        let auth = Auth::new(options.credentials);
        Self { shared: Arc::new(Shared { transport, auth, retry: options.retry }) }
    }

    /// Fetches the manifest or index that a reference names (distribution-spec, "Pulling manifests").
    ///
    /// The digest is checked where the reference or the registry names one.
    pub async fn fetch_manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        let version = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.expect("a reference has a tag or a digest").to_owned(),
        };
        self.retrying(async || self.try_manifest(reference, &version, reference.digest()).await).await
    }

    /// Fetches what a descriptor in an index of the same repository names.
    pub async fn fetch_described_manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Manifest, Error> {
        let digest = &descriptor.digest;
        let version = digest.to_string();
        self.retrying(async || {
            let manifest = self.try_manifest(reference, &version, Some(digest)).await?;
            let request = self.manifest_request(reference, &version).name();
            manifest.check_described(descriptor).map_err(|source| Error::Manifest { request, source })?;
            Ok(manifest)
        })
        .await
    }

    /// Begins to fetch a blob at a byte offset. Nothing is sent before the first chunk is asked for.
    pub fn fetch_blob(&self, reference: &Reference, descriptor: &Descriptor, offset: u64) -> BlobStream {
        BlobStream::new(self.clone(), reference.clone(), descriptor.clone(), offset)
    }

    async fn try_manifest(
        &self,
        reference: &Reference,
        version: &str,
        digest: Option<&Digest>,
    ) -> Result<Manifest, Error> {
        let response = self.ask(reference, self.manifest_request(reference, version)).await?;
        if response.status() != StatusCode::OK {
            return Err(response.into_error().await);
        }
        let request = response.request.clone();
        let media_type = response.header(CONTENT_TYPE.as_str()).map(str::to_owned);
        // An algorithm that is not known here cannot be checked; the bytes are then named by sha256.
        let announced = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        let body = response.document(MANIFEST_LIMIT).await?;
        Manifest::parse(body, digest.or(announced.as_ref()), media_type.as_deref())
            .map_err(|source| Error::Manifest { request, source })
    }

    fn manifest_request(&self, reference: &Reference, version: &str) -> Request {
        let mut request = self.request(reference, &format!("manifests/{version}"));
        for accepted in
            [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST]
        {
            request.headers.push((ACCEPT, HeaderValue::from_static(accepted)));
        }
        request
    }

    /// A GET of something in a reference's repository.
    pub(crate) fn request(&self, reference: &Reference, path: &str) -> Request {
        let registry = self.root(reference);
        let url = registry.join(&format!("{}/{path}", reference.path())).expect("repository names fit into URLs");
        Request::get(url, Purpose::Content { registry })
    }

    fn root(&self, reference: &Reference) -> Url {
        self.shared.transport.schemes.root(reference)
    }

    /// Makes a request of a reference's registry, with credentials if it asks for some.
    ///
    /// Credentials that are refused are renewed once; a second refusal is the answer.
    pub(crate) async fn ask(&self, reference: &Reference, mut request: Request) -> Result<Response, Error> {
        let Shared { transport, auth, .. } = &*self.shared;
        request.authorization = auth.current(reference).await;
        let response = transport.send(&request).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !response.at_home {
            return Ok(response);
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        // Reading the body to its end keeps the connection.
        let refusal = response.into_error().await;
        let refused = request.authorization.as_ref();
        let renewed = auth.renew(transport, &self.root(reference), reference, refused, &challenges).await?;
        match renewed {
            Some(renewed) => request.authorization = Some(renewed),
            None => return Err(refusal),
        }
        transport.send(&request).await
    }

    /// Makes a request that a manifest asked for, of anyone, without credentials.
    pub(crate) async fn ask_stranger(&self, request: &Request) -> Result<Response, Error> {
        self.shared.transport.send(request).await
    }

    /// The tries of a new request.
    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.shared.retry)
    }

    async fn retrying<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut retry = self.retry();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => match retry.pause_after(&error) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
            }
        }
    }
}
