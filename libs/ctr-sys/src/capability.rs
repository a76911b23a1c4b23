// SPDX-License-Identifier: Apache-2.0
//! The capability sets of this thread.
#![allow(unsafe_code)]

use std::io;

/// A set of capabilities: bit N is capability N.
pub type Set = u64;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

// _LINUX_CAPABILITY_VERSION_3, this thread.
static HEADER: Header = Header { version: 0x2008_0522, pid: 0 };

/// Reads the permitted set (capget(2)).
pub fn permitted() -> io::Result<Set> {
    let mut data = [Data::default(); 2];
    // SAFETY: header and data have the kernel's layout for version 3, which writes two data elements.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const HEADER, data.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Set::from(data[0].permitted) | Set::from(data[1].permitted) << 32)
}

/// Replaces the effective, permitted and inheritable sets (capset(2)).
pub fn set(effective: Set, permitted: Set, inheritable: Set) -> io::Result<()> {
    let part = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [part(0), part(32)];
    // SAFETY: header and data have the kernel's layout for version 3, which reads two data elements.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const HEADER, data.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a capability out of the bounding set. `false`: the kernel does not know that capability.
pub fn drop_bounding(capability: u32) -> io::Result<bool> {
    match prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Whether a capability is in the bounding set. `None`: the kernel does not know that capability.
pub fn in_bounding(capability: u32) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, capability.into(), 0).ok().map(|result| result == 1)
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Adds a capability to the ambient set; it must be permitted and inheritable.
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability.into()).map(drop)
}

/// Keeps the permitted set through the next change of user ids, or no longer.
pub fn keep_through_setuid(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

fn prctl(option: libc::c_int, a: u64, b: u64) -> io::Result<libc::c_int> {
    // SAFETY: the options used here take integers only.
    let result = unsafe { libc::prctl(option, a, b, 0_u64, 0_u64) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
