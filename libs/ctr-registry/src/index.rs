// SPDX-License-Identifier: Apache-2.0
//! Image indexes: which of the manifests serves a platform.

use ctr_record::{Classify, Descriptor, ErrorKind, Platform};
use serde::Deserialize;
use serde_json::Value;

/// An image index or manifest list (image-spec, "Image Index").
#[derive(Clone, Debug)]
pub struct Index {
    entries: Vec<Value>,
}

/// An index in which nothing serves the wanted platform.
#[derive(Debug, thiserror::Error)]
#[error("there is no image for {wanted}, only for {present}")]
pub struct NoPlatform {
    wanted: String,
    present: String,
}

impl Classify for NoPlatform {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }

    fn hint(&self) -> Option<String> {
        Some("--platform OS/ARCHITECTURE[/VARIANT] chooses one of them".to_owned())
    }
}

impl Index {
    pub(crate) fn from_document(document: &Value) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Members {
            manifests: Vec<Value>,
        }
        // Entries stay unparsed until one is chosen: one with a digest algorithm that is not known
        // here must not make the others unusable.
        Ok(Self { entries: Members::deserialize(document)?.manifests })
    }

    /// The manifest or nested index that serves `wanted` best; of equals, the first.
    ///
    /// An entry without a platform serves only where it is the only entry: its config decides.
    pub fn select(&self, wanted: &Platform) -> Result<Descriptor, NoPlatform> {
        let candidates: Vec<(Option<Platform>, Descriptor)> = self.candidates().collect();
        if let [(None, only)] = &candidates[..] {
            return Ok(only.clone());
        }
        let rank = |platform: &Option<Platform>| platform.as_ref().and_then(|platform| platform.serves(wanted));
        candidates
            .iter()
            .filter_map(|(platform, descriptor)| Some((rank(platform)?, descriptor)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, descriptor)| descriptor.clone())
            .ok_or_else(|| NoPlatform { wanted: wanted.to_string(), present: name_all(&candidates) })
    }

    // Entries of buildkit's attestations have the platform unknown/unknown and are no images.
    fn candidates(&self) -> impl Iterator<Item = (Option<Platform>, Descriptor)> + '_ {
        self.entries
            .iter()
            .filter_map(|entry| Descriptor::deserialize(entry).ok())
            .map(|descriptor| (descriptor.platform.clone(), descriptor))
            .filter(|(platform, _)| platform.as_ref().is_none_or(|platform| platform.os != "unknown"))
    }
}

fn name_all(candidates: &[(Option<Platform>, Descriptor)]) -> String {
    let mut names: Vec<String> = Vec::new();
    for (platform, _) in candidates {
        let name = platform.as_ref().map_or_else(|| "an unnamed platform".to_owned(), Platform::to_string);
        let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.len() {
        0 => "none at all".to_owned(),
        1..=24 => names.join(", "),
        more => format!("{} and {} others", names[..24].join(", "), more - 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let entry = |(at, platform): (usize, &&str)| {
            let mut parts = platform.split('/');
            let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
            let variant = parts.next().map(|variant| format!(r#","variant":"{variant}""#)).unwrap_or_default();
            format!(
                r#"{{"mediaType":"m","size":{at},"digest":"sha256:{at:064x}",
                   "platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#
            )
        };
        let entries: Vec<String> = platforms.iter().enumerate().map(entry).collect();
        parse(&format!(r#"{{"manifests":[{}]}}"#, entries.join(",")))
    }

    fn parse(text: &str) -> Index {
        Index::from_document(&serde_json::from_str(text).unwrap()).unwrap()
    }

    fn selected(platforms: &[&str], wanted: &str) -> Option<u64> {
        index(platforms).select(&wanted.parse().unwrap()).ok().map(|descriptor| descriptor.size)
    }

    #[test]
    fn the_best_and_of_equals_the_first_is_selected() {
        let platforms =
            ["unknown/unknown", "linux/amd64", "linux/amd64/v2", "linux/amd64", "linux/arm/v6", "linux/arm/v7"];
        assert_eq!(selected(&platforms, "linux/amd64"), Some(1));
        assert_eq!(selected(&platforms, "linux/amd64/v3"), Some(2));
        assert_eq!(selected(&platforms, "linux/arm"), Some(5));
        assert_eq!(selected(&platforms, "linux/386"), None);
        assert_eq!(selected(&["unknown/unknown"], "linux/amd64"), None);
    }

    #[test]
    fn an_error_lists_what_there_is() {
        let platforms = ["linux/amd64", "linux/arm64", "linux/amd64", "unknown/unknown"];
        let error = index(&platforms).select(&"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "there is no image for linux/s390x, only for linux/amd64, linux/arm64");
    }

    #[test]
    fn an_entry_that_is_not_understood_does_not_hide_the_others() {
        let text = format!(
            r#"{{"manifests":[{{"mediaType":"m","size":1,"digest":"blake3:00","platform":{{"os":"linux","architecture":"amd64"}}}},
            {{"mediaType":"m","size":2,"digest":"sha256:{:064}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
            0
        );
        assert_eq!(parse(&text).select(&"linux/amd64".parse().unwrap()).unwrap().size, 2);
    }

    #[test]
    fn a_single_entry_needs_no_platform() {
        let text = format!(r#"{{"manifests":[{{"mediaType":"m","size":1,"digest":"sha256:{:064}"}}]}}"#, 0);
        assert!(parse(&text).select(&"linux/amd64".parse().unwrap()).is_ok());
    }
}
