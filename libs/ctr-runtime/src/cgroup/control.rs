// SPDX-License-Identifier: Apache-2.0
//! Control files: how one is read, written in a single write(2), and waited for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{read, write};

/// Opens a cgroup's directory as a starting point for `*at` calls and for `CLONE_INTO_CGROUP`.
pub(super) fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// Writes a whole value to a control file of an open cgroup.
pub(super) fn write_file_at(directory: impl AsFd, file: &str, value: &str) -> nix::Result<()> {
    let fd = openat(directory, file, OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    write_whole(&fd, value)
}

/// Writes a whole value to a control file.
pub(super) fn write_file(path: &Path, value: &str) -> nix::Result<()> {
    write_whole(&open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?, value)
}

/// One write(2): the kernel acts on each call by itself.
fn write_whole(fd: &OwnedFd, value: &str) -> nix::Result<()> {
    match write(fd, value.as_bytes())? {
        n if n == value.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// Reads a control file to its end.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    read_to_end(&fd)
}

/// Reads a control file that holds one word.
pub(super) fn read_word(path: &Path) -> io::Result<String> {
    let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 64];
    let n = read(&fd, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).trim_end().to_owned())
}

/// Reads a control file of an open cgroup to its end.
pub(super) fn read_file_at(directory: impl AsFd, file: &str) -> io::Result<String> {
    let fd = openat(directory, file, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    read_to_end(&fd)
}

/// Reads to the end; what the kernel writes there is ASCII but for names, and those may be anything.
pub(super) fn read_to_end(fd: &OwnedFd) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read(fd, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The value of a key in a file of `key value` lines.
pub(super) fn keyed<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// Waits until `key` has `value` in the `cgroup.events` of a v2 cgroup; false when the deadline passed first.
///
/// The kernel wakes pollers of this file at each change, so nothing is missed and nothing is polled.
pub(super) fn wait_for_event(cgroup: &Path, key: &str, value: &str, deadline: Instant) -> io::Result<bool> {
    let path = cgroup.join("cgroup.events");
    let fd = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    loop {
        nix::unistd::lseek(&fd, 0, nix::unistd::Whence::SeekSet)?;
        if keyed(&read_to_end(&fd)?, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
