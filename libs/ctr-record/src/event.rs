// SPDX-License-Identifier: Apache-2.0
//! Events: containerd's topics and fields, one JSON line each.

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Digest, Mount, Timestamp};

/// A line of the event log: containerd's envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub timestamp: Timestamp,
    /// The namespace it happened in.
    pub namespace: String,
    /// `topic` and `event`.
    #[serde(flatten)]
    pub payload: Payload,
}

/// What happened. The variants are containerd's topics, their members containerd's fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "topic", content = "event")]
#[allow(missing_docs)] // the fields are those of containerd's api/events
pub enum Payload {
    /// A blob was added.
    #[serde(rename = "/content/create")]
    ContentCreate {
        digest: Digest,
        size: u64,
        #[serde(rename = "mediaType")]
        media_type: String,
    },
    /// A name was given to an image for the first time.
    #[serde(rename = "/images/create")]
    ImageCreate { name: String, target: Descriptor },
    /// A name was moved to another image.
    #[serde(rename = "/images/update")]
    ImageUpdate { name: String, target: Descriptor },
    /// A layer was unpacked into the snapshot of this name.
    #[serde(rename = "/snapshot/commit")]
    SnapshotCommit { key: String, name: String },
    /// A bundle was made.
    #[serde(rename = "/containers/create")]
    ContainerCreate {
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
    /// A bundle was removed.
    #[serde(rename = "/containers/delete")]
    ContainerDelete { id: String },
    /// A container was created.
    #[serde(rename = "/tasks/create")]
    TaskCreate { container_id: String, bundle: String, rootfs: Vec<Mount>, io: TaskIo, pid: i32 },
    /// Its process was started.
    #[serde(rename = "/tasks/start")]
    TaskStart { container_id: String, pid: i32 },
    /// A process of the container ended; `id` is the container's for its first process.
    #[serde(rename = "/tasks/exit")]
    TaskExit { container_id: String, id: String, pid: i32, exit_status: u32, exited_at: Timestamp },
    /// The container was deleted.
    #[serde(rename = "/tasks/delete")]
    TaskDelete { container_id: String, id: String, pid: i32, exit_status: u32, exited_at: Timestamp },
    /// The kernel killed a process of the container for want of memory.
    #[serde(rename = "/tasks/oom")]
    TaskOom { container_id: String },
    /// The container's processes were frozen.
    #[serde(rename = "/tasks/paused")]
    TaskPaused { container_id: String },
    /// The container's processes were thawed.
    #[serde(rename = "/tasks/resumed")]
    TaskResumed { container_id: String },
}

/// Where a task's standard streams go: paths, empty for `/dev/null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskIo {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_containerds_envelope() {
        let line = r#"{"timestamp":"2026-01-02T03:04:05.000000006Z","namespace":"default","topic":"/tasks/start","event":{"container_id":"web","pid":7}}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.payload, Payload::TaskStart { container_id: "web".into(), pid: 7 });
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}
