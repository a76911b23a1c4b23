// SPDX-License-Identifier: Apache-2.0
//! The record: the JSON line that grows as it travels down a pipeline.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ChainId, Descriptor, DiffId, Mount, Platform, Timestamp};

/// The version that this code writes, and the only one it reads.
const VERSION: u64 = 1;

/// One line of a pipeline. Each tool adds its part and passes on what it does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the record.
    ctr: u64,
    /// The state directory that holds what the record speaks of.
    pub state_dir: PathBuf,
    /// The namespace of its names.
    pub namespace: String,
    /// Added by `ctr-pull`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Added by `ctr-unpack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Added by `ctr-bundle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundle>,
    /// Added by `ctr-shim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An image in the content store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The normalised reference, or how else the image was named (`oci:DIR:REF`).
    pub reference: String,
    /// The image manifest.
    pub manifest: Descriptor,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first, as stored.
    pub layers: Vec<Descriptor>,
    /// The digests of the layers' uncompressed tars, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// The platform that the image is for.
    pub platform: Platform,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An unpacked image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The chainID of the whole stack; absent for a flattened directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<ChainId>,
    /// How to mount it, read-only.
    pub mounts: Vec<Mount>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An OCI runtime bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// The bundle directory.
    pub path: PathBuf,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A supervised container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The container's id.
    pub id: String,
    /// The container's first process, as the host numbers it; 0 once it is gone.
    pub pid: i32,
    /// What the container does.
    pub status: TaskStatus,
    /// When its process was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Members that this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The states of a container (runtime-spec, "State", and `paused`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum TaskStatus {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
    /// It cannot be told: its supervisor was killed before it could record the end.
    Unknown,
}

impl TaskStatus {
    /// The status as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidRecord {
    #[error("{excerpt:?} is not a record")]
    Malformed { excerpt: String, source: serde_json::Error },
    #[error("the record is of version {0}, and only version {VERSION} is known here")]
    Version(Value),
    #[error("{0:?} is JSON but no record: it has no member \"ctr\"")]
    NoVersion(String),
}

impl Record {
    /// A record that says nothing yet.
    pub fn new(state_dir: PathBuf, namespace: &str) -> Self {
        Self {
            ctr: VERSION,
            state_dir,
            namespace: namespace.to_owned(),
            image: None,
            snapshot: None,
            bundle: None,
            task: None,
            extra: Map::new(),
        }
    }

    /// Reads one line. Another version is refused by name, unknown members are kept.
    pub fn parse(line: &str) -> Result<Self, InvalidRecord> {
        let excerpt = || line.trim().chars().take(80).collect::<String>();
        let malformed = |source| InvalidRecord::Malformed { excerpt: excerpt(), source };
        let value: Value = serde_json::from_str(line).map_err(malformed)?;
        match value.get("ctr") {
            None => return Err(InvalidRecord::NoVersion(excerpt())),
            Some(version) if version.as_u64() != Some(VERSION) => return Err(InvalidRecord::Version(version.clone())),
            Some(_) => {}
        }
        serde_json::from_value(value).map_err(malformed)
    }

    /// The record as one line, without a newline.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_pass_through() {
        let line = r#"{"ctr":1,"stateDir":"/s","namespace":"default","bundle":{"id":"a","path":"/b","later":[1]},"future":{"x":true}}"#;
        assert_eq!(Record::parse(line).unwrap().to_line(), line);
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        let error = Record::parse(r#"{"ctr":2,"stateDir":"/s","namespace":"d"}"#).unwrap_err();
        assert_eq!(error.to_string(), "the record is of version 2, and only version 1 is known here");
        assert!(matches!(Record::parse("{}"), Err(InvalidRecord::NoVersion(_))));
        assert!(matches!(Record::parse("redis:alpine"), Err(InvalidRecord::Malformed { .. })));
    }
}
