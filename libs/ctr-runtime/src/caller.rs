// SPDX-License-Identifier: Apache-2.0
//! What the runtime's callers hand it, and what they are told by: sockets, files, and the terminal.

pub(crate) mod listener;
pub(crate) mod notify;
pub(crate) mod pid_file;
pub(crate) mod pidfd_socket;
pub(crate) mod service;
pub(crate) mod tty;
