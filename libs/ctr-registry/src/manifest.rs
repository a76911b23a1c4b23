// SPDX-License-Identifier: Apache-2.0
//! Image manifests: the raw bytes, and what they say once they are known to say one thing only.
//!
//! The bytes are kept, because the digest is theirs. A document that could be read as a manifest by
//! one reader and as an index by another is refused (CVE-2021-41190).

use ctr_record::{Descriptor, Digest, Hasher, media_type};
use serde_json::Value;

use crate::{Index, InvalidManifest, json};

/// The most bytes that a manifest, index or config may have; what containerd accepts.
pub const MANIFEST_LIMIT: usize = 4 * 1048 * 1048;

/// A manifest or an index with the bytes and the digest it has been parsed from.
#[derive(Clone, Debug)]
pub struct Manifest {
    bytes: Vec<u8>,
    descriptor: Descriptor,
    content: Content,
}

/// What a manifest turned out to be.
#[derive(Clone, Debug)]
pub enum Content {
    /// One image (or artifact).
    Image(Box<ImageManifest>),
    /// A choice of manifests.
    Index(Index),
}

/// An image manifest (image-spec, "Image Manifest").
#[derive(Clone, Debug, PartialEq)]
pub struct ImageManifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Parses `bytes`, which must have the digest `expected` if there is one.
    ///
    /// `declared` is the media type that came along: a Content-Type, or that of a descriptor.
    pub fn parse(bytes: Vec<u8>, expected: Option<&Digest>, declared: Option<&str>) -> Result<Self, InvalidManifest> {
        let digest = match expected {
            Some(expected) => verify(&bytes, expected)?,
            None => Digest::of(&bytes),
        };
        let malformed = |source| InvalidManifest::Malformed { what: "manifest", source };
        let document = json::parse(&bytes).map_err(malformed)?;
        let media_type = classify(&document, declared)?;
        let content = match media_type::is_index(&media_type) {
            true => Content::Index(Index::from_document(&document).map_err(malformed)?),
            false => Content::Image(Box::new(ImageManifest::from_document(&document)?)),
        };
        let descriptor = Descriptor::new(&media_type, digest, bytes.len() as u64);
        Ok(Self { bytes, descriptor, content })
    }

    /// Checks that this is what a descriptor in an index promises.
    pub fn check_described(&self, descriptor: &Descriptor) -> Result<(), InvalidManifest> {
        let Descriptor { media_type, digest, size, .. } = &self.descriptor;
        if *digest != descriptor.digest {
            return Err(InvalidManifest::Digest { expected: descriptor.digest.clone(), actual: digest.clone() });
        }
        if *size != descriptor.size {
            return Err(InvalidManifest::Size { expected: descriptor.size, actual: *size });
        }
        match media_type::is_index(media_type) == media_type::is_index(&descriptor.media_type) {
            true => Ok(()),
            false => Err(InvalidManifest::Ambiguous("it is of another media type than its descriptor says")),
        }
    }

    /// The document as it was received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its media type, digest and size.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// What it says.
    pub fn content(&self) -> &Content {
        &self.content
    }
}

fn verify(bytes: &[u8], expected: &Digest) -> Result<Digest, InvalidManifest> {
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    match actual == *expected {
        true => Ok(actual),
        false => Err(InvalidManifest::Digest { expected: expected.clone(), actual }),
    }
}

// The one media type that the header, the document's own member and its shape agree on.
fn classify(document: &Value, declared: Option<&str>) -> Result<String, InvalidManifest> {
    let declared = declared.map(|text| text.split(';').next().unwrap_or_default().trim());
    let has = |member| document.get(member).is_some();
    let schema1 = |text: &str| text.starts_with("application/vnd.docker.distribution.manifest.v1+");
    if has("fsLayers")
        || document.get("schemaVersion").and_then(Value::as_u64) == Some(1)
        || declared.is_some_and(schema1)
    {
        return Err(InvalidManifest::Schema1);
    }
    if has("manifests") && (has("layers") || has("config")) {
        return Err(InvalidManifest::Ambiguous("it has the members of a manifest and those of an index"));
    }
    let known = |text: &&str| media_type::is_index(text) || media_type::is_manifest(text);
    let embedded = match document.get("mediaType") {
        None => None,
        Some(Value::String(text)) if known(&text.as_str()) => Some(text.as_str()),
        Some(other) => {
            let media_type = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            return Err(unknown("a manifest or index", &media_type));
        }
    };
    // Servers of plain files say text/plain or octet-stream; that declares nothing.
    let declared = declared.filter(known);
    if let (Some(embedded), Some(declared)) = (embedded, declared)
        && media_type::is_index(embedded) != media_type::is_index(declared)
    {
        return Err(InvalidManifest::Ambiguous("its mediaType and the type it was announced with disagree"));
    }
    let shape = if has("manifests") { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    let media_type = embedded.or(declared).unwrap_or(shape);
    if media_type::is_index(media_type) != media_type::is_index(shape)
        && (has("manifests") || has("layers") || has("config"))
    {
        return Err(InvalidManifest::Ambiguous("its members are not those of its media type"));
    }
    Ok(media_type.to_owned())
}

fn unknown(what: &'static str, media_type: &str) -> InvalidManifest {
    InvalidManifest::MediaType { what, media_type: media_type.chars().take(160).collect() }
}

impl ImageManifest {
    fn from_document(document: &Value) -> Result<Self, InvalidManifest> {
        #[derive(serde::Deserialize)]
        struct Members {
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        let malformed = |source| InvalidManifest::Malformed { what: "manifest", source };
        let Members { config, layers } = serde::Deserialize::deserialize(document).map_err(malformed)?;
        Ok(Self { config, layers })
    }

    /// Checks that this is an image that can be unpacked: its config's and layers' media types are
    /// known, and none of its descriptors promises an empty blob.
    pub fn check_image(&self) -> Result<(), InvalidManifest> {
        // Early Docker wrote configs as octet streams.
        if !matches!(
            self.config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | "application/octet-stream"
        ) {
            return Err(unknown("an image config", &self.config.media_type));
        }
        for layer in &self.layers {
            if !is_layer(&layer.media_type) {
                return Err(unknown("a layer", &layer.media_type));
            }
        }
        for descriptor in self.layers.iter().chain([&self.config]) {
            // Broken proxies announce sizes of zero; the one blob that is empty has a known digest.
            if descriptor.size == 0 && descriptor.digest != Digest::of(b"") {
                return Err(InvalidManifest::Empty(descriptor.digest.clone()));
            }
        }
        Ok(())
    }
}

fn is_layer(media_type: &str) -> bool {
    const OCI: &str = "application/vnd.oci.image.layer.";
    const DOCKER: &str = "application/vnd.docker.image.rootfs.";
    let suffix = match (media_type.strip_prefix(OCI), media_type.strip_prefix(DOCKER)) {
        (Some(rest), _) => rest.strip_prefix("nondistributable.").unwrap_or(rest).strip_prefix("v1.tar"),
        (_, Some(rest)) => rest.strip_prefix("foreign.").unwrap_or(rest).strip_prefix("diff.tar"),
        (None, None) => None,
    };
    matches!(suffix, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(config_type: &str, layer_type: &str, size: u64) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{EMPTY}","size":{size}}},
               "layers":[{{"mediaType":"{layer_type}","digest":"{EMPTY}","size":{size}}}]}}"#
        )
    }

    fn parse(text: &str, declared: Option<&str>) -> Result<Manifest, InvalidManifest> {
        Manifest::parse(text.as_bytes().to_vec(), None, declared)
    }

    #[test]
    fn the_shape_decides_where_nothing_else_does() {
        let text = image(media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP, 0);
        let manifest = parse(&text, Some("text/plain; charset=utf-8")).unwrap();
        assert_eq!(manifest.descriptor().media_type, media_type::OCI_MANIFEST);
        assert_eq!(manifest.descriptor().digest, Digest::of(text.as_bytes()));
        assert!(matches!(parse(r#"{"manifests":[]}"#, None).unwrap().content(), Content::Index(_)));
    }

    // CVE-2021-41190
    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let index = media_type::OCI_INDEX;
        let plain = image(media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP, 0);
        let both = plain.replace(r#""layers""#, r#""manifests":[],"layers""#);
        let lying = plain.replace(r#""schemaVersion":2"#, &format!(r#""mediaType":"{index}""#));
        let twice = plain.replace(r#""schemaVersion":2"#, r#""layers":[]"#);
        assert!(matches!(parse(&both, None), Err(InvalidManifest::Ambiguous(_))));
        assert!(matches!(parse(&lying, None), Err(InvalidManifest::Ambiguous(_))));
        assert!(matches!(parse(&plain, Some(index)), Err(InvalidManifest::Ambiguous(_))));
        assert!(matches!(parse(&lying, Some(media_type::OCI_MANIFEST)), Err(InvalidManifest::Ambiguous(_))));
        assert!(matches!(parse(&twice, None), Err(InvalidManifest::Malformed { .. })));
        assert!(matches!(parse(r#"{"mediaType":"a/b"}"#, None), Err(InvalidManifest::MediaType { .. })));
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        for (text, declared) in [
            (r#"{"schemaVersion":1,"name":"x"}"#, None),
            (r#"{"fsLayers":[]}"#, None),
            (r#"{"schemaVersion":2}"#, Some(signed)),
        ] {
            assert!(matches!(parse(text, declared), Err(InvalidManifest::Schema1)), "{text}");
        }
    }

    #[test]
    fn the_expected_digest_is_checked() {
        let text = image(media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP, 0);
        let parse = |digest: &Digest| Manifest::parse(text.as_bytes().to_vec(), Some(digest), None);
        assert!(parse(&Digest::of(text.as_bytes())).is_ok());
        assert!(matches!(parse(&EMPTY.parse().unwrap()), Err(InvalidManifest::Digest { .. })));
    }

    #[test]
    fn an_artifact_is_no_image() {
        let check = |config: &str, layer: &str, size| match parse(&image(config, layer, size), None).unwrap().content()
        {
            Content::Image(image) => image.check_image(),
            Content::Index(_) => unreachable!("it has layers"),
        };
        let config = media_type::OCI_CONFIG;
        for layer in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert!(check(config, layer, 0).is_ok(), "{layer}");
        }
        for (config, layer) in [
            (config, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            (config, "text/plain"),
            ("application/vnd.oci.empty.v1+json", media_type::OCI_LAYER_GZIP),
        ] {
            assert!(matches!(check(config, layer, 0), Err(InvalidManifest::MediaType { .. })), "{config} {layer}");
        }
        assert!(check(config, media_type::OCI_LAYER_GZIP, 7).is_ok());
    }

    #[test]
    fn a_descriptor_of_nothing_is_refused() {
        let text = image(media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP, 0).replace("e3b0", "e3b1");
        let manifest = parse(&text, None).unwrap();
        let Content::Image(image) = manifest.content() else { unreachable!("it has layers") };
        assert!(matches!(image.check_image(), Err(InvalidManifest::Empty(_))));
        let negative = text.replace(r#""size":0"#, r#""size":-1"#);
        assert!(matches!(parse(&negative, None), Err(InvalidManifest::Malformed { .. })));
    }
}
