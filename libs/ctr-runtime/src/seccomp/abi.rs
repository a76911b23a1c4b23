// SPDX-License-Identifier: Apache-2.0
//! The machines a filter can be made for, and the kinds of system call each of them has.

use oci_spec::runtime::Arch;

use super::table::{self, Column};

/// A kind of computer: the ABIs whose calls its kernel takes, its own one first.
#[derive(Debug)]
pub(super) struct Machine {
    /// Rust's name of its architecture.
    pub(super) name: &'static str,
    /// Whether the upper half of a 64-bit argument comes first in memory.
    pub(super) big_endian: bool,
    /// The native ABI, then those of older or smaller programs.
    pub(super) abis: &'static [Abi],
}

/// A way to call the kernel: a table of numbers and the width of arguments.
#[derive(Debug)]
pub(super) struct Abi {
    /// What a profile calls it.
    pub(super) arch: Arch,
    /// What the kernel calls it in `seccomp_data.arch` (`AUDIT_ARCH_*`).
    pub(super) audit: u32,
    /// What is added to every number; only x32 has this, being x86_64 to the kernel otherwise.
    pub(super) offset: u32,
    /// Whether arguments have 64 bits. Of others only the lower half counts.
    pub(super) wide: bool,
    /// Whether socketcall(2) and ipc(2) stand for the calls that newer architectures have singly.
    pub(super) multiplexed: bool,
    /// Whether a call that the kernel does not know is seen as number 0 (s390, numbers above 255).
    pub(super) unknown_is_zero: bool,
    /// Its calls by number.
    pub(super) calls: &'static Column,
}

/// The bit that marks x32 calls.
pub(super) const X32_BIT: u32 = 0x4000_0000;

const PLAIN: Abi = Abi {
    arch: Arch::ScmpArchX86_64,
    audit: 0xc000_003e,
    offset: 0,
    wide: true,
    multiplexed: false,
    unknown_is_zero: false,
    calls: &table::X86_64,
};
const X86: Abi =
    Abi { arch: Arch::ScmpArchX86, audit: 0x4000_0003, wide: false, multiplexed: true, calls: &table::X86, ..PLAIN };
const X32: Abi = Abi { arch: Arch::ScmpArchX32, offset: X32_BIT, wide: false, calls: &table::X32, ..PLAIN };
const AARCH64: Abi = Abi { arch: Arch::ScmpArchAarch64, audit: 0xc000_00b7, calls: &table::AARCH64, ..PLAIN };
const ARM: Abi = Abi { arch: Arch::ScmpArchArm, audit: 0x4000_0028, wide: false, calls: &table::ARM, ..PLAIN };
const RISCV64: Abi = Abi { arch: Arch::ScmpArchRiscv64, audit: 0xc000_00f3, calls: &table::RISCV64, ..PLAIN };
const S390X: Abi = Abi {
    arch: Arch::ScmpArchS390x,
    audit: 0x8000_0016,
    multiplexed: true,
    unknown_is_zero: true,
    calls: &table::S390X,
    ..PLAIN
};
const S390: Abi = Abi { arch: Arch::ScmpArchS390, audit: 0x0000_0016, wide: false, calls: &table::S390, ..S390X };
const PPC64LE: Abi =
    Abi { arch: Arch::ScmpArchPpc64le, audit: 0xc000_0015, multiplexed: true, calls: &table::PPC64LE, ..PLAIN };
const LOONGARCH64: Abi =
    Abi { arch: Arch::ScmpArchLoongarch64, audit: 0xc000_0102, calls: &table::LOONGARCH64, ..PLAIN };

/// Every machine there is a table for.
pub(super) static MACHINES: [Machine; 8] = [
    Machine { name: "x86_64", big_endian: false, abis: &[PLAIN, X86, X32] },
    Machine { name: "x86", big_endian: false, abis: &[X86] },
    Machine { name: "aarch64", big_endian: false, abis: &[AARCH64, ARM] },
    Machine { name: "arm", big_endian: false, abis: &[ARM] },
    Machine { name: "riscv64", big_endian: false, abis: &[RISCV64] },
    Machine { name: "s390x", big_endian: true, abis: &[S390X, S390] },
    Machine { name: "powerpc64", big_endian: false, abis: &[PPC64LE] },
    Machine { name: "loongarch64", big_endian: false, abis: &[LOONGARCH64] },
];

/// The machine this program was built for.
pub(super) fn native() -> Option<&'static Machine> {
    let big_endian = cfg!(target_endian = "big");
    MACHINES.iter().find(|machine| machine.name == std::env::consts::ARCH && machine.big_endian == big_endian)
}
