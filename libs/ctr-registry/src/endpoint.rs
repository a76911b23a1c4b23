// SPDX-License-Identifier: Apache-2.0
//! Where a reference's registry is spoken to, and where one may be sent on to from there.

use ctr_record::Reference;
use reqwest::Url;

use crate::address::{is_local, is_loopback};

/// Which scheme registries are spoken to with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schemes {
    /// Every registry speaks plain http.
    pub(crate) plain_http: bool,
    /// A certificate authority was named, so that loopback registries speak https too.
    pub(crate) authority: bool,
}

impl Schemes {
    /// The root of the registry's API, `SCHEME://HOST/v2/`.
    ///
    /// A host on this machine is spoken to in plain http, as nothing leaves the machine, unless a
    /// certificate authority was named. There is no falling back from one to the other.
    pub(crate) fn root(self, reference: &Reference) -> Url {
        let host = reference.api_host();
        let scheme = if self.allows_plain(host_without_port(host)) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{host}/v2/")).expect("a reference's host is a valid one")
    }

    fn allows_plain(self, host: &str) -> bool {
        self.plain_http || (is_loopback(host) && !self.authority)
    }
}

fn host_without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What a request is for, which decides where a server may send it.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Content from the registry itself; it may live elsewhere.
    Content { registry: Url },
    /// A token, from the realm that the registry named (CVE-2026-48978).
    Token { registry: Url },
    /// A layer from a URL that a manifest named.
    Foreign,
}

impl Purpose {
    /// Whether a URL that a server named may be asked; what is wrong with it otherwise.
    pub(crate) fn allows(&self, schemes: Schemes, url: &Url) -> Result<(), &'static str> {
        let Some(host) = url.host_str() else { return Err("it names no host") };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has credentials in it");
        }
        match (url.scheme(), self) {
            ("https", _) => {}
            ("http", Self::Content { registry } | Self::Token { registry }) => {
                if registry.scheme() != "http" {
                    return Err("it would leave https for plain http");
                }
                if !schemes.allows_plain(host) {
                    return Err("plain http was not asked for");
                }
            }
            ("http", Self::Foreign) => return Err("only https is followed there"),
            _ => return Err("it is neither http nor https"),
        }
        let may_be_local = match self {
            Self::Foreign => false,
            Self::Token { registry } => is_at(registry, url) || is_loopback(registry.host_str().unwrap_or_default()),
            // Storage behind a registry may well have a private address, but not one on this machine.
            Self::Content { registry } => is_local(registry.host_str().unwrap_or_default()) || !is_loopback(host),
        };
        match may_be_local || !is_local(host) {
            true => Ok(()),
            false => Err("it is an address of this machine or of its private network"),
        }
    }
}

// Whether two URLs are served by the same host and port.
fn is_at(one: &Url, other: &Url) -> bool {
    one.host_str() == other.host_str() && one.port_or_known_default() == other.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECURE: Schemes = Schemes { plain_http: false, authority: false };
    const PLAIN: Schemes = Schemes { plain_http: true, authority: false };
    const PRIVATE_CA: Schemes = Schemes { plain_http: false, authority: true };

    fn root(schemes: Schemes, reference: &str) -> String {
        schemes.root(&reference.parse().unwrap()).to_string()
    }

    #[test]
    fn plain_http_is_for_this_machine_or_by_request() {
        assert_eq!(root(SECURE, "redis"), "https://registry-1.docker.io/v2/");
        assert_eq!(root(SECURE, "127.0.0.1:5000/a"), "http://127.0.0.1:5000/v2/");
        assert_eq!(root(SECURE, "localhost/a"), "http://localhost/v2/");
        assert_eq!(root(SECURE, "[::1]:5000/a"), "http://[::1]:5000/v2/");
        assert_eq!(root(SECURE, "[::1]/a"), "http://[::1]/v2/");
        assert_eq!(root(SECURE, "10.0.0.1:5000/a"), "https://10.0.0.1:5000/v2/");
        assert_eq!(root(PLAIN, "r.example:80/a"), "http://r.example/v2/");
        assert_eq!(root(PRIVATE_CA, "localhost:5000/a"), "https://localhost:5000/v2/");
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    // CVE-2026-48978
    #[test]
    fn a_realm_is_not_on_the_private_network() {
        let realm =
            |registry: &str, realm: &str| Purpose::Token { registry: url(registry) }.allows(SECURE, &url(realm));
        assert!(realm("https://r.example/v2/", "https://auth.example/token").is_ok());
        assert!(realm("https://10.0.0.1:5000/v2/", "https://10.0.0.1:5000/token").is_ok());
        assert!(realm("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token").is_ok());
        for (registry, bad) in [
            ("https://r.example/v2/", "http://auth.example/token"),
            ("https://r.example/v2/", "https://169.254.169.254/token"),
            ("https://r.example/v2/", "https://localhost/token"),
            ("https://r.example/v2/", "https://[::1]/token"),
            ("https://r.example/v2/", "https://0x7f.1/token"),
            ("https://r.example/v2/", "https://user:secret@auth.example/token"),
            ("https://r.example/v2/", "file:///etc/passwd"),
            ("https://10.0.0.1:5000/v2/", "https://10.0.0.1:5001/token"),
            ("http://127.0.0.1:5000/v2/", "http://auth.example/token"),
        ] {
            assert!(realm(registry, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_does_not_leave_https() {
        let content = |registry: &str, to: &str| Purpose::Content { registry: url(registry) }.allows(SECURE, &url(to));
        assert!(content("https://r.example/v2/", "https://cdn.example/x").is_ok());
        assert!(content("https://r.example/v2/", "https://10.1.2.3/x").is_ok());
        assert!(content("https://r.example/v2/", "http://r.example/v2/x").is_err());
        assert!(content("https://r.example/v2/", "https://127.0.0.1/x").is_err());
        assert!(content("http://localhost:5000/v2/", "http://cdn.example/x").is_err());
        assert!(content("http://localhost:5000/v2/", "http://127.0.0.1:9000/x").is_ok());
    }

    #[test]
    fn foreign_urls_are_public_and_https() {
        let foreign = |to: &str| Purpose::Foreign.allows(PLAIN, &url(to));
        assert!(foreign("https://cdn.example/x").is_ok());
        for bad in ["http://cdn.example/x", "https://10.0.0.1/x", "https://localhost/x", "ftp://cdn.example/x"] {
            assert!(foreign(bad).is_err(), "{bad}");
        }
    }
}
