// SPDX-License-Identifier: Apache-2.0
//! The gate between a created container and its program.
//!
//! After `create`, the container's process waits at a FIFO in its state directory: it writes to it, and since
//! the FIFO is full that takes until `start` reads it. What goes wrong from there on it writes after that. It
//! has the FIFO open for reading and writing, so that neither end has to be there first; when it executes its
//! program, or dies, `start` reads the end of file. `run` passes through without one: its channel to the process
//! serves for both.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

use crate::process::report::{Channel, InitFailure, Message, Step, StepResult};

/// What opens the gate, and tells of failures from there on.
pub(crate) const START: &str = "exec.fifo";

/// What the FIFO is full of.
const FILLING: u8 = 0;
/// What the process writes at the gate.
const PASSING: u8 = 1;
/// As much as is read at once: no less than a page.
const CHUNK: usize = 64 << 10;

/// Where the container's process waits before it executes its program.
#[derive(Debug)]
pub(crate) enum Gate {
    /// At the parent's word, over the channel.
    Parent(Channel),
    /// At the FIFO.
    Fifo {
        file: File,
        /// Whether it has been opened: until then whatever is written to it waits.
        passed: bool,
    },
}

impl Gate {
    /// Makes the FIFO of a container's state directory and fills it.
    pub(crate) fn create(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(START);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600))?;
        let mut file = File::options().read(true).write(true).open(path)?;
        // As small as the kernel has it: a page.
        let size = fcntl(&file, FcntlArg::F_SETPIPE_SZ(1))?;
        file.write_all(&vec![FILLING; usize::try_from(size).unwrap_or(CHUNK)])?;
        Ok(Self::Fifo { file, passed: false })
    }

    /// What the container's process needs open to wait.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Parent(channel) => vec![channel.as_raw_fd()],
            Self::Fifo { file, .. } => vec![file.as_raw_fd()],
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
            Self::Fifo { file, passed } => {
                file.write_all(&[PASSING]).step("wait to be started")?;
                *passed = true;
                Ok(())
            }
        }
    }

    /// In the container's process: tells whoever opened the gate what failed after that.
    pub(crate) fn report(&mut self, failure: &InitFailure) {
        if let Self::Fifo { file, passed: true } = self {
            // With the byte before it less than a page: a longer one would wait for a reader.
            let mut line = vec![failure.exec_status];
            line.extend(failure.to_string().bytes().take(4000));
            let _ = file.write_all(&line);
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
    let path = state_dir.join(START);
    let opened = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(&path);
    // An end to read from would be opened even if nobody waits.
    let waiting = opened(File::options().write(true))?;
    let mut gate = opened(File::options().read(true))?;
    drop(waiting);
    fcntl(&gate, FcntlArg::F_SETFL(OFlag::empty()))?;
    let mut told = vec![0; CHUNK];
    let n = gate.read(&mut told)?;
    // From here on the container counts as running, whatever becomes of this process.
    std::fs::remove_file(&path)?;
    told.truncate(n);
    gate.read_to_end(&mut told)?;
    let failure = told.into_iter().skip_while(|byte| *byte == FILLING).skip(1).collect::<Vec<_>>();
    match failure.split_first() {
        None => Ok(Ok(())),
        Some((status, text)) => {
            Ok(Err(InitFailure { step: String::from_utf8_lossy(text).into_owned(), errno: None, exec_status: *status }))
        }
    }
}
