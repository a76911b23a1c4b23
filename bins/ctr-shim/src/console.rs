// SPDX-License-Identifier: Apache-2.0
//! The console socket: how a runtime hands over the other end of a container's terminal.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "console.sock";

/// How long a runtime that has connected may take to send the terminal.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket in the task's directory at which the runtime is awaited.
pub(crate) struct ConsoleSocket {
    listener: UnixListener,
    directory: File,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Makes the socket.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        let directory = File::open(directory)?;
        // A socket's address holds 107 bytes, and a state directory's path may be longer.
        let short = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
        Ok(Self { listener: UnixListener::bind(short)?, directory, path })
    }

    /// Its path for the runtime, which is another process, and short as well.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}/{NAME}", std::process::id(), self.directory.as_raw_fd()))
    }

    /// Receives the terminal's master; to be called when the socket is readable.
    pub(crate) fn receive(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (_, master) = ctr_sys::socket::receive_fd(stream.as_fd(), &mut [0; 4096])?;
        master.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the runtime sent no terminal"))
    }
}

impl AsFd for ConsoleSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
