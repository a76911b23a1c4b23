// SPDX-License-Identifier: Apache-2.0
//! bpf(2), as far as programs that decide over a cgroup's devices need it: load, attach, replace, detach, query.
//!
//! What the programs say is for the caller to assemble, from [`Instruction`]s.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// One eBPF instruction, laid out as the kernel reads it (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, operation and kind of source.
    pub opcode: u8,
    /// The destination register in the low four bits, the source register in the high four.
    pub registers: u8,
    /// A jump's distance, in instructions after the next one; a load's displacement, in bytes.
    pub offset: i16,
    /// The constant operand.
    pub immediate: i32,
}

// The kernel takes any prefix of its `union bpf_attr` and reads the rest as zeros: each command has a
// struct of the members that it needs, without padding that could hold anything else.

#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    zero: u32,
}

/// Hands a program that decides over device access to the kernel, which verifies it.
///
/// Fails with `EPERM` without the privilege (also where memory for programs counts against
/// `RLIMIT_MEMLOCK`, before Linux 5.11) and with `EINVAL` or `EACCES` when the verifier refuses it.
pub fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let instruction_count = u32::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut attr = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"ctr_devices\0\0\0\0\0",
    };
    // SAFETY: `instructions` points to that many bpf_insn, `license` to a NUL-terminated string; both
    // outlive the call, and the kernel copies them.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr)? };
    // SAFETY: the kernel has just returned this descriptor (close-on-exec) to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a program decide over the devices of a cgroup, beside the programs that are attached there
/// already, or in the place of one of them (Linux 5.6).
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: this command's attribute holds integers only.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr)? };
    Ok(())
}

/// Takes a program off a cgroup.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    // SAFETY: this command's attribute holds integers only.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr)? };
    Ok(())
}

/// The programs attached to this very cgroup (not to those above it), in the order of their attachment.
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    // The kernel attaches no more than 64 to one cgroup.
    let mut ids = [0u32; 64];
    let mut attr = Query {
        target: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        zero: 0,
    };
    // SAFETY: `ids` has room for `count` integers and outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr)? };
    ids.iter().take(attr.count as usize).map(|&id| program_by_id(id)).collect()
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = ById { id, next_id: 0, open_flags: 0 };
    // SAFETY: this command's attribute holds integers only.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)? };
    // SAFETY: the kernel has just returned this descriptor (close-on-exec) to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Performs one command.
///
/// # Safety
/// `attr` is the attribute of that command: without padding, every address in it valid for what the
/// command does with it.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attribute is valid for its size, which is passed along; its addresses are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_the_kernels_layout() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(size_of::<Load>(), 64);
        assert_eq!(size_of::<Attach>(), 20);
        assert_eq!(size_of::<ById>(), 12);
        assert_eq!(size_of::<Query>(), 32);
    }

    #[test]
    fn refuses_a_program_without_an_end() {
        // r0 = 1, and no exit after it
        let endless = [Instruction { opcode: 0xb7, registers: 0, offset: 0, immediate: 1 }];
        let error = load_device_program(&endless).expect_err("the verifier must refuse it").raw_os_error();
        assert!(matches!(error, Some(libc::EINVAL | libc::EPERM)), "{error:?}");
    }
}
