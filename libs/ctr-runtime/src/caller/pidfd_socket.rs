// SPDX-License-Identifier: Apache-2.0
//! The Unix socket that is sent a descriptor of a new process (`--pidfd-socket`).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ctr_sys::process::Child;

use crate::RuntimeError;

/// What the message beside the descriptor says, as runc's does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// A container's first process.
    First,
    /// One that is executed in a container.
    Further,
}

/// A connection to who wants the descriptor.
#[derive(Debug)]
pub(crate) struct PidfdSocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl PidfdSocket {
    /// Connects, before there is a process.
    pub(crate) fn connect(path: &Path) -> Result<Self, RuntimeError> {
        let socket = UnixStream::connect(path).map_err(RuntimeError::io("connect to the pidfd socket", path))?;
        Ok(Self { socket: socket.into(), path: path.to_owned() })
    }

    /// Sends the descriptor and closes the connection.
    pub(crate) fn send(self, child: &Child, role: Role) -> Result<(), RuntimeError> {
        let name: &[u8] = match role {
            Role::First => b"standard",
            Role::Further => b"setns",
        };
        ctr_sys::socket::send_fd(self.socket.as_fd(), name, child.pidfd.as_fd())
            .map_err(RuntimeError::io("send the process to the pidfd socket", &self.path))
    }
}
