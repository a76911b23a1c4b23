// SPDX-License-Identifier: Apache-2.0
//! The NUMA memory policy (runtime-spec, config-linux, "Memory policy").

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};
use serde::Serialize;

use super::words;
use crate::RuntimeError;
use crate::plan::range;

/// The arguments of set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` and `MPOL_F_*`.
    #[serde(serialize_with = "words::memory_mode")]
    pub mode: i32,
    /// Bit N of the whole is node N.
    #[serde(serialize_with = "words::bits")]
    pub nodes: Vec<u64>,
}

/// One more than the greatest node number that any kernel is built for, with room to spare.
const MAX_NODES: usize = 4096;
pub(super) const MPOL_PREFERRED_MANY: i32 = 5;
pub(super) const MPOL_WEIGHTED_INTERLEAVE: i32 = 6;

impl MemoryPolicy {
    /// Plans a `memoryPolicy` object.
    pub fn new(spec: &LinuxMemoryPolicy) -> Result<Self, RuntimeError> {
        let refuse = |reason: String| Err(RuntimeError::config("linux.memoryPolicy", reason));
        let text = spec.nodes().as_deref().unwrap_or_default();
        let (nodes, count) = match parse_nodes(text) {
            Ok(nodes) => nodes,
            Err(reason) => return refuse(format!("invalid memory policy nodes {text:?}: {reason}")),
        };
        let mode = match spec.mode() {
            Mode::MpolDefault => libc::MPOL_DEFAULT,
            Mode::MpolPreferred => libc::MPOL_PREFERRED,
            Mode::MpolBind => libc::MPOL_BIND,
            Mode::MpolInterleave => libc::MPOL_INTERLEAVE,
            Mode::MpolLocal => libc::MPOL_LOCAL,
            Mode::MpolPreferredMany => MPOL_PREFERRED_MANY,
            Mode::MpolWeightedInterleave => MPOL_WEIGHTED_INTERLEAVE,
        };
        match mode {
            libc::MPOL_DEFAULT | libc::MPOL_LOCAL if count > 0 => {
                return refuse(format!("{} mode requires 0 nodes but got {count}", spec.mode()));
            }
            libc::MPOL_DEFAULT | libc::MPOL_LOCAL | libc::MPOL_PREFERRED => {}
            _ if count == 0 => return refuse(format!("{} mode requires at least one node but got 0", spec.mode())),
            _ => {}
        }
        let flag = |flag: &Flag| match flag {
            Flag::MpolFNumaBalancing => libc::MPOL_F_NUMA_BALANCING,
            Flag::MpolFRelativeNodes => libc::MPOL_F_RELATIVE_NODES,
            Flag::MpolFStaticNodes => libc::MPOL_F_STATIC_NODES,
        };
        Ok(Self { mode: spec.flags().iter().flatten().fold(mode, |mode, f| mode | flag(f)), nodes })
    }
}

// `0-3,7` to a set, and how many are in it.
fn parse_nodes(text: &str) -> Result<(Vec<u64>, usize), String> {
    let mut nodes: Vec<u64> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let range = range::parse(part, MAX_NODES)?;
        let last = *range.end();
        if nodes.len() <= last / 64 {
            nodes.resize(last / 64 + 1, 0);
        }
        range.for_each(|node| nodes[node / 64] |= 1 << (node % 64));
    }
    let count = nodes.iter().map(|word| word.count_ones() as usize).sum();
    Ok((nodes, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(policy: Value) -> Result<MemoryPolicy, String> {
        MemoryPolicy::new(&serde_json::from_value(policy).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn modes_flags_and_nodes_are_the_kernels() {
        let policy = plan(json!({"mode": "MPOL_BIND", "nodes": "0-2, 64", "flags": ["MPOL_F_STATIC_NODES"]})).unwrap();
        assert_eq!(policy, MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![0b111, 1] });
        for empty in ["MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"] {
            assert!(plan(json!({"mode": empty})).unwrap().nodes.is_empty());
            assert!(plan(json!({"mode": empty, "nodes": ""})).unwrap().nodes.is_empty());
        }
    }

    #[test]
    fn refuses_nodes_that_the_mode_has_no_use_for() {
        for (policy, reason) in [
            (json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"}), "mode requires 0 nodes but got 8"),
            (json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "mode requires 0 nodes but got 1"),
            (json!({"mode": "MPOL_BIND"}), "at least one node but got 0"),
            (json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": ""}), "at least one node but got 0"),
            (json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"}), "invalid memory policy nodes"),
            (json!({"mode": "MPOL_BIND", "nodes": "3-1"}), "\"3-1\" is no range"),
            (json!({"mode": "MPOL_BIND", "nodes": "1,,2"}), "\"\" is not a number"),
            (json!({"mode": "MPOL_BIND", "nodes": "-1"}), "\"\" is not a number"),
        ] {
            let error = plan(policy).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
