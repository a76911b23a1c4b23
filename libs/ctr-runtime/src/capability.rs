// SPDX-License-Identifier: Apache-2.0
//! Capabilities: names to numbers, and the sets that a process ends up with.

use ctr_sys::capability::{self as sys, Set};
use oci_spec::runtime::{Capabilities, LinuxCapabilities};
use serde::Serialize;

use crate::plan::words;
use crate::process::report::{Step, StepResult};

/// The kernel's capabilities in the order of their numbers, without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability from its name, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare).map(|n| n as u32)
}

/// The five sets of a process; bit N is capability N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct CapabilitySets {
    #[serde(serialize_with = "words::capabilities")]
    pub bounding: Set,
    #[serde(serialize_with = "words::capabilities")]
    pub effective: Set,
    #[serde(serialize_with = "words::capabilities")]
    pub permitted: Set,
    #[serde(serialize_with = "words::capabilities")]
    pub inheritable: Set,
    #[serde(serialize_with = "words::capabilities")]
    pub ambient: Set,
}

impl CapabilitySets {
    /// The sets that a spec asks for: absent ones are empty, and ambient is what permitted and
    /// inheritable allow (capabilities(7)).
    pub fn plan(spec: &LinuxCapabilities) -> Self {
        let set = |names: &Option<Capabilities>| {
            names.iter().flatten().filter_map(|name| number(&name.to_string())).fold(0, |set, n| set | 1 << n)
        };
        let (permitted, inheritable) = (set(spec.permitted()), set(spec.inheritable()));
        Self {
            bounding: set(spec.bounding()),
            effective: set(spec.effective()) & permitted,
            permitted,
            inheritable,
            ambient: set(spec.ambient()) & permitted & inheritable,
        }
    }

    /// Adds a capability to the bounding, effective and permitted sets (`exec --cap`).
    pub fn add(&mut self, number: u32) {
        let bit = 1 << number;
        self.bounding |= bit;
        self.effective |= bit;
        self.permitted |= bit;
        if self.inheritable & bit != 0 {
            self.ambient |= bit;
        }
    }

    /// Takes what is not wanted out of this process' bounding set. It needs `CAP_SETPCAP`, so it comes
    /// before the change of user.
    pub(crate) fn limit_bounding(&self) -> StepResult<()> {
        for number in (0..64).filter(|n| self.bounding & (1 << n) == 0) {
            if !sys::drop_bounding(number).step("drop a capability from the bounding set")? {
                break; // past the last one that the kernel knows
            }
        }
        Ok(())
    }

    /// Leaves out what a process cannot give that has the permitted set `ours`; returns the names of what it
    /// asked for in vain.
    pub(crate) fn withhold(&mut self, ours: Set) -> Vec<String> {
        let lacking = self.permitted & !ours;
        self.permitted &= ours;
        self.effective &= ours;
        self.ambient &= ours;
        self.inheritable &= ours | self.bounding;
        (0..).zip(NAMES).filter(|(n, _)| lacking & (1 << n) != 0).map(|(_, name)| format!("CAP_{name}")).collect()
    }

    /// Puts the other sets into effect, after the change of user.
    pub(crate) fn apply(&self) -> StepResult<()> {
        sys::set(self.effective, self.permitted, self.inheritable)
            .or_else(|_| sys::set(self.effective, self.permitted, self.inheritable & self.permitted))
            .step("set the capabilities")?;
        sys::clear_ambient().step("clear the ambient capabilities")?;
        for number in (0..64).filter(|n| self.ambient & (1 << n) != 0) {
            sys::raise_ambient(number).step("raise an ambient capability")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, n) in [("CAP_CHOWN", 0), ("sys_admin", 21), ("CAP_CHECKPOINT_RESTORE", 40)] {
            assert_eq!(number(name), Some(n));
        }
        assert_eq!(number("CAP_CAP_KILL"), None);
    }

    #[test]
    fn inheritable_stays_empty_unless_asked_for() {
        let spec = serde_json::from_value(json!({
            "bounding": ["CAP_KILL"], "effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
            "ambient": ["CAP_KILL"]
        }))
        .unwrap();
        let kill = 1 << 5;
        let sets = CapabilitySets::plan(&spec);
        assert_eq!(
            sets,
            CapabilitySets { bounding: kill, effective: kill, permitted: kill, inheritable: 0, ambient: 0 }
        );
    }

    #[test]
    fn what_the_runtime_lacks_is_left_out_and_named() {
        let (kill, chown) = (1 << 5, 1);
        let mut sets = CapabilitySets {
            bounding: kill | chown,
            effective: kill | chown,
            permitted: kill | chown,
            inheritable: chown,
            ambient: chown,
        };
        assert_eq!(sets.withhold(kill), ["CAP_CHOWN"]);
        let expected =
            CapabilitySets { bounding: kill | chown, effective: kill, permitted: kill, inheritable: chown, ambient: 0 };
        assert_eq!(sets, expected);
        assert!(sets.withhold(Set::MAX).is_empty());
    }
}
