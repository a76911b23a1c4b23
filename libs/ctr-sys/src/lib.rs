// SPDX-License-Identifier: Apache-2.0
//! The system calls that nobody wraps, each behind a safe function: the only crate with unsafe code.
//!
//! What `nix` wraps is taken from `nix`. Every module that needs unsafe allows it for itself, and every
//! block argues why it is sound.

pub mod affinity;
pub mod arena;
pub mod bpf;
pub mod capability;
pub mod early;
pub mod inherit;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod network;
pub mod pattern;
pub mod pidfs;
pub mod process;
mod raw;
pub mod seccomp;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod start;
pub mod stat;
pub mod terminal;
pub mod tree;
pub mod wait;
pub mod xattr;
