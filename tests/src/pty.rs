// SPDX-License-Identifier: Apache-2.0
//! Runs a program at a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

use crate::tool::Tool;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A program and the terminal that it runs at.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
    screen: String,
}

impl Terminal {
    /// Starts a program as the leader of a session whose terminal has this size.
    pub fn open(tool: Tool, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("there is a free terminal");
        let slave = || Stdio::from(pair.slave.try_clone().expect("there is a free descriptor"));
        let mut session = tool.through(&["setsid", "--ctty", "--wait"]);
        let command = session.command().stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().expect("util-linux is installed");
        Self { master: pair.master.into(), child, screen: String::new() }
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal is open");
    }

    /// Waits until the terminal has shown `text`.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.screen.contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} on the terminal: {:?}", self.screen);
            assert!(self.read() || self.screen.contains(text), "closed without {text:?}: {:?}", self.screen);
        }
    }

    /// Waits for the program's end; returns its exit code and what the terminal has shown.
    #[track_caller]
    pub fn wait(mut self) -> (i32, String) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let ended = self.child.try_wait().expect("it is our child");
            while self.read() && self.readable(PollTimeout::ZERO) {}
            if let Some(status) = ended {
                return (status.code().unwrap_or(-1), self.screen.clone());
            }
            assert!(Instant::now() < deadline, "it hangs: {:?}", self.screen);
        }
    }

    fn readable(&self, timeout: PollTimeout) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
    }

    // Whether the terminal is still open.
    fn read(&mut self) -> bool {
        if !self.readable(PollTimeout::from(20_u8)) {
            return true;
        }
        let mut buffer = [0; 4096];
        // EIO: the last process at the terminal is gone.
        match self.master.read(&mut buffer) {
            Ok(n) if n > 0 => self.screen += &String::from_utf8_lossy(&buffer[..n]),
            _ => return false,
        }
        true
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
