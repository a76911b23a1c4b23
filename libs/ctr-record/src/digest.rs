// SPDX-License-Identifier: Apache-2.0
//! Digests, and the two other names of a layer: diffID and chainID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// The registered hash algorithms that are accepted (image-spec, descriptor, "Registered Algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`
    Sha256,
    /// `sha512`
    Sha512,
}

impl Algorithm {
    /// The algorithm's name, which is also its directory below `blobs/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest of stored bytes, `ALGORITHM:HEX`.
///
/// A value of this type is well-formed: a known algorithm and the right number of lower-case hex
/// digits, so that it can name a file (CVE-2024-3727).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// A string that is no digest, or one whose algorithm is not known here.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a sha256 or sha512 digest")]
pub struct InvalidDigest(String);

impl Digest {
    /// Digests `data` with sha256.
    pub fn of(data: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(data);
        hasher.finish()
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits after the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(s: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(s.chars().take(160).collect());
        let (name, hex) = s.split_once(':').ok_or_else(invalid)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(invalid()),
        };
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(is_hex) {
            return Err(invalid());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(deserializer)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// A running hash that ends as a [`Digest`].
pub struct Hasher(State);

enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a hash with the given algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(data),
            State::Sha512(hasher) => hasher.update(data),
        }
    }

    /// Ends the hash.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.0 {
            State::Sha256(hasher) => (Algorithm::Sha256, hasher.finalize().to_vec()),
            State::Sha512(hasher) => (Algorithm::Sha512, hasher.finalize().to_vec()),
        };
        Digest { algorithm, hex: hex(&bytes) }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.push(DIGITS[usize::from(byte >> 4)].into());
        hex.push(DIGITS[usize::from(byte & 15)].into());
    }
    hex
}

/// The digest of a layer's uncompressed tar (image-spec, config, "Layer DiffID").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a stack of applied layers (image-spec, config, "Layer ChainID").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chainID of one layer on top of a stack, or of the lowest layer.
    pub fn extend(parent: Option<&Self>, layer: &DiffId) -> Self {
        match parent {
            None => Self(layer.0.clone()),
            Some(parent) => Self(Digest::of(format!("{parent} {layer}").as_bytes())),
        }
    }

    /// The chainIDs of every prefix of a stack of layers, lowest first.
    pub fn stack(layers: &[DiffId]) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            chain.push(Self::extend(chain.last(), layer));
        }
        chain
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn of_nothing_is_the_known_digest() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
    }

    #[test]
    fn accepts_only_lower_case_hex_of_the_right_length() {
        assert!(EMPTY.parse::<Digest>().is_ok());
        let upper = EMPTY.replace("e3b0", "E3B0");
        let long = format!("{EMPTY}0");
        for bad in ["", "sha256", "sha256:", "md5:00", "sha256:../../etc/passwd", &EMPTY[..70], &upper, &long] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn chains_as_the_specification_says() {
        let layers: Vec<DiffId> = [b"a", b"b", b"c"].iter().map(|b| DiffId(Digest::of(*b))).collect();
        let chain = ChainId::stack(&layers);
        assert_eq!(chain[0].0, layers[0].0);
        assert_eq!(chain[1].0, Digest::of(format!("{} {}", layers[0], layers[1]).as_bytes()));
        assert_eq!(chain[2], ChainId::extend(Some(&chain[1]), &layers[2]));
    }
}
