// SPDX-License-Identifier: Apache-2.0
//! Counters that a process has in common with those it makes.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicU32;

/// How many [`counters`] there are.
pub const COUNTERS: usize = 64;

/// Makes counters, all 0, that this process and its future children share, as long as one of them lives.
pub fn counters() -> io::Result<&'static [AtomicU32; COUNTERS]> {
    let size = size_of::<[AtomicU32; COUNTERS]>();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping wherever there is room touches no memory that is in use.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping begins a page, is as large as the array, is never unmapped, and holds zeros, which
    // are valid atomics; whoever shares it sees it through atomics only.
    Ok(unsafe { &*memory.cast() })
}
