// SPDX-License-Identifier: Apache-2.0
//! Limits as what is written where: a list of control files and values, in the order of writing.
//!
//! It is made without looking at the machine but for one question: which controllers v1 hierarchies hold.
//! `v1` and `v2` know the files of the two; `apply` writes them.

mod v1;
mod v2;

use std::borrow::Cow;

use serde::Serialize;

use super::convert::{most_pids, or_max};
use super::limits::Limits;
use super::{CgroupError, Version};

/// One value for one control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The controller, as the hierarchy that has it names it: `blkio` in v1, `io` in v2.
    pub controller: Cow<'static, str>,
    /// Which kind of hierarchy the file is in.
    pub version: Version,
    /// The name of the control file.
    pub file: Cow<'static, str>,
    /// What is written.
    pub value: String,
    /// What happens when there is no such file.
    #[serde(skip)]
    pub(super) if_absent: IfAbsent,
    /// What is looked at before the value is written.
    #[serde(skip)]
    pub(super) first: First,
}

/// What a missing control file means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum IfAbsent {
    /// The limit cannot be set: an error.
    #[default]
    Fail,
    /// There is nothing to limit.
    Skip,
    /// Another file takes the same limit, in its own units.
    Write(&'static str, String),
}

/// What the value depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum First {
    /// Nothing.
    #[default]
    Nothing,
    /// As much as the limit may be in use already, which this file tells.
    CompareUse(&'static str, u64),
    /// The value is a period, and the quota that is in force stays before it.
    KeepQuota,
}

impl Setting {
    fn new(
        version: Version,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Self {
            controller: controller.into(),
            version,
            file: file.into(),
            value: value.to_string(),
            if_absent: IfAbsent::Fail,
            first: First::Nothing,
        }
    }

    fn if_absent(mut self, then: IfAbsent) -> Self {
        self.if_absent = then;
        self
    }

    fn first(mut self, first: First) -> Self {
        self.first = first;
        self
    }
}

impl Limits {
    /// The settings that these limits come to where `on_v1` tells of a controller, by its v1 name, whether a
    /// v1 hierarchy holds it.
    ///
    /// Fails where a limit has no counterpart in the version that holds its controller.
    pub fn settings(&self, on_v1: impl Fn(&str) -> bool) -> Result<Vec<Setting>, CgroupError> {
        let resources = self.resources();
        let mut list = Vec::new();
        if let Some(memory) = resources.memory() {
            if on_v1("memory") { v1::memory(memory, &mut list) } else { v2::memory(memory, &mut list)? }
        }
        if let Some(cpu) = resources.cpu() {
            if on_v1("cpuset") {
                v1::cpuset(cpu, &mut list)
            } else {
                v2::cpuset(cpu, &mut list)
            }
            if on_v1("cpu") { v1::cpu(cpu, &mut list) } else { v2::cpu(cpu, &mut list)? }
        }
        if let Some(pids) = resources.pids() {
            let version = if on_v1("pids") { Version::V1 } else { Version::V2 };
            list.push(Setting::new(version, "pids", "pids.max", or_max(most_pids(pids.limit()))));
        }
        if let Some(block_io) = resources.block_io() {
            if on_v1("blkio") { v1::block_io(block_io, &mut list) } else { v2::block_io(block_io, &mut list)? }
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            if on_v1("hugetlb") { v1::hugepages(limit, &mut list) } else { v2::hugepages(limit, &mut list) }
        }
        if let Some(rdma) = resources.rdma() {
            let version = if on_v1("rdma") { Version::V1 } else { Version::V2 };
            let mut devices: Vec<_> = rdma.iter().collect();
            devices.sort_by_key(|(name, _)| *name);
            for (name, limit) in devices {
                let count = |key, count: Option<u32>| count.map(|n| format!(" {key}={n}")).unwrap_or_default();
                let counts = count("hca_handle", limit.hca_handles()) + &count("hca_object", limit.hca_objects());
                if !counts.is_empty() {
                    list.push(Setting::new(version, "rdma", "rdma.max", format!("{name}{counts}")));
                }
            }
        }
        if let Some(network) = resources.network() {
            if on_v1("net_cls") || on_v1("net_prio") {
                v1::network(network, &mut list);
            } else {
                v2::network(network)?;
            }
        }
        // last: the map overrides what was converted
        if let Some(unified) = resources.unified() {
            v2::unified(unified, on_v1, &mut list)?;
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
