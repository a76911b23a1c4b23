// SPDX-License-Identifier: Apache-2.0
//! A mount as a plain value: whoever consumes one performs it.

use serde::{Deserialize, Serialize};

/// What to mount, without where: containerd's `mount.Mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The file system type, `overlay` or `bind`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The source: a path for a bind, else a name for the mount table.
    pub source: String,
    /// Options in fstab's form, one each.
    #[serde(default)]
    pub options: Vec<String>,
}
