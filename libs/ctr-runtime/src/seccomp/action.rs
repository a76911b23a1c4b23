// SPDX-License-Identifier: Apache-2.0
//! Actions: the value that a program returns for each.

use oci_spec::runtime::LinuxSeccompAction as Action;

use super::SeccompError;

/// The value for an action (seccomp(2), `SECCOMP_RET_*`).
pub(super) fn value(action: Action, errno_ret: Option<u32>) -> Result<u32, SeccompError> {
    let base = match action {
        Action::ScmpActKill | Action::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActErrno => libc::SECCOMP_RET_ERRNO,
        Action::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
        Action::ScmpActTrace => libc::SECCOMP_RET_TRACE,
        Action::ScmpActLog => libc::SECCOMP_RET_LOG,
        Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
    };
    // Greater ones would be cut to the greatest errno by the kernel, or spill into the action.
    let greatest = match action {
        Action::ScmpActErrno => 4095,
        Action::ScmpActTrace => libc::SECCOMP_RET_DATA,
        _ if errno_ret.is_some() => return Err(SeccompError::ErrnoWithout { action }),
        _ => return Ok(base),
    };
    match errno_ret.unwrap_or(libc::EPERM as u32) {
        errno if errno <= greatest => Ok(base | errno),
        errno => Err(SeccompError::Errno { errno }),
    }
}
