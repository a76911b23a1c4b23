// SPDX-License-Identifier: Apache-2.0
//! Processes: clone3, pidfds, and what a process says of itself.
#![allow(unsafe_code)]

/// Whether the effective user is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
