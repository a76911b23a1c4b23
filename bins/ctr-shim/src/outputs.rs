// SPDX-License-Identifier: Apache-2.0
//! One loop for all that happens around a container: output, ends of processes, its terminal.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use ctr_store::task::Stream;
use ctr_sys::wait::{End, reap_any};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::console::ConsoleSocket;
use crate::log::Log;

/// What is read at a time.
const CHUNK: usize = 32 << 10;

/// The most that a pipe holds (`/proc/sys/fs/pipe-max-size`).
const MAX_PIPE: usize = 1 << 20;

/// A container's output on its way to the log, and the children that have ended.
pub(crate) struct Outputs {
    signals: SignalFd,
    sources: Vec<(File, Stream)>,
    /// Terminals that nobody in the container has open at the moment. To close one would hang up on it.
    idle: Vec<File>,
    console: Option<ConsoleSocket>,
    log: Log,
    buffer: Vec<u8>,
    ended: Vec<(Pid, End)>,
    /// The only child whose end matters; any may while none is named.
    awaited: Option<Pid>,
}

impl Outputs {
    /// The beginning: no output, no children. Signals must be blocked.
    pub(crate) fn open(log: Log) -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (sources, idle, buffer, ended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { signals, sources, idle, console: None, log, buffer, ended, awaited: None })
    }

    /// Adds a descriptor whose output goes to the log.
    pub(crate) fn add(&mut self, source: OwnedFd, stream: Stream) {
        self.sources.push((source.into(), stream));
    }

    /// Adds a socket at which a terminal will arrive, whose output goes to the log then.
    pub(crate) fn await_terminal(&mut self, socket: ConsoleSocket) {
        self.console = Some(socket);
    }

    /// Copies output until a child has ended.
    pub(crate) fn copy_until_end_of(&mut self, child: Pid) -> io::Result<End> {
        loop {
            if let Some(at) = self.ended.iter().position(|(pid, _)| *pid == child) {
                return Ok(self.ended.swap_remove(at).1);
            }
            self.turn(PollTimeout::NONE)?;
        }
    }

    /// Forgets every child but this one: a subreaper gets all that the container leaves behind.
    pub(crate) fn await_only(&mut self, child: Pid) {
        self.awaited = Some(child);
        self.ended.retain(|(pid, _)| *pid == child);
    }

    /// Copies what output there is at this moment, and ends the log.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        // No more than a pipe can hold: something that is not in the container may go on writing for ever.
        for _ in 0..MAX_PIPE / CHUNK * 2 {
            if !self.turn(PollTimeout::ZERO)? {
                break;
            }
        }
        self.log.finish();
        Ok(())
    }

    /// How many bytes of output could not be written.
    pub(crate) fn dropped(&self) -> u64 {
        self.log.dropped()
    }

    /// Waits for something to happen and deals with it; false when nothing did in time.
    fn turn(&mut self, timeout: PollTimeout) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.sources.iter().map(|(source, _)| PollFd::new(source.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.console.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(false),
            Err(Errno::EINTR) => return Ok(true),
            other => other?,
        };
        let happened: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let (sources, console) = happened[1..].split_at(self.sources.len());
        if happened[0] {
            self.reap()?;
        }
        if console.contains(&true)
            && let Some(socket) = self.console.take()
        {
            self.sources.push((socket.receive()?.into(), Stream::Stdout));
        }
        // From the last, so that removing one leaves the others' places.
        for (at, _) in sources.iter().enumerate().rev().filter(|(_, happened)| **happened) {
            match self.copy_from(at) {
                Ok(0) => drop(self.sources.swap_remove(at)),
                Ok(_) => {}
                // A terminal says EIO, which a pipe never does.
                Err(_) => self.idle.push(self.sources.swap_remove(at).0),
            }
        }
        Ok(true)
    }

    /// Copies a piece of output; its length, 0 at the end.
    fn copy_from(&mut self, at: usize) -> io::Result<usize> {
        self.buffer.resize(CHUNK, 0);
        let (source, stream) = &mut self.sources[at];
        let length = source.read(&mut self.buffer)?;
        self.log.write(*stream, &self.buffer[..length]);
        Ok(length)
    }

    fn reap(&mut self) -> io::Result<()> {
        while self.signals.read_signal()?.is_some() {}
        while let Some((pid, end)) = reap_any()? {
            if self.awaited.is_none_or(|awaited| awaited == pid) {
                self.ended.push((pid, end));
            }
        }
        Ok(())
    }
}
