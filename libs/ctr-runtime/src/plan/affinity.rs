// SPDX-License-Identifier: Apache-2.0
//! On which CPUs a process that is executed in a container runs (`process.execCPUAffinity`).

use ctr_sys::affinity::{CpuSet, MAX_CPUS};
use oci_spec::runtime::Process;
use serde::Serialize;

use super::words;
use crate::RuntimeError;
use crate::plan::range;

/// The CPUs of an executed process, at its birth and from its cgroup on. Without either, it gets all that its
/// cpuset has, wherever the runtime itself is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuAffinity {
    /// Before the process joins the container's cgroup.
    #[serde(serialize_with = "words::cpus")]
    pub initial: Option<CpuSet>,
    /// After that.
    #[serde(rename = "final", serialize_with = "words::cpus")]
    pub last: Option<CpuSet>,
}

impl CpuAffinity {
    /// Takes that of a `process` object.
    pub fn new(process: &Process) -> Result<Self, RuntimeError> {
        let Some(affinity) = process.exec_cpu_affinity() else { return Ok(Self::default()) };
        let set = |member: &str, list: &Option<String>| {
            let refuse = |list: &str| {
                RuntimeError::config(
                    format!("process.execCPUAffinity.{member}"),
                    format!("{list:?} is no list of CPUs"),
                )
            };
            list.as_deref().map(|list| parse(list).ok_or_else(|| refuse(list))).transpose()
        };
        Ok(Self { initial: set("initial", affinity.initial())?, last: set("final", affinity.cpu_affinity_final())? })
    }

    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// `0-3,7`, as cpuset files have it.
fn parse(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::none();
    for part in list.split(',') {
        if !range::parse(part, MAX_CPUS).ok()?.all(|cpu| set.insert(cpu)) {
            return None;
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn affinity(member: &str, list: &str) -> Option<CpuAffinity> {
        let process = json!({
            "cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}, "execCPUAffinity": { (member): list }
        });
        CpuAffinity::new(&serde_json::from_value(process).ok()?).ok()
    }

    #[test]
    fn a_list_has_numbers_and_ranges() {
        let set = affinity("final", "0-2,7").unwrap().last.unwrap();
        assert_eq!(format!("{set:?}"), "{0, 1, 2, 7}");
        for bad in ["a", "1-", "-1", "2-1", "1,,2", "0-8192", "99999999999999999999", "0 ", "+1"] {
            assert!(affinity("initial", bad).is_none() && parse(bad).is_none(), "{bad:?}");
        }
    }
}
