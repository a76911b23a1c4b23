// SPDX-License-Identifier: Apache-2.0
//! Where an image comes from, opened: a registry or a layout, with one way to ask either.

use std::cell::RefCell;
use std::sync::Arc;

use ctr_cli::Error;
use ctr_record::{Descriptor, Platform, Reference};
use ctr_registry::{Client, Credentials, MANIFEST_LIMIT, Manifest, Options};
use ctr_store::content::ContentStore;

use crate::args::Args;
use crate::layout::Layout;
use crate::request::Source;

/// An opened source.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A repository of a registry.
    Registry { client: Client, reference: Reference },
    /// An image layout.
    Layout(Arc<Layout>),
}

impl Origin {
    /// The manifest or index that the source names.
    ///
    /// What is named by its digest and in the store already is not asked for again.
    pub(crate) async fn resolve(&self, store: &ContentStore) -> Result<Manifest, Error> {
        match self {
            Self::Registry { client, reference } => {
                if let Some(digest) = reference.digest()
                    && let Some(bytes) = store.read_blob(digest, MANIFEST_LIMIT as u64)?
                {
                    return Ok(Manifest::parse(bytes, Some(digest), None)?);
                }
                Ok(client.fetch_manifest(reference).await?)
            }
            Self::Layout(layout) => self.manifest(store, layout.entry()).await,
        }
    }

    /// The manifest or index that a descriptor names, from the store if it is there.
    pub(crate) async fn manifest(&self, store: &ContentStore, descriptor: &Descriptor) -> Result<Manifest, Error> {
        if let Some(bytes) = store.read_blob(&descriptor.digest, MANIFEST_LIMIT as u64)? {
            let manifest = Manifest::parse(bytes, Some(&descriptor.digest), Some(&descriptor.media_type))?;
            manifest.check_described(descriptor)?;
            return Ok(manifest);
        }
        match self {
            Self::Registry { client, reference } => Ok(client.fetch_described_manifest(reference, descriptor).await?),
            Self::Layout(layout) => Ok(layout.manifest(descriptor)?),
        }
    }
}

/// The registries that are spoken to, with one client for all of them.
pub(crate) struct Registries {
    options: Options,
    login: Option<(String, String)>,
    client: RefCell<Option<(Client, String)>>,
}

impl Registries {
    pub(crate) fn new(args: &Args) -> Result<Self, Error> {
        let options = Options {
            authorities: args.ca.clone(),
            plain_http: args.plain_http,
            credentials: Credentials::from_env(),
            ..Options::default()
        };
        Ok(Self { options, login: args.login()?, client: RefCell::new(None) })
    }

    /// Opens a source, for one manifest in it if that is pinned.
    pub(crate) fn open(
        &self,
        source: &Source,
        pinned: Option<&Descriptor>,
        platform: &Platform,
    ) -> Result<Origin, Error> {
        match source {
            Source::Registry(reference) => {
                let client = self.client(reference)?;
                let reference = match pinned {
                    None => reference.clone(),
                    Some(pinned) => format!("{}/{}@{}", reference.domain(), reference.path(), pinned.digest).parse()?,
                };
                Ok(Origin::Registry { client, reference })
            }
            Source::Layout { directory, name } => {
                Ok(Origin::Layout(Arc::new(Layout::open(directory, name.as_deref(), pinned, platform)?)))
            }
        }
    }

    fn client(&self, reference: &Reference) -> Result<Client, Error> {
        let mut client = self.client.borrow_mut();
        let (client, domain) = client.get_or_insert_with(|| {
            let mut options = self.options.clone();
            if let Some((user, password)) = &self.login {
                options.credentials = options.credentials.with_login(reference.domain(), user, password);
            }
            (Client::new(options), reference.domain().to_owned())
        });
        // A login is for one registry; which one, the first reference says.
        if self.login.is_some() && domain != reference.domain() {
            return Err(Error::misuse(format!("--user is for {domain}, not for {}", reference.domain())));
        }
        Ok(client.clone())
    }
}
