// SPDX-License-Identifier: Apache-2.0
//! Descriptors that a parent handed over by number.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Standard input, output and error, each of which may be closed. To ask the standard library for them would make
/// their buffers.
pub fn standard_streams() -> [BorrowedFd<'static>; 3] {
    // SAFETY: nobody in this process owns these numbers. What stands behind them may be replaced, and where nothing
    // does a call is refused (EBADF); the standard library hands them out on the same terms.
    [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes ownership of a descriptor that was inherited through exec, and makes it close-on-exec.
///
/// `None` when the number is a standard stream, is not open, or is close-on-exec: every descriptor that
/// this program opens itself is, so one that is not can only have been inherited, and is taken only once.
pub fn take(fd: RawFd) -> Option<OwnedFd> {
    if fd <= libc::STDERR_FILENO {
        return None;
    }
    // SAFETY: fcntl with these commands takes and returns plain integers; a bad number is EBADF.
    let inherited =
        unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 && libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0 };
    // SAFETY: the descriptor is open, and nobody else in this process owns it: what this process opens is
    // close-on-exec, and so is from now on what was returned here before.
    inherited.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn takes_what_was_inherited_and_takes_it_once() {
        let own = std::fs::File::open("/dev/null").unwrap();
        assert!(take(own.as_raw_fd()).is_none());
        let number = nix::unistd::dup(&own).unwrap().into_raw_fd(); // as after exec: not close-on-exec
        let _taken = take(number).unwrap();
        assert!(take(number).is_none());
        assert!(take(1).is_none());
    }
}
