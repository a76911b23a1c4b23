// SPDX-License-Identifier: Apache-2.0
//! The terminal of a container in the foreground: between its master and this process' own terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ctr_sys::terminal::Size;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::plan::ProcessPlan;

/// How much one direction may hold back for a slow reader.
const MAX_PENDING: usize = 64 << 10;

/// What a proxy waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The own standard input.
    Input,
    /// The container's terminal.
    Master,
    /// The own standard output.
    Output,
}

/// Copies between a container's terminal and standard input and output, without ever blocking.
#[derive(Debug)]
pub(crate) struct Proxy {
    master: File,
    input: Option<File>,
    output: File,
    to_master: Vec<u8>,
    to_output: Vec<u8>,
    master_open: bool,
    saved: Option<Termios>,
}

impl Proxy {
    /// Takes over the own terminal, if standard input is one, until [`finish`](Self::finish).
    pub(crate) fn start(master: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&master)?;
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let saved = match nix::unistd::isatty(&stdin)? {
            true => {
                let saved = tcgetattr(&stdin)?;
                let mut raw = saved.clone();
                cfmakeraw(&mut raw);
                raw.output_flags.insert(OutputFlags::OPOST);
                tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
                Some(saved)
            }
            false => None,
        };
        let proxy = Self {
            master: master.into(),
            input: Some(stdin.into()),
            output: io::stdout().as_fd().try_clone_to_owned()?.into(),
            to_master: Vec::new(),
            to_output: Vec::new(),
            master_open: true,
            saved,
        };
        proxy.resize();
        Ok(proxy)
    }

    /// Gives the container's terminal the size of the own one.
    pub(crate) fn resize(&self) {
        if let Ok(size) = ctr_sys::terminal::size(io::stdin().as_fd()) {
            let _ = ctr_sys::terminal::set_size(self.master.as_fd(), size);
        }
    }

    /// What to wait for: each side as far as there is something to do with it. One that has hung up would
    /// wake its poller for ever.
    pub(crate) fn poll_fds(&self) -> Vec<(Side, PollFd<'_>)> {
        let mut fds = Vec::with_capacity(3);
        if let Some(input) = &self.input
            && self.to_master.len() < MAX_PENDING
        {
            fds.push((Side::Input, PollFd::new(input.as_fd(), PollFlags::POLLIN)));
        }
        if self.master_open {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.to_output.len() < MAX_PENDING);
            flags.set(PollFlags::POLLOUT, !self.to_master.is_empty());
            fds.push((Side::Master, PollFd::new(self.master.as_fd(), flags)));
        }
        if !self.to_output.is_empty() {
            fds.push((Side::Output, PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)));
        }
        fds
    }

    /// Moves what can be moved when these sides are ready.
    pub(crate) fn transfer(&mut self, ready: &[Side]) {
        if ready.contains(&Side::Input)
            && let Some(input) = &mut self.input
            && !read_some(input, &mut self.to_master)
        {
            self.input = None;
        }
        if ready.contains(&Side::Master) && self.to_output.len() < MAX_PENDING {
            // EIO: nobody has the other end open any more.
            self.master_open = read_some(&mut self.master, &mut self.to_output);
        }
        write_some(&mut self.master, &mut self.to_master);
        if ready.contains(&Side::Output) || ready.contains(&Side::Master) {
            write_some(&mut self.output, &mut self.to_output);
        }
    }

    /// Brings out what is left in the terminal and gives the own one its settings back.
    pub(crate) fn finish(mut self) {
        // More than a terminal holds: who goes on writing to it now is not waited for.
        const READS: usize = 64;
        for _ in 0..READS {
            let before = self.to_output.len();
            let more = self.master_open && read_some(&mut self.master, &mut self.to_output);
            if !more || self.to_output.len() == before {
                break;
            }
        }
        while !self.to_output.is_empty() {
            let mut output = [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut output, PollTimeout::NONE);
            write_some(&mut self.output, &mut self.to_output);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, saved);
        }
    }
}

/// Prepares a container's terminal for a proxy, before anything is written to it: newlines are translated
/// once, by the own terminal.
pub(crate) fn leave_newlines(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(terminal, SetArg::TCSANOW, &settings)
}

/// The size that a process' terminal begins with: the config's, or that of the own terminal, if the process
/// is to use it.
pub(crate) fn first_size(process: &ProcessPlan, foreground: bool) -> Option<Size> {
    let own = || ctr_sys::terminal::size(io::stdin().as_fd()).ok();
    process.console_size.or_else(|| if process.terminal && foreground { own() } else { None })
}

// `false`: there will be nothing more.
fn read_some(from: &mut File, pending: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 8192];
    match from.read(&mut buffer) {
        Ok(0) => false,
        Ok(n) => {
            pending.extend_from_slice(&buffer[..n]);
            true
        }
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

fn write_some(to: &mut File, pending: &mut Vec<u8>) {
    while !pending.is_empty() {
        match to.write(pending) {
            Ok(n) => drop(pending.drain(..n)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Its reader is gone for good.
            Err(_) => return pending.clear(),
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
