// SPDX-License-Identifier: Apache-2.0
//! The container's log file. Writing to it never fails the container: what cannot be written is dropped,
//! counted, and noted where the log goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use ctr_record::Timestamp;
use ctr_store::task::{Encoder, LogFile, LogFormat, Stream};

/// Memory that is kept for entries between two writes.
const KEPT: usize = 64 << 10;

/// A log that is being written.
pub(crate) struct Log {
    file: File,
    format: LogFormat,
    encoder: Encoder,
    entries: Vec<u8>,
    /// The file's length without what was written only in part.
    length: u64,
    /// Bytes of output dropped since the last write that worked.
    unnoted: u64,
    dropped: u64,
}

impl Log {
    /// Opens the file, and makes it when it is missing.
    pub(crate) fn open(log: &LogFile) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&log.path)?;
        let length = file.metadata()?.len();
        let encoder = Encoder::new(log.format);
        Ok(Self { file, format: log.format, encoder, entries: Vec::new(), length, unnoted: 0, dropped: 0 })
    }

    /// Writes what the container wrote.
    pub(crate) fn write(&mut self, stream: Stream, output: &[u8]) {
        self.begin();
        self.encoder.encode(stream, output, Timestamp::now(), &mut self.entries);
        self.end(output.len() as u64);
    }

    /// Writes what was held back of unfinished lines, when no more will come.
    pub(crate) fn finish(&mut self) {
        self.begin();
        self.encoder.finish(Timestamp::now(), &mut self.entries);
        self.end(self.entries.len() as u64);
    }

    /// How many bytes of output are missing.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn begin(&mut self) {
        self.entries.clear();
        self.entries.shrink_to(KEPT);
        if self.unnoted > 0 {
            let note = format!("ctr-shim: {} bytes of output were lost here\n", self.unnoted);
            Encoder::new(self.format).encode(Stream::Stderr, note.as_bytes(), Timestamp::now(), &mut self.entries);
        }
    }

    fn end(&mut self, output: u64) {
        if self.entries.is_empty() {
            return;
        }
        match self.file.write_all(&self.entries) {
            Ok(()) => {
                self.length += self.entries.len() as u64;
                self.unnoted = 0;
            }
            Err(_) => {
                // A log on a pipe or a device has no length to go back to.
                let _ = self.file.set_len(self.length);
                self.unnoted += output;
                self.dropped += output;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_counted_and_noted() {
        let path = std::env::temp_dir().join(format!("ctr-shim-log-{}", std::process::id()));
        let mut log = Log::open(&LogFile { path: path.clone(), format: LogFormat::Raw }).unwrap();
        log.write(Stream::Stdout, b"before\n");
        let good = std::mem::replace(&mut log.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.write(Stream::Stdout, b"12345\n");
        log.write(Stream::Stderr, b"678\n");
        assert_eq!(log.dropped(), 10);
        log.file = good;
        log.write(Stream::Stdout, b"after\n");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "before\nctr-shim: 10 bytes of output were lost here\nafter\n");
        assert_eq!(log.dropped(), 10);
        std::fs::remove_file(path).unwrap();
    }
}
