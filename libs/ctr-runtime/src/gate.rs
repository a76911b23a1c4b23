// SPDX-License-Identifier: Apache-2.0
//! The gate between a created container and its program.
//!
//! After `create`, the container's process waits at a FIFO in its state directory that `start` writes
//! to, and what goes wrong from there on it writes to a second one. Both are opened by the process
//! itself for reading and writing, so that neither end has to be there first; when it executes its
//! program, or dies, `start` reads the end of file. `run` passes through without one: its channel to
//! the process serves for both.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::report::{Channel, InitFailure, Message, Step, StepResult};

/// What opens the gate.
pub(crate) const START: &str = "exec.fifo";
/// What tells of failures from there on.
pub(crate) const REPORT: &str = "report.fifo";

/// Where the container's process waits before it executes its program.
#[derive(Debug)]
pub(crate) enum Gate {
    /// At the parent's word, over the channel.
    Parent(Channel),
    /// At the FIFO.
    Fifo {
        /// A byte in it opens the gate.
        start: File,
        /// What fails after that goes in here.
        report: File,
    },
}

impl Gate {
    /// Makes the FIFOs of a container's state directory and opens both ends of them.
    pub(crate) fn create(state_dir: &Path) -> io::Result<Self> {
        let open = |name| {
            let path = state_dir.join(name);
            nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600))?;
            File::options().read(true).write(true).open(path)
        };
        Ok(Self::Fifo { start: open(START)?, report: open(REPORT)? })
    }

    /// What the container's process needs open to wait.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Parent(channel) => vec![channel.as_raw_fd()],
            Self::Fifo { start, report } => vec![start.as_raw_fd(), report.as_raw_fd()],
        }
    }

    /// Whether somebody else than the parent opens the gate.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Fifo { .. })
    }

    /// In the container's process: waits until the gate is opened.
    pub(crate) fn wait(&mut self) -> StepResult<()> {
        match self {
            Self::Parent(channel) => match channel.receive() {
                Ok(Some(Message::Go)) => Ok(()),
                _ => Err(InitFailure::finding("the runtime ended before the container was started")),
            },
            Self::Fifo { start, .. } => start.read_exact(&mut [0]).step("wait to be started"),
        }
    }

    /// In the container's process: tells whoever opened the gate what failed after that.
    pub(crate) fn report(&mut self, failure: &InitFailure) {
        if let Self::Fifo { report, .. } = self {
            // At most a pipe's worth: a longer one would wait for a reader.
            let mut line = vec![failure.exec_status];
            line.extend(failure.to_string().bytes().take(4000));
            let _ = report.write_all(&line);
        }
    }
}

/// Whether a container waits at its gate: `created`, and not yet `running`.
pub(crate) fn is_closed(state_dir: &Path) -> bool {
    // Only the process that waits has it open: a start that was killed has left the file where it was.
    File::options().write(true).custom_flags(libc::O_NONBLOCK).open(state_dir.join(START)).is_ok()
}

/// Opens the gate of a created container and waits until its program is executed.
///
/// `NotFound`: there is no gate, it was opened before. `ENXIO`: nobody waits behind it any more.
pub(crate) fn open(state_dir: &Path) -> io::Result<Result<(), InitFailure>> {
    let (start, report) = (state_dir.join(START), state_dir.join(REPORT));
    let mut gate = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&start)?;
    let mut failures = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&report)?;
    gate.write_all(b"0")?;
    // From here on the container counts as running, whatever becomes of this process.
    std::fs::remove_file(&start)?;
    let _ = std::fs::remove_file(&report);
    let flags = nix::fcntl::OFlag::empty();
    nix::fcntl::fcntl(failures.as_fd(), nix::fcntl::FcntlArg::F_SETFL(flags))?;
    let mut line = Vec::new();
    failures.read_to_end(&mut line)?;
    match line.split_first() {
        None => Ok(Ok(())),
        Some((status, text)) => {
            Ok(Err(InitFailure { step: String::from_utf8_lossy(text).into_owned(), errno: None, exec_status: *status }))
        }
    }
}
