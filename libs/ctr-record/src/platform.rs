// SPDX-License-Identifier: Apache-2.0
//! Platforms: how they are written, normalised, and which image serves which machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A platform (image-spec, index, `platform`); as text `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the CPU architecture.
    pub architecture: String,
    /// Go's name of the operating system.
    pub os: String,
    /// The CPU variant, `v7` of `arm/v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `os.version`, `os.features` and members that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A string that is no platform.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a platform (os/architecture[/variant])")]
pub struct InvalidPlatform(String);

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None), // riscv64, s390x
        };
        Self::new("linux", architecture, variant)
    }

    /// A normalised platform.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise(architecture, variant.unwrap_or_default());
        Self {
            architecture,
            os: os.to_ascii_lowercase(),
            variant: (!variant.is_empty()).then_some(variant),
            extra: Map::new(),
        }
    }

    /// How well an image for `self` serves a machine that is `wanted`: 0 is best, `None` not at all.
    ///
    /// A machine runs images for lesser variants of its architecture too, the nearest one first.
    pub fn serves(&self, wanted: &Self) -> Option<u32> {
        let image = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        let wanted = Self::new(&wanted.os, &wanted.architecture, wanted.variant.as_deref());
        if image.os != wanted.os || image.architecture != wanted.architecture {
            return None;
        }
        if image.variant == wanted.variant {
            return Some(0);
        }
        wanted.level()?.checked_sub(image.level()?)
    }

    // The place of a variant on its architecture's ladder; arm64 v9.1 counts between v9 and v10.
    fn level(&self) -> Option<u32> {
        let default = match self.architecture.as_str() {
            "amd64" => "v1",
            "arm64" => "v8",
            "arm" => "v7",
            _ => return None,
        };
        let digits = self.variant.as_deref().unwrap_or(default).strip_prefix('v')?;
        let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
        Some(major.parse::<u32>().ok()?.checked_mul(16)? + minor.parse::<u32>().ok()?.min(15))
    }
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", v) => ("amd64", v),
        ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(s: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<&str> = s.split('/').collect();
        let valid = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !parts.iter().all(valid) {
            return Err(InvalidPlatform(s.to_owned()));
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform(s.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(image: &str, machine: &str) -> Option<u32> {
        image.parse::<Platform>().unwrap().serves(&machine.parse().unwrap())
    }

    #[test]
    fn names_are_normalised() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("Linux/armel", "linux/arm/v6"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux//v7".parse::<Platform>().is_err());
    }

    #[test]
    fn the_nearest_lesser_variant_serves_best() {
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert!(rank("linux/amd64/v2", "linux/amd64/v3") < rank("linux/amd64", "linux/amd64/v3"));
        assert_eq!(rank("linux/amd64/v3", "linux/amd64"), None);
        assert!(rank("linux/arm/v6", "linux/arm/v7").is_some());
        assert_eq!(rank("linux/arm64", "linux/amd64"), None);
        assert_eq!(rank("windows/amd64", "linux/amd64"), None);
    }
}
