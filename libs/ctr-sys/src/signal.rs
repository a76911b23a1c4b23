// SPDX-License-Identifier: Apache-2.0
//! Signal dispositions as a Unix tool wants them.
#![allow(unsafe_code)]

use nix::sys::signal::{SigHandler, Signal, signal};

/// Lets SIGPIPE end the process again, as its reader's going away should. Rust's runtime ignores it.
pub fn restore_sigpipe() {
    // SAFETY: SIG_DFL is no handler function, so none can run in an unsound context.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
