// SPDX-License-Identifier: Apache-2.0
//! Bearer tokens: asked of the realm that the registry names, for one repository.

use ctr_record::Reference;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::Login;
use crate::endpoint::Purpose;
use crate::error::printable;
use crate::transport::{Request, Transport};
use crate::{Error, base64};

const TOKEN_LIMIT: usize = 1 << 20;

/// Asks for a token as a Bearer challenge says; the value of the Authorization header it makes.
///
/// A name and password go along as Basic credentials; an identity token is traded in by OAuth 2.
pub(crate) async fn fetch(
    transport: &Transport,
    registry: &Url,
    reference: &Reference,
    challenge: &Challenge,
    login: Option<&Login>,
) -> Result<HeaderValue, Error> {
    let asked = format!("GET {registry}");
    let realm = challenge.parameter("realm").unwrap_or_default();
    let realm = Url::parse(realm).map_err(|_| Error::Refused {
        request: asked,
        target: printable(realm),
        rule: "the realm that the registry names for tokens is no URL",
    })?;
    let scope = match challenge.parameter("scope") {
        Some(scope) if !scope.is_empty() => scope.to_owned(),
        _ => format!("repository:{}:pull", reference.path()),
    };
    let service = challenge.parameter("service").unwrap_or_default();

    let mut request = Request::get(realm, Purpose::Token { registry: registry.clone() });
    if let Some(Login::IdentityToken(token)) = login {
        request.method = Method::POST;
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service),
            ("scope", &scope),
            ("client_id", "ctr"),
            ("refresh_token", token),
        ];
        request.form = Some(encode_form(&form));
        request.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
    } else {
        let mut query = request.url.query_pairs_mut();
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &scope);
        drop(query);
        if let Some(Login::Password { user, password }) = login {
            request.authorization = Some(basic(user, password));
        }
    }

    let response = transport.send(&request).await?;
    if response.status() != StatusCode::OK {
        return Err(response.into_error().await);
    }
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let invalid = |rule| Error::Protocol { request: request.name(), rule };
    let body = response.document(TOKEN_LIMIT).await?;
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| invalid("the answer is not that of a token server"))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| invalid("there is no token in the answer"))?;
    bearer(&token).ok_or_else(|| invalid("the token has bytes that no header may have"))
}

/// The Authorization header of a token.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The Authorization header of a name and password (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let pair = base64::encode(format!("{user}:{password}").as_bytes());
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).expect("base64 is plain ASCII");
    value.set_sensitive(true);
    value
}

// A URL's query is written in the form encoding.
fn encode_form(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:").expect("a scheme is a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        assert_eq!(encode_form(&[("a", "b c&d"), ("e", "é/:")]), "a=b+c%26d&e=%C3%A9%2F%3A");
    }

    #[test]
    fn a_token_cannot_add_headers() {
        assert!(bearer("a\r\nX: y").is_none());
        assert!(bearer("abc.def").is_some());
    }
}
