// SPDX-License-Identifier: Apache-2.0
//! Image configs: the platform and the diffIDs, which is all that a pull needs of them.

use ctr_record::{DiffId, Platform};
use serde::Deserialize;

use crate::{InvalidManifest, json};

/// What a pull needs of an image config (image-spec, "Image Configuration").
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// The platform that the image is for.
    pub platform: Platform,
    /// The digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<DiffId>,
}

impl ImageConfig {
    /// Parses a config that belongs to a manifest with `layers` layers.
    ///
    /// `rootfs.type` must be `layers`, and there must be one diffID per layer.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, InvalidManifest> {
        #[derive(Deserialize)]
        struct Members {
            // Required today, absent in images of old: those are of the machine they were made for.
            os: Option<String>,
            architecture: Option<String>,
            variant: Option<String>,
            rootfs: Rootfs,
        }
        #[derive(Deserialize)]
        struct Rootfs {
            r#type: String,
            #[serde(default)]
            diff_ids: Vec<DiffId>,
        }
        let malformed = |source| InvalidManifest::Malformed { what: "image config", source };
        let members: Members = serde_json::from_value(json::parse(bytes).map_err(malformed)?).map_err(malformed)?;
        let Rootfs { r#type, diff_ids } = members.rootfs;
        if r#type != "layers" {
            return Err(InvalidManifest::RootfsType(r#type.chars().take(80).collect()));
        }
        if diff_ids.len() != layers {
            return Err(InvalidManifest::LayerCount { layers, diff_ids: diff_ids.len() });
        }
        let host = Platform::host();
        let os = members.os.filter(|os| !os.is_empty()).unwrap_or(host.os);
        let architecture = members.architecture.filter(|name| !name.is_empty()).unwrap_or(host.architecture);
        let platform = Platform::new(&os, &architecture, members.variant.as_deref());
        Ok(Self { platform, diff_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn config(rootfs: &str) -> String {
        format!(r#"{{"architecture":"arm","os":"linux","variant":"v6","rootfs":{rootfs}}}"#)
    }

    #[test]
    fn platform_and_diff_ids_are_read() {
        let text = config(&format!(r#"{{"type":"layers","diff_ids":["{DIGEST}"]}}"#));
        let config = ImageConfig::parse(text.as_bytes(), 1).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm/v6");
        assert_eq!(config.diff_ids[0].to_string(), DIGEST);
    }

    #[test]
    fn layers_and_diff_ids_must_be_as_many() {
        let none = config(r#"{"type":"layers","diff_ids":null}"#);
        assert!(ImageConfig::parse(none.as_bytes(), 0).is_ok());
        assert!(matches!(ImageConfig::parse(none.as_bytes(), 1), Err(InvalidManifest::LayerCount { .. })));
    }

    #[test]
    fn another_kind_of_rootfs_is_refused() {
        let text = config(r#"{"type":"tree","diff_ids":[]}"#);
        assert!(matches!(ImageConfig::parse(text.as_bytes(), 0), Err(InvalidManifest::RootfsType(_))));
        for bad in ["", "{}", "[]", r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#] {
            assert!(matches!(ImageConfig::parse(bad.as_bytes(), 0), Err(InvalidManifest::Malformed { .. })), "{bad}");
        }
    }
}
