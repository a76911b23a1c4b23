// SPDX-License-Identifier: Apache-2.0
//! What a registry was last shown for each repository, and how it is renewed when that is refused.

use std::collections::HashMap;

use ctr_record::Reference;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use crate::challenge::Challenge;
use crate::credentials::{Credentials, Login};
use crate::transport::Transport;
use crate::{Error, token};

/// The Authorization headers in use, by registry and repository.
pub(crate) struct Auth {
    credentials: Credentials,
    in_use: Mutex<HashMap<(String, String), HeaderValue>>,
}

impl Auth {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, in_use: Mutex::new(HashMap::new()) }
    }

    /// What to show for a reference's repository, if it ever asked for something.
    pub(crate) async fn current(&self, reference: &Reference) -> Option<HeaderValue> {
        self.in_use.lock().await.get(&key(reference)).cloned()
    }

    /// Answers challenges to a request that showed `refused`. `None` when there is nothing to show.
    ///
    /// Of requests that are refused at the same time, one fetches a token and the others take it.
    pub(crate) async fn renew(
        &self,
        transport: &Transport,
        registry: &Url,
        reference: &Reference,
        refused: Option<&HeaderValue>,
        challenges: &[Challenge],
    ) -> Result<Option<HeaderValue>, Error> {
        let mut in_use = self.in_use.lock().await;
        if let Some(current) = in_use.get(&key(reference))
            && Some(current) != refused
        {
            return Ok(Some(current.clone()));
        }
        let login = self.login(reference).await?;
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let renewed = match (&login, offered("bearer"), offered("basic")) {
            (Some(Login::RegistryToken(token)), Some(_), _) => token::bearer(token),
            (login, Some(challenge), _) => {
                Some(token::fetch(transport, registry, reference, challenge, login.as_ref()).await?)
            }
            (Some(Login::Password { user, password }), None, Some(_)) => Some(token::basic(user, password)),
            _ => None,
        };
        if let Some(renewed) = &renewed {
            in_use.insert(key(reference), renewed.clone());
        }
        // Showing the same again would be refused again.
        Ok(renewed.filter(|renewed| Some(renewed) != refused))
    }

    // Files and helpers block; the runtime goes on with other transfers meanwhile.
    async fn login(&self, reference: &Reference) -> Result<Option<Login>, Error> {
        let (credentials, reference) = (self.credentials.clone(), reference.clone());
        let found = tokio::task::spawn_blocking(move || credentials.find(&reference)).await;
        found.expect("looking for credentials does not panic")
    }
}

fn key(reference: &Reference) -> (String, String) {
    (reference.domain().to_owned(), reference.path().to_owned())
}
