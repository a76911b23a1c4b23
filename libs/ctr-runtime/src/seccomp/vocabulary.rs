// SPDX-License-Identifier: Apache-2.0
//! What this runtime understands of a profile, in the words of runtime-spec's `features` structure.

use ctr_sys::seccomp::Flags;

/// The actions (`linux.seccomp.actions`).
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The operators (`linux.seccomp.operators`).
pub const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// The architectures whose system calls are known (`linux.seccomp.archs`).
pub const ARCHITECTURES: [&str; 10] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// The flags (`linux.seccomp.knownFlags`).
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

// Of the first nothing is left to ask the kernel for.
const KERNEL_FLAGS: [Flags; 4] = [Flags::NONE, Flags::SPEC_ALLOW, Flags::LOG, Flags::WAIT_KILLABLE_RECV];

/// Those of [`FLAGS`] that this kernel takes (`linux.seccomp.supportedFlags`).
pub fn supported_flags() -> Vec<&'static str> {
    named(|flag| flag.is_available())
}

/// Those of [`FLAGS`] that a filter is loaded with.
pub(crate) fn names(flags: Flags) -> Vec<&'static str> {
    named(|flag| flag != Flags::NONE && flags.contains(flag))
}

fn named(wanted: impl Fn(Flags) -> bool) -> Vec<&'static str> {
    FLAGS.into_iter().zip(KERNEL_FLAGS).filter(|(_, flag)| wanted(*flag)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::seccomp::abi::MACHINES;

    fn read<T: DeserializeOwned>(words: &[&str]) -> Vec<T> {
        words.iter().map(|word| serde_json::from_value((*word).into()).unwrap()).collect()
    }

    #[test]
    fn every_word_is_one_of_the_specification() {
        read::<LinuxSeccompAction>(&ACTIONS);
        read::<LinuxSeccompOperator>(&OPERATORS);
        read::<LinuxSeccompFilterFlag>(&FLAGS);
    }

    #[test]
    fn architectures_are_those_with_a_table() {
        let listed: Vec<Arch> = read(&ARCHITECTURES);
        let known: Vec<Arch> = MACHINES.iter().flat_map(|machine| machine.abis).map(|abi| abi.arch).collect();
        assert!(known.iter().all(|arch| listed.contains(arch)));
        assert!(listed.iter().all(|arch| known.contains(arch)));
    }

    #[test]
    fn this_kernel_takes_what_all_kernels_take() {
        let supported = supported_flags();
        assert!(supported.contains(&"SECCOMP_FILTER_FLAG_LOG"), "{supported:?}");
        assert!(supported.contains(&"SECCOMP_FILTER_FLAG_SPEC_ALLOW"), "{supported:?}");
    }
}
