// SPDX-License-Identifier: Apache-2.0
//! A main without what Rust's runtime does before it, for a program whose start is measured.
//!
//! That asks the C library for the stack's bounds, which reads `/proc/self/maps`, and gives the handler of stack
//! overflows a stack of its own: a few hundredths of a millisecond, for a sentence before the same end.

use std::os::fd::{BorrowedFd, IntoRawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use crate::inherit::standard_streams;

/// Makes a function the program's main; what stands in for it elsewhere is the `main` of the same crate.
///
/// It is for a crate that has `no_main` where the C library hands the arguments to everybody
/// (`target_env = "gnu"`).
#[macro_export]
macro_rules! bare_main {
    ($main:path) => {
        #[cfg(all(target_env = "gnu", not(test)))]
        const _: () = {
            #[unsafe(export_name = "main")]
            extern "C" fn start() -> i32 {
                $crate::start::run($main)
            }
        };
    };
}

/// Calls a main; what follows it is done as after any other.
pub fn run(main: fn() -> ExitCode) -> ! {
    open_missing_streams();
    let code = main();
    // It does not say what it is.
    let status = (0..=u8::MAX).find(|status| ExitCode::from(*status) == code);
    std::process::exit(status.unwrap_or(1).into())
}

// Or else the next file that is opened would be taken for one of them.
fn open_missing_streams() {
    let is_closed = |stream: BorrowedFd<'_>| fcntl(stream, FcntlArg::F_GETFD) == Err(Errno::EBADF);
    for stream in standard_streams() {
        if is_closed(stream) {
            match open("/dev/null", OFlag::O_RDWR, Mode::empty()) {
                // The lowest number there is: this one.
                Ok(null) => _ = null.into_raw_fd(),
                Err(_) => std::process::abort(),
            }
        }
    }
}
