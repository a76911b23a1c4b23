// SPDX-License-Identifier: Apache-2.0
//! A line of input: what is to be pulled from where, and the record that it becomes part of.

use std::path::{Path, PathBuf};

use ctr_cli::{Error, StateArgs};
use ctr_record::{Descriptor, Digest, ErrorKind, Platform, Record, Reference};

/// One image to be pulled.
#[derive(Debug)]
pub(crate) struct Request {
    /// Where it is.
    pub(crate) source: Source,
    /// The manifest that it must be, for one that a record names.
    pub(crate) pinned: Option<Descriptor>,
    /// The platform that a record names.
    pub(crate) platform: Option<Platform>,
    /// What the image is to be added to.
    pub(crate) record: Record,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// In a registry.
    Registry(Reference),
    /// In an OCI image layout, by the name it has there or by being the only one.
    Layout { directory: PathBuf, name: Option<String> },
}

impl Request {
    /// Reads a line: a reference, or a record whose image is brought back exactly as it says.
    pub(crate) fn parse(line: &str, state: &StateArgs) -> Result<Self, Error> {
        let line = line.trim();
        if !line.starts_with('{') {
            return Ok(Self {
                source: Source::parse(line)?,
                pinned: None,
                platform: None,
                record: state.new_record()?,
            });
        }
        let record = Record::parse(line)?;
        state.check(&record)?;
        let image = record.image.as_ref();
        let image = image.ok_or_else(|| Error::new(ErrorKind::Invalid, "the record has no image"))?;
        Ok(Self {
            source: Source::parse(&image.reference)?,
            pinned: Some(image.manifest.clone()),
            platform: Some(image.platform.clone()),
            record,
        })
    }
}

impl Source {
    fn parse(text: &str) -> Result<Self, Error> {
        let Some(layout) = text.strip_prefix("oci:") else { return Ok(Self::Registry(text.parse()?)) };
        let (directory, name) = match layout.split_once(':') {
            Some((directory, name)) => (directory, Some(name)),
            None => (layout, None),
        };
        if directory.is_empty() || name == Some("") {
            return Err(Error::misuse(format!("{text:?} does not name a layout as oci:DIR[:REF]")));
        }
        Ok(Self::Layout { directory: directory.into(), name: name.map(str::to_owned) })
    }

    /// The source as it is written.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Registry(reference) => reference.to_string(),
            Self::Layout { directory, name: Some(name) } => format!("oci:{}:{name}", directory.display()),
            Self::Layout { directory, name: None } => format!("oci:{}", directory.display()),
        }
    }

    /// The name that the image gets in the index.
    ///
    /// An image from a layout keeps its name where that is a full reference, as podman and this store
    /// write them. Others are named after their directory, as podman does, or else by their digest.
    pub(crate) fn index_name(&self, digest: &Digest) -> String {
        match self {
            Self::Registry(reference) => reference.to_string(),
            Self::Layout { directory, name } => {
                let full = name.as_deref().and_then(full_reference);
                full.or_else(|| after_directory(directory, name.as_deref()))
                    .map_or_else(|| format!("localhost/oci@{digest}"), |reference| reference.to_string())
            }
        }
    }
}

fn full_reference(name: &str) -> Option<Reference> {
    let (domain, _) = name.split_once('/')?;
    let reference: Reference = name.parse().ok()?;
    (reference.domain() == domain).then_some(reference)
}

fn after_directory(directory: &Path, name: Option<&str>) -> Option<Reference> {
    let directory = std::path::absolute(directory).ok()?;
    let base = directory.file_name()?.to_str()?;
    format!("localhost/{base}:{}", name.unwrap_or("latest")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let layout = |directory: &str, name: Option<&str>| Source::Layout {
            directory: directory.into(),
            name: name.map(str::to_owned),
        };
        assert_eq!(Source::parse("oci:/a/b").unwrap(), layout("/a/b", None));
        assert_eq!(Source::parse("oci:b:r.example:5000/x:1").unwrap(), layout("b", Some("r.example:5000/x:1")));
        assert!(matches!(Source::parse("redis"), Ok(Source::Registry(_))));
        for bad in ["oci:", "oci::x", "oci:/a:", "", "UPPER"] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_from_layouts_get_names_that_are_references() {
        let digest = Digest::of(b"");
        for (source, name) in [
            ("redis", "docker.io/library/redis:latest".to_owned()),
            ("oci:/a/b:r.example/x:1", "r.example/x:1".to_owned()),
            ("oci:/a/b:docker.io/library/x:1", "docker.io/library/x:1".to_owned()),
            ("oci:/a/b", "localhost/b:latest".to_owned()),
            ("oci:/a/b:v1", "localhost/b:v1".to_owned()),
            ("oci:/a/B:v1", format!("localhost/oci@{digest}")),
            ("oci:/a/b:not/full", format!("localhost/oci@{digest}")),
            ("oci:/", format!("localhost/oci@{digest}")),
        ] {
            assert_eq!(Source::parse(source).unwrap().index_name(&digest), name, "{source}");
        }
    }

    #[test]
    fn a_record_pins_its_image() {
        let state = StateArgs::default();
        let digest = Digest::of(b"x");
        let descriptor = format!(r#"{{"mediaType":"m","digest":"{digest}","size":1}}"#);
        let line = format!(
            r#"{{"ctr":1,"stateDir":"/s","namespace":"default","later":7,"image":{{"reference":"redis","manifest":{descriptor},
               "config":{descriptor},"layers":[],"diffIds":[],"platform":{{"os":"linux","architecture":"arm64"}}}}}}"#
        );
        let request = Request::parse(&line, &state).unwrap();
        assert_eq!(request.pinned.unwrap().digest, digest);
        assert_eq!(request.platform.unwrap().architecture, "arm64");
        assert_eq!(request.record.extra["later"], 7);
        let empty = r#"{"ctr":1,"stateDir":"/s","namespace":"default"}"#;
        assert_eq!(Request::parse(empty, &state).unwrap_err().to_line(), "the record has no image");
    }
}
