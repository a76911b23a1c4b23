// SPDX-License-Identifier: Apache-2.0
//! A log back into output.

use std::borrow::Cow;

use serde::Deserialize;

use super::{LogFormat, Stream};

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// When it was read, as it stands in the log; raw logs do not say.
    pub time: Option<Cow<'a, str>>,
    /// Where it was written to; raw logs do not say.
    pub stream: Option<Stream>,
    /// The bytes, with the newline if the line ended there.
    pub text: Cow<'a, [u8]>,
}

/// Turns the lines of a log into output.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    format: LogFormat,
}

#[derive(Deserialize)]
struct JsonEntry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: Stream,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

impl Decoder {
    /// A decoder of logs in this format.
    pub fn new(format: LogFormat) -> Self {
        Self { format }
    }

    /// What one line of the log, with its newline if it has one, stands for; `None` when it is damaged.
    pub fn decode<'a>(&self, line: &'a [u8]) -> Option<LogEntry<'a>> {
        match self.format {
            LogFormat::Raw => Some(LogEntry { time: None, stream: None, text: Cow::Borrowed(line) }),
            LogFormat::Cri => decode_cri(line),
            LogFormat::Json => {
                let entry: JsonEntry<'a> = serde_json::from_slice(line).ok()?;
                let text = match entry.log {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                };
                Some(LogEntry { time: Some(entry.time), stream: Some(entry.stream), text })
            }
        }
    }
}

fn decode_cri(line: &[u8]) -> Option<LogEntry<'_>> {
    let body = line.strip_suffix(b"\n")?;
    let mut fields = body.splitn(4, |&b| b == b' ');
    let time = str::from_utf8(fields.next()?).ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons; the first says whether the line ends here.
    let ends = match fields.next()?.split(|&b| b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let text = fields.next()?;
    // The newline that ends the entry stands for the one that ended the line.
    let text = if ends { &line[line.len() - 1 - text.len()..] } else { text };
    Some(LogEntry { time: Some(Cow::Borrowed(time)), stream: Some(stream), text: Cow::Borrowed(text) })
}
