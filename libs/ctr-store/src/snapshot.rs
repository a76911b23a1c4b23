// SPDX-License-Identifier: Apache-2.0
//! Snapshots: layers unpacked for overlay, one for each chainID, shared by all images.
//!
//! ```text
//! snapshots/<chain>/      a committed layer: fs/ and snapshot.json
//! snapshots/@<chain>/     one that is being unpacked; whoever does it holds a lock on it
//! ```
//!
//! `<chain>` is the hex part of the chainID. A layer is unpacked under its `@` name, described, synced,
//! and renamed, in that order: what has its own name is whole, and survives a power cut whole. What is
//! unpacked, and how, is the caller's business.

mod error;
mod plain;
mod stage;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ctr_record::{ChainId, DiffId, Mount};
use serde::{Deserialize, Serialize};

use crate::bundle::{self, Wait};
use crate::file::list_names;
use crate::leftover::{Leftover, LeftoverKind, Removal, staged};
use crate::{StateDir, StoreError, read_bounded};

pub use error::SnapshotError;
pub use plain::StagedDirectory;
pub use stage::StagedSnapshot;
use stage::{Claim, Staging};

const MARKER: &str = "snapshot.json";
const MARKER_LIMIT: u64 = 64 * 1024;
/// More layers than overlay takes (500) are no image's; a chain that is a circle ends here.
const MAX_LAYERS: usize = 500;

/// snapshot.json: what a committed layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotInfo {
    /// The stack of layers that it lies on, if it is not the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChainId>,
    /// The layer.
    pub diff_id: DiffId,
    /// Bytes of its files' content.
    pub size: u64,
    /// Files, directories and all else in it.
    pub inodes: u64,
    /// It hides all that is below it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

/// The snapshots of a state directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    state: StateDir,
}

impl Snapshots {
    /// The snapshots of a state directory.
    pub fn of(state: &StateDir) -> Self {
        Self { state: state.clone() }
    }

    /// What is known of a snapshot; `None` when it is not there.
    pub fn find(&self, chain: &ChainId) -> Result<Option<SnapshotInfo>, SnapshotError> {
        let path = self.path(chain).join(MARKER);
        let json = match read_bounded(&path, MARKER_LIMIT) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json?,
        };
        match serde_json::from_slice(&json) {
            Ok(info) => Ok(Some(info)),
            Err(source) => Err(StoreError::Damaged { path, source }.into()),
        }
    }

    /// Begins a snapshot, to be seen by nobody before [`StagedSnapshot::commit`]. `None` when it is there.
    ///
    /// One process at a time makes a snapshot. Others wait in this call until it is there, or until the
    /// one that was at it is gone, and then begin anew.
    pub fn stage(&self, chain: &ChainId) -> Result<Option<StagedSnapshot>, SnapshotError> {
        self.state.make(&self.state.snapshots())?;
        loop {
            if self.find(chain)?.is_some() {
                return Ok(None);
            }
            if let Claim::Taken(staging) = Staging::claim(&self.staging(chain), Wait::Yes)? {
                // Somebody may have committed it since the look above.
                if self.find(chain)?.is_some() {
                    return Ok(None);
                }
                stage::remove(&self.path(chain))?; // without a description it is no snapshot
                return Ok(Some(StagedSnapshot::new(staging, self.path(chain))));
            }
        }
    }

    /// The directories of a stack of layers, topmost first, as far as they are seen.
    pub fn layers(&self, chain: &ChainId) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut layers = Vec::new();
        let mut next = Some(chain.clone());
        while let Some(chain) = next {
            let Some(info) = self.find(&chain)? else { return Err(SnapshotError::Absent { chain }) };
            if layers.len() == MAX_LAYERS {
                return Err(SnapshotError::TooManyLayers);
            }
            layers.push(self.path(&chain).join("fs"));
            // Overlay does not heed the mark on a layer's root, so that it is heeded here.
            next = info.parent.filter(|_| !info.opaque);
        }
        Ok(layers)
    }

    /// How to mount a stack of layers, read-only: a bind of one, an overlay of several.
    pub fn mounts(&self, chain: &ChainId) -> Result<Vec<Mount>, SnapshotError> {
        let mut mount = bundle::stack(&self.layers(chain)?)?;
        if mount.kind == "overlay" && uses_user_xattrs() {
            mount.options.push("userxattr".to_owned());
        }
        Ok(vec![mount])
    }

    /// Removes what killed processes left half-made.
    pub fn sweep(&self) -> Result<(), SnapshotError> {
        for leftover in staged(LeftoverKind::Snapshot, self.state.snapshots())? {
            leftover?.remove()?;
        }
        Ok(())
    }

    fn path(&self, chain: &ChainId) -> PathBuf {
        self.state.snapshots().join(chain.0.hex())
    }

    fn staging(&self, chain: &ChainId) -> PathBuf {
        self.state.snapshots().join(format!("@{}", chain.0.hex()))
    }
}

/// The directories with a snapshot's name that are none: nothing is left there by a process that was killed, but
/// by a disk.
pub(crate) fn unmarked(
    state: &StateDir,
) -> Result<impl Iterator<Item = Result<Leftover, StoreError>> + use<>, StoreError> {
    let directory = state.snapshots();
    let is_name = |name: &String| name.len() >= 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let paths = list_names(&directory)?.into_iter().filter(is_name).map(move |name| directory.join(name));
    let look = |path: PathBuf| match is_unmarked(&path) {
        Ok(true) => Some(Ok(Leftover::new(LeftoverKind::Snapshot, path, Removal::Unmarked, None))),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    };
    Ok(paths.filter_map(look))
}

fn is_unmarked(path: &Path) -> Result<bool, StoreError> {
    let marker = path.join(MARKER);
    match fs::symlink_metadata(&marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.is_dir()),
        Err(error) => Err(StoreError::io("examine", &marker)(error)),
        Ok(_) => Ok(false),
    }
}

/// Removes such a directory, unless somebody makes the snapshot, and so does that.
pub(crate) fn remove_unmarked(path: &Path) -> Result<bool, StoreError> {
    let name = path.file_name().expect("it is in a directory").to_string_lossy();
    let Claim::Taken(_staging) = Staging::claim(&path.with_file_name(format!("@{name}")), Wait::No)? else {
        return Ok(false);
    };
    if !is_unmarked(path)? {
        return Ok(false);
    }
    stage::remove(path).map(|()| true)
}

/// Whether overlay's marks are attributes that users may set: the others are only root's.
pub fn uses_user_xattrs() -> bool {
    !ctr_sys::process::is_root()
}
