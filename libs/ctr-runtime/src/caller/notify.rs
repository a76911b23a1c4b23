// SPDX-License-Identifier: Apache-2.0
//! The way of a container's "I am ready" to the service manager (sd_notify(3)).
//!
//! The container writes to a socket of its own, and only that it is ready is passed on, with the pid that
//! the manager is to watch. What else it writes, descriptors among it, stays here.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::RuntimeError;
use crate::create::Opening;

/// Where the container finds it.
pub(crate) const INSIDE: &str = "/run/notify";
/// Where it is in the container's state directory.
pub(crate) const DIRECTORY: &str = "notify";
/// The socket's name in both.
pub(crate) const SOCKET: &str = "notify.sock";

/// How long a manager may take to have read what it was sent.
const BARRIER_PATIENCE: u16 = 30_000; // milliseconds

/// A container's socket, and the manager's.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    manager: UnixDatagram,
}

impl Notify {
    /// Makes the directory that is mounted in a new container, and the socket unless `start` will.
    pub(crate) fn make(state: &Path, manager: &OsStr, opening: Opening) -> Result<Option<Self>, RuntimeError> {
        make_directory(state)?;
        match opening {
            Opening::Later => Ok(None),
            Opening::Detached | Opening::Foreground => Self::bind(state, manager),
        }
    }

    /// Binds the container's socket. `None`: it was made without a place for one.
    pub(crate) fn bind(state: &Path, manager: &OsStr) -> Result<Option<Self>, RuntimeError> {
        if !has_directory(state) {
            return Ok(None);
        }
        let directory = state.join(DIRECTORY);
        let manager = connect(manager).map_err(RuntimeError::io("connect to the notify socket", Path::new(manager)))?;
        let bound = bind(&directory).map_err(RuntimeError::io("make a socket in", &directory))?;
        Ok(Some(Self { socket: bound, manager }))
    }

    /// What to wait for.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what has come; the line that says that the container is ready, if there is one.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            let n = match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.ok()?,
            };
            let mut lines = buffer[..n].split(|byte| *byte == b'\n');
            if let Some(ready) = lines.find(|line| line.starts_with(b"READY=")) {
                return Some(ready.to_vec());
            }
        }
    }

    /// Tells the manager that the container is ready and which process to watch, and waits until it has read
    /// that: the process that sends it may be gone by then, and would not be known.
    pub(crate) fn pass_on(&self, ready: &[u8], pid: i32) -> io::Result<()> {
        self.manager.send(&[ready, b"\n"].concat())?;
        self.manager.send(format!("MAINPID={pid}\n").as_bytes())?;
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        ctr_sys::socket::send_fd(self.manager.as_fd(), b"BARRIER=1", writer.as_fd())?;
        drop(writer);
        // A manager that knows no barriers leaves it open.
        wait(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], PollTimeout::from(BARRIER_PATIENCE))?;
        Ok(())
    }

    /// Waits until the container is ready, which is passed on, or has ended.
    pub(crate) fn wait(&self, pid: i32, pidfd: &OwnedFd) -> Result<(), RuntimeError> {
        loop {
            if let Some(ready) = self.read() {
                return self.pass_on(&ready, pid).map_err(RuntimeError::call("notify the service manager"));
            }
            let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            wait(&mut fds, PollTimeout::NONE).map_err(RuntimeError::errno("wait for the container to be ready"))?;
            let ended = fds[1].any().unwrap_or(true);
            if ended && !fds[0].any().unwrap_or(false) {
                return Ok(());
            }
        }
    }
}

/// Makes the directory of a container's socket.
pub(crate) fn make_directory(state: &Path) -> Result<(), RuntimeError> {
    let path = state.join(DIRECTORY);
    DirBuilder::new().mode(0o755).create(&path).map_err(RuntimeError::io("make", &path))
}

/// Whether a container was made with one.
pub(crate) fn has_directory(state: &Path) -> bool {
    state.join(DIRECTORY).is_dir()
}

fn wait(fds: &mut [PollFd<'_>], timeout: PollTimeout) -> nix::Result<()> {
    loop {
        match poll(fds, timeout) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop),
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

// By way of a descriptor: a path in a state directory may be longer than an address.
fn bind(directory: &Path) -> io::Result<UnixDatagram> {
    let opened = std::fs::File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(SOCKET);
    // Of a start that failed.
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path)?;
    // Whoever the container's process is.
    std::fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
