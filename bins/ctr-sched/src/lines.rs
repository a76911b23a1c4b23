// SPDX-License-Identifier: Apache-2.0
//! Lines from standard input for a loop that also waits for other things.

use std::io;

use nix::errno::Errno;

/// The longest line, as for records elsewhere.
const MAX_LINE: usize = 16 << 20;

const CHUNK: usize = 64 << 10;

/// What has been read of standard input and not yet been taken.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The next line that is complete and not empty.
    pub(crate) fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            let end = match self.buffer.iter().position(|&b| b == b'\n') {
                Some(newline) => newline + 1,
                None if self.ended && !self.buffer.is_empty() => self.buffer.len(),
                None => return None,
            };
            let line: Vec<u8> = self.buffer.drain(..end).collect();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// Whether more must be read before there can be another line.
    pub(crate) fn wants_input(&self) -> bool {
        !self.ended
    }

    /// Reads once; to be called when that does not block.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let held = self.buffer.len();
        if held >= MAX_LINE {
            self.ended = true;
            self.buffer.clear();
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 16 MiB"));
        }
        self.buffer.resize(held + CHUNK, 0);
        let read = nix::unistd::read(io::stdin(), &mut self.buffer[held..]);
        self.buffer.truncate(held + read.unwrap_or(0));
        match read {
            Ok(0) => self.ended = true,
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_are_skipped_and_the_last_needs_no_newline() {
        let mut lines = Lines { buffer: b"\n a\n\nb".to_vec(), ended: false };
        assert_eq!(lines.next_line().unwrap(), b" a\n");
        assert!(lines.next_line().is_none());
        lines.ended = true;
        assert_eq!(lines.next_line().unwrap(), b"b");
        assert!(lines.next_line().is_none());
    }
}
