// SPDX-License-Identifier: Apache-2.0
//! An OCI image layout in a directory, as a source of images. Its files are as hostile as a registry.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ctr_record::{Classify, Descriptor, ErrorKind, Platform};
use ctr_registry::{InvalidManifest, MANIFEST_LIMIT, Manifest};
use ctr_store::index::REF_NAME;
use serde::Deserialize;

const INDEX_LIMIT: u64 = 64 << 20;

/// A layout, and the entry of its index that is meant.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
    entry: Descriptor,
}

/// A layout that does not hold what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("{} has {actual} bytes, not {expected}", path.display())]
    Size { path: PathBuf, actual: u64, expected: u64 },
    #[error("{} is malformed", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{} is of layout version {version:?}, and only 1.0.0 is known here", path.display())]
    Version { path: PathBuf, version: String },
    #[error("{} names no image {name}; it names {present}", directory.display())]
    NoName { directory: PathBuf, name: String, present: String },
    #[error("{} holds {count} images; name one as oci:DIR:REF", directory.display())]
    Unclear { directory: PathBuf, count: usize },
    #[error("{}", path.display())]
    Manifest { path: PathBuf, source: InvalidManifest },
}

impl Classify for LayoutError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } | Self::Read { source, .. } => ErrorKind::of_io(source),
            Self::NotRegular { .. } | Self::Size { .. } | Self::Malformed { .. } | Self::Version { .. } => {
                ErrorKind::Invalid
            }
            Self::NoName { .. } => ErrorKind::NotFound,
            Self::Unclear { .. } => ErrorKind::Misuse,
            Self::Manifest { source, .. } => source.kind(),
        }
    }
}

impl Layout {
    /// Opens a layout and finds an image in it: by name, by being the only one, or as a record pins it.
    pub(crate) fn open(
        directory: &Path,
        name: Option<&str>,
        pinned: Option<&Descriptor>,
        platform: &Platform,
    ) -> Result<Self, LayoutError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<serde_json::Value>,
        }
        let path = directory.join("oci-layout");
        let Version { version } = parse(&path, read(&path, INDEX_LIMIT)?)?;
        if version != "1.0.0" {
            return Err(LayoutError::Version { path, version });
        }
        let path = directory.join("index.json");
        let Index { manifests } = parse(&path, read(&path, INDEX_LIMIT)?)?;
        // Entries with digests that are not known here must not hide the others.
        let entries: Vec<Descriptor> =
            manifests.iter().filter_map(|entry| Descriptor::deserialize(entry).ok()).collect();
        let entry = match pinned {
            Some(pinned) => pinned.clone(),
            None => choose(directory, entries, name, platform)?,
        };
        Ok(Self { directory: directory.to_owned(), entry })
    }

    /// The entry of the index.
    pub(crate) fn entry(&self) -> &Descriptor {
        &self.entry
    }

    /// Reads and verifies a manifest or index.
    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, LayoutError> {
        let path = self.path(descriptor);
        let mut bytes = Vec::new();
        let file = self.open_blob(descriptor)?;
        if descriptor.size > MANIFEST_LIMIT as u64 {
            return Err(LayoutError::Size { path, actual: descriptor.size, expected: MANIFEST_LIMIT as u64 });
        }
        file.take(descriptor.size).read_to_end(&mut bytes).map_err(|error| self.read_error(descriptor, error))?;
        Manifest::parse(bytes, Some(&descriptor.digest), Some(&descriptor.media_type))
            .and_then(|manifest| manifest.check_described(descriptor).map(|()| manifest))
            .map_err(|source| LayoutError::Manifest { path, source })
    }

    /// Opens a blob: a regular file of the right size. Its content is for the reader to verify.
    pub(crate) fn open_blob(&self, descriptor: &Descriptor) -> Result<File, LayoutError> {
        let path = self.path(descriptor);
        let (file, actual) = open_regular(&path)?;
        match actual == descriptor.size {
            true => Ok(file),
            false => Err(LayoutError::Size { path, actual, expected: descriptor.size }),
        }
    }

    /// A failure to read a blob that was opened.
    pub(crate) fn read_error(&self, descriptor: &Descriptor, source: io::Error) -> LayoutError {
        LayoutError::Read { path: self.path(descriptor), source }
    }

    fn path(&self, descriptor: &Descriptor) -> PathBuf {
        let digest = &descriptor.digest;
        self.directory.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }
}

fn choose(
    directory: &Path,
    mut entries: Vec<Descriptor>,
    name: Option<&str>,
    platform: &Platform,
) -> Result<Descriptor, LayoutError> {
    let name_of = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    if let Some(name) = name {
        let mut present: Vec<String> = entries.iter().filter_map(name_of).collect();
        entries.retain(|entry| name_of(entry).as_deref() == Some(name));
        if entries.is_empty() {
            present.truncate(10);
            let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
            return Err(LayoutError::NoName { directory: directory.to_owned(), name: name.to_owned(), present });
        }
    }
    if let [only] = &entries[..] {
        return Ok(only.clone());
    }
    // Several images of one name, or several without any, may be one image for several platforms.
    let ranked = entries.iter().filter_map(|entry| Some((entry.platform.as_ref()?.serves(platform)?, entry)));
    let same_name = entries.iter().all(|entry| name_of(entry) == entries.first().and_then(name_of));
    match ranked.min_by_key(|(rank, _)| *rank) {
        Some((_, best)) if same_name => Ok(best.clone()),
        _ => Err(LayoutError::Unclear { directory: directory.to_owned(), count: entries.len() }),
    }
}

// A fifo would hang and a link would lead elsewhere.
fn open_regular(path: &Path) -> Result<(File, u64), LayoutError> {
    let error = |source| LayoutError::Open { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match file {
        Err(source) if source.raw_os_error() == Some(libc::ELOOP) => {
            return Err(LayoutError::NotRegular { path: path.to_owned() });
        }
        file => file.map_err(error)?,
    };
    let metadata = file.metadata().map_err(error)?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(LayoutError::NotRegular { path: path.to_owned() }),
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let (file, size) = open_regular(path)?;
    if size > limit {
        return Err(LayoutError::Size { path: path.to_owned(), actual: size, expected: limit });
    }
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
    Ok(content)
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path, content: Vec<u8>) -> Result<T, LayoutError> {
    serde_json::from_slice(&content).map_err(|source| LayoutError::Malformed { path: path.to_owned(), source })
}
