// SPDX-License-Identifier: Apache-2.0
//! The device nodes of the container.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxDeviceType};
use serde::Serialize;

use super::mounts::below_root;
use super::words;
use crate::RuntimeError;

/// A device node of `linux.devices`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct DevicePlan {
    /// Relative to the container's root, without `..`.
    #[serde(serialize_with = "words::inside")]
    pub path: PathBuf,
    pub kind: NodeKind,
    pub major: u64,
    pub minor: u64,
    #[serde(serialize_with = "words::mode")]
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What mknod makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

/// Plans the nodes of `linux.devices`.
pub(super) fn devices(linux: &Linux) -> Result<Vec<DevicePlan>, RuntimeError> {
    let plan = |(i, device): (usize, &oci_spec::runtime::LinuxDevice)| {
        let refuse = |reason: String| RuntimeError::config(format!("linux.devices[{i}]"), reason);
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Character,
            LinuxDeviceType::B => NodeKind::Block,
            LinuxDeviceType::P => NodeKind::Fifo,
            LinuxDeviceType::A => return Err(refuse("type a is none of a node".into())),
        };
        let path = below_root(device.path());
        if !device.path().is_absolute() || path.as_os_str().is_empty() {
            return Err(refuse(format!("path {} is not absolute", device.path().display())));
        }
        let number = |n: i64| u32::try_from(n).map(u64::from).map_err(|_| refuse(format!("{n} is no device number")));
        let (major, minor) = match kind {
            NodeKind::Fifo => (0, 0),
            _ => (number(device.major())?, number(device.minor())?),
        };
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
        let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        Ok(DevicePlan { path, kind, major, minor, mode, uid, gid })
    };
    linux.devices().iter().flatten().enumerate().map(plan).collect()
}
