// SPDX-License-Identifier: Apache-2.0
//! The container's processes, from their birth in its namespaces to the execution of their program.
//!
//! They run in a copy of the runtime's memory: what can be prepared is prepared before, and what fails from
//! there on is told over a channel.

mod explain;
pub(crate) mod fate;
pub(crate) mod filter;
pub(crate) mod gate;
pub(crate) mod init;
pub(crate) mod keyring;
mod label;
pub(crate) mod launch;
pub(crate) mod report;
pub(crate) mod spawn;
pub(crate) mod user_namespace;
