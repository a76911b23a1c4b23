// SPDX-License-Identifier: Apache-2.0
//! Loading of seccomp filters. What a filter says is the caller's business.
#![allow(unsafe_code)]

use std::io;
use std::ops::BitOr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub use libc::sock_filter;

/// How a filter is loaded (seccomp(2), `SECCOMP_FILTER_FLAG_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Nothing asked for.
    pub const NONE: Self = Self(0);
    /// Every thread of the process gets the filter.
    pub const TSYNC: Self = Self(libc::SECCOMP_FILTER_FLAG_TSYNC as u32);
    /// What the filter answers is logged, but for what it allows.
    pub const LOG: Self = Self(libc::SECCOMP_FILTER_FLAG_LOG as u32);
    /// Speculative store bypass is not mitigated.
    pub const SPEC_ALLOW: Self = Self(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    /// A call that waits for the listener is interrupted by nothing but a signal that kills. Only
    /// [`load_with_listener`] takes it.
    pub const WAIT_KILLABLE_RECV: Self = Self(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32);

    /// The filter has a listener. [`load_with_listener`] adds it by itself.
    pub const NEW_LISTENER: Self = Self(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32);

    /// The kernel's number for these flags.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `others` are among these flags.
    pub fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether this kernel knows all these flags.
    pub fn is_available(self) -> bool {
        let listener = if self.contains(Self::WAIT_KILLABLE_RECV) { Self::NEW_LISTENER.0 } else { 0 };
        let flags = (self.0 | listener) as libc::c_ulong;
        let program = std::ptr::null::<libc::sock_fprog>();
        // SAFETY: a null program is refused with EFAULT once the flags have been looked at.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) };
        result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Loads a filter for this thread and all it will start. It cannot be unloaded.
///
/// Fails with `EACCES` unless the thread has `CAP_SYS_ADMIN` or no-new-privileges, and with `EINVAL` for a
/// program that the kernel's checker refuses.
pub fn load(program: &[sock_filter], flags: Flags) -> io::Result<()> {
    set_filter(program, flags, 0).map(drop)
}

/// Loads a filter, and opens its listener: the descriptor that `SECCOMP_RET_USER_NOTIF` puts calls to
/// (seccomp_unotify(2)).
///
/// Fails with `EBUSY` if a filter of this thread has a listener already, and as [`load`] does.
pub fn load_with_listener(program: &[sock_filter], flags: Flags) -> io::Result<OwnedFd> {
    let fd = set_filter(program, flags, Flags::NEW_LISTENER.0)?;
    // SAFETY: the kernel has just returned this descriptor to us (close-on-exec), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this kernel knows an action (`SECCOMP_RET_*` without data).
pub fn is_action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32, which outlives the call.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

fn set_filter(program: &[sock_filter], flags: Flags, listener: u32) -> io::Result<RawFd> {
    // With TSYNC alone the kernel would name the thread that stands in the way by a positive result.
    let esrch = if flags.contains(Flags::TSYNC) { libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32 } else { 0 };
    let flags = (flags.0 | esrch | listener) as libc::c_ulong;
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions from `filter`, which is that long, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_program_that_does_not_end() {
        nix::sys::prctl::set_no_new_privs().unwrap(); // for this test's thread, in case it is not root's
        let load_arch = sock_filter { code: 0x20, jt: 0, jf: 0, k: 4 };
        for program in [&[load_arch][..], &[]] {
            let error = load(program, Flags::NONE).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn a_flag_from_the_future_is_not_available() {
        assert!(Flags::NONE.is_available() && (Flags::LOG | Flags::TSYNC).is_available());
        assert!(!Flags(1 << 31).is_available());
    }

    #[test]
    fn an_action_from_the_future_is_not_available() {
        assert!(is_action_available(libc::SECCOMP_RET_ERRNO));
        assert!(!is_action_available(0x7ff9_0000));
    }
}
