// SPDX-License-Identifier: Apache-2.0
//! Output into a log: bytes as they arrive become whole entries.

use std::io::Write;

use ctr_record::Timestamp;
use serde_json::json;

use super::{LogFormat, Stream};

/// The longest text of one entry (CRI's limit); a longer line is kept in several.
const MAX_ENTRY: usize = 16 << 10;

/// Turns output into entries of a log.
#[derive(Debug)]
pub struct Encoder {
    format: LogFormat,
    /// The beginning of a line that has not ended, per stream.
    pending: [Vec<u8>; 2],
}

impl Encoder {
    /// An encoder that holds nothing back yet.
    pub fn new(format: LogFormat) -> Self {
        Self { format, pending: [Vec::new(), Vec::new()] }
    }

    /// Adds the entries that `bytes` complete to `out`. A line without its end is held back, up to the
    /// length of an entry.
    pub fn encode(&mut self, stream: Stream, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        if self.format == LogFormat::Raw {
            return out.extend_from_slice(bytes);
        }
        let time = now.to_string();
        let pending = &mut self.pending[stream as usize];
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            match pending.is_empty() {
                true => write_line(self.format, stream, &time, line, out),
                false => {
                    pending.extend_from_slice(line);
                    write_line(self.format, stream, &time, pending, out);
                    pending.clear();
                }
            }
            rest = after;
        }
        pending.extend_from_slice(rest);
        let mut written = 0;
        while pending.len() - written > MAX_ENTRY {
            let length = entry_length(self.format, &pending[written..]);
            write_entry(self.format, stream, &time, &pending[written..written + length], false, out);
            written += length;
        }
        pending.drain(..written);
    }

    /// Adds what was held back, when no more will come.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                write_entry(self.format, stream, &now.to_string(), &pending, false, out);
            }
        }
    }
}

fn write_line(format: LogFormat, stream: Stream, time: &str, line: &[u8], out: &mut Vec<u8>) {
    let mut rest = line;
    while rest.len() > MAX_ENTRY {
        let (entry, after) = rest.split_at(entry_length(format, rest));
        write_entry(format, stream, time, entry, false, out);
        rest = after;
    }
    write_entry(format, stream, time, rest, true, out);
}

// JSON holds characters: one that is cut in two would be lost.
fn entry_length(format: LogFormat, text: &[u8]) -> usize {
    let continues = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    match format {
        LogFormat::Json => (MAX_ENTRY - 3..=MAX_ENTRY).rev().find(|at| !continues(at)).unwrap_or(MAX_ENTRY),
        LogFormat::Cri | LogFormat::Raw => MAX_ENTRY,
    }
}

fn write_entry(format: LogFormat, stream: Stream, time: &str, text: &[u8], full: bool, out: &mut Vec<u8>) {
    match format {
        LogFormat::Cri => {
            for part in [time, " ", stream.as_str(), if full { " F " } else { " P " }] {
                out.extend_from_slice(part.as_bytes());
            }
            out.extend_from_slice(text);
        }
        LogFormat::Json => {
            let text = String::from_utf8_lossy(text);
            let end = if full { "\n" } else { "" };
            let entry = json!({ "log": format!("{text}{end}"), "stream": stream.as_str(), "time": time });
            write!(out, "{entry}").expect("memory takes all");
        }
        LogFormat::Raw => return out.extend_from_slice(text),
    }
    out.push(b'\n');
}
