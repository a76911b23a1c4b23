// SPDX-License-Identifier: Apache-2.0
//! Where a process' memory comes from (numa(7)).
#![allow(unsafe_code)]

use std::io;

/// Sets the memory policy of this thread: `MPOL_*` with `MPOL_F_*`, and a set of nodes, bit N of the whole
/// being node N (set_mempolicy(2)).
pub fn set_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = nodes.len() * 64 + 1;
    let (nodes, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), bits) };
    // SAFETY: the kernel reads the `bits - 1` bits that `nodes` has, or nothing at all.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::c_long::from(mode), nodes, bits) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
