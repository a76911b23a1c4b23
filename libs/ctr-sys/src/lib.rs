// SPDX-License-Identifier: Apache-2.0
//! The system calls that nobody wraps, each behind a safe function: the only crate with unsafe code.
//!
//! What `nix` wraps is taken from `nix`. Every module that needs unsafe allows it for itself, and every
//! block argues why it is sound.

pub mod signal;
pub mod process;
