// SPDX-License-Identifier: Apache-2.0
//! Image references, parsed and normalised as Docker does it.
//!
//! The grammar is distribution/reference's, by hand: oci-spec's one big regular expression takes
//! longer to compile than a whole pull of a small image, and knows no IPv6 hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// A normalised image reference: `DOMAIN/PATH[:TAG][@DIGEST]`, never without a tag or digest.
///
/// `redis` is `docker.io/library/redis:latest`. When there is a digest, it decides and the tag is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    Tag(String),
    Digest(Digest),
}

/// A string that is no image reference.
#[derive(Debug, thiserror::Error)]
#[error("{reference:?} is not an image reference: {rule}")]
pub struct InvalidReference {
    reference: String,
    rule: &'static str,
}

impl Reference {
    /// The registry's name with its port, `docker.io` for Docker Hub.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's name below the domain.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, unless a digest names the image.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest, when that is how the image is named.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// The host that serves the distribution API, with its port.
    pub fn api_host(&self) -> &str {
        if self.domain == "docker.io" { "registry-1.docker.io" } else { &self.domain }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(s: &str) -> Result<Self, InvalidReference> {
        parse(s).map_err(|rule| InvalidReference { reference: s.chars().take(200).collect(), rule })
    }
}

fn parse(s: &str) -> Result<Reference, &'static str> {
    if s.len() == 64 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err("64 hex digits alone would be taken for a digest");
    }
    let (name, digest) = match s.split_once('@') {
        Some((name, digest)) => {
            (name, Some(digest.parse::<Digest>().map_err(|_| "what follows @ is no sha256 or sha512 digest")?))
        }
        None => (s, None),
    };
    let (domain, rest) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => ("docker.io", name),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    check_domain(domain)?;
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let path = match domain == "docker.io" && !path.contains('/') {
        true => format!("library/{path}"),
        false => path.to_owned(),
    };
    for component in path.split('/') {
        check_component(component)?;
    }
    if domain.len() + 1 + path.len() > 255 {
        return Err("the name is longer than 255 characters");
    }
    let version = match (digest, tag) {
        (Some(digest), _) => Version::Digest(digest),
        (None, tag) => Version::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(Reference { domain: domain.to_owned(), path, version })
}

fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']').ok_or("the [ of an IPv6 address is not closed")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("what stands in brackets is no IPv6 address");
            }
            match rest {
                "" => return Ok(()),
                rest => ("v6", Some(rest.strip_prefix(':').ok_or("a port must follow the IPv6 address")?)),
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return Err("the port is no number up to 65535");
    }
    let label = |l: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && edge(l.as_bytes().first())
            && edge(l.as_bytes().last())
    };
    if host.split('.').all(label) { Ok(()) } else { Err("the registry's name is no host name") }
}

// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
fn check_component(component: &str) -> Result<(), &'static str> {
    let alphanumeric = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    if component.is_empty() {
        return Err("a part of the name is empty");
    }
    let separators_fit = component
        .split(|c: char| alphanumeric(c as u8) && c.is_ascii())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'));
    let edges =
        component.bytes().next().is_some_and(alphanumeric) && component.bytes().last().is_some_and(alphanumeric);
    match separators_fit && edges {
        true => Ok(()),
        false => Err("names are made of lower-case letters and digits, joined by . _ __ or -"),
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match tag.as_bytes() {
        [first, rest @ ..]
            if word(*first) && rest.len() < 128 && rest.iter().all(|&b| word(b) || b".-".contains(&b)) =>
        {
            Ok(())
        }
        _ => Err("a tag has up to 128 letters, digits and _ . -, and does not begin with . or -"),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(deserializer)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_as_docker_does() {
        for (given, normal) in [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:alpine", "docker.io/library/redis:alpine"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/redis", "docker.io/library/redis:latest"),
            ("index.docker.io/user/app:1", "docker.io/user/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b/c:v1.2-x", "localhost:5000/a/b/c:v1.2-x"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
            ("[::1]:5000/app:t", "[::1]:5000/app:t"),
            ("[2001:db8::1]/app", "[2001:db8::1]/app:latest"),
            ("Host/app", "Host/app:latest"),
            ("r.example/a__b-c---d.e_f", "r.example/a__b-c---d.e_f:latest"),
        ] {
            assert_eq!(given.parse::<Reference>().unwrap().to_string(), normal, "{given}");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let reference: Reference = format!("redis:alpine@{DIGEST}").parse().unwrap();
        assert_eq!(reference.to_string(), format!("docker.io/library/redis@{DIGEST}"));
        assert_eq!(reference.tag(), None);
    }

    #[test]
    fn refuses_what_is_no_reference() {
        let long = format!("r.example/{}", "a".repeat(250));
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "UPPER",
            "a/UPPER",
            "a:",
            "a:-x",
            "a:b:c",
            "a@",
            "a@sha256:00",
            "a b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a.",
            "[::1",
            "[zz]:1/a",
            "h:99999/a",
            "h:x/a",
            "-h.x/a",
            "é",
            "a/\n",
            hex,
            &long,
            "http://r.example/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
