// SPDX-License-Identifier: Apache-2.0
//! The state directory's root and the names of its parts.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// An open state directory. The parts below it are made when first needed, all with mode 0700: layers
/// hold setuid files that no other user of the host may reach (CVE-2021-41103, CVE-2024-25621).
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Opens the state directory and makes it when it is missing.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let dir = Self { root: root.to_owned() };
        match fs::symlink_metadata(root) {
            // A directory that others can search would show them setuid files; ours is made private.
            Ok(metadata) if metadata.is_dir() && metadata.mode() & 0o077 != 0 => {
                use std::os::unix::fs::PermissionsExt;
                let private = fs::Permissions::from_mode(0o700);
                fs::set_permissions(root, private).map_err(StoreError::io("make private", root))?;
            }
            Ok(_) => {}
            Err(_) => dir.make(root)?,
        }
        Ok(dir)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The OCI image layout.
    pub fn image(&self) -> PathBuf {
        self.root.join("image")
    }

    /// Downloads under way.
    pub fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Unpacked layers.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// The bundles of a namespace.
    pub fn bundles(&self, namespace: &str) -> PathBuf {
        self.root.join("bundles").join(namespace)
    }

    /// The supervised containers of a namespace.
    pub fn tasks(&self, namespace: &str) -> PathBuf {
        self.root.join("tasks").join(namespace)
    }

    /// The event log.
    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// The start limiter's places and queue.
    pub fn sched(&self) -> PathBuf {
        self.root.join("sched")
    }

    /// Makes a directory below the root, with its parents, private to the user.
    pub fn make(&self, path: &Path) -> Result<(), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("make directory", path))
    }
}

/// Where the runtime keeps the state of a namespace's containers: `$CTR_RUN_ROOT`, else `/run/ctr-run`
/// for root and `$XDG_RUNTIME_DIR/ctr-run` for others; followed by `.NAMESPACE` for any but `default`.
///
/// It is apart from the state directory because it must not outlive a reboot.
pub fn runtime_root(namespace: &str) -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = var("CTR_RUN_ROOT").unwrap_or_else(|| match ctr_sys::process::is_root() && !is_root_of_a_user() {
        true => PathBuf::from("/run/ctr-run"),
        false => var("XDG_RUNTIME_DIR").unwrap_or_else(std::env::temp_dir).join("ctr-run"),
    });
    match namespace {
        "default" => root,
        other => {
            let mut name = root.into_os_string();
            name.push(".");
            name.push(other);
            name.into()
        }
    }
}

// Root of a user namespace whose user is somebody else outside has no /run of its own (rootless podman).
fn is_root_of_a_user() -> bool {
    std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| !dir.is_empty())
        && std::env::var_os("USER").is_none_or(|user| user != "root")
        && std::fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
}
