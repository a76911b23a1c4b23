// SPDX-License-Identifier: Apache-2.0
//! The log from a cursor on: each event once, in order, across segments.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::StoreError;

use super::{Cursor, segment};

const CHUNK: usize = 64 << 10;

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place after this event, to resume from.
    pub cursor: Cursor,
    /// The namespace it happened in.
    pub namespace: String,
    /// Its topic, which may be one that this version does not know.
    pub topic: String,
    /// The JSON object, as it was written.
    pub text: String,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "timestamp")]
    _timestamp: IgnoredAny,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(rename = "event")]
    _event: IgnoredAny,
}

/// Reads the log in order. At its end the iterator returns `None`, and more once more has been written.
#[derive(Debug)]
pub struct Entries {
    dir: PathBuf,
    segment: u64,
    file: Option<File>,
    /// Where `buffer[used..]` begins in the segment: the end of the last line handed out.
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
    /// The segment after this one, once it is known to exist; then this one does not grow any more.
    next: Option<u64>,
    skipped: u64,
    /// A line at this offset was broken, and is being looked at again.
    doubted: Option<u64>,
}

impl Entries {
    pub(super) fn open(dir: PathBuf, from: Cursor) -> Self {
        let (segment, offset) = (from.segment, from.offset);
        let buffer = Vec::new();
        Self { dir, segment, file: None, offset, buffer, used: 0, next: None, skipped: 0, doubted: None }
    }

    /// How many lines so far were no events: what a killed writer or a damaged disk left.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            let rest = &self.buffer[self.used..];
            if let Some(end) = rest.iter().position(|&b| b == b'\n') {
                let cursor = Cursor { segment: self.segment, offset: self.offset + end as u64 + 1 };
                match parse(cursor, &rest[..end]) {
                    Some(entry) => {
                        self.advance(end + 1);
                        return Ok(Some(entry));
                    }
                    None if self.doubted == Some(self.offset) => {
                        self.skipped += 1;
                        self.advance(end + 1);
                    }
                    // It may be two lines in one: a writer that ran out of disk takes back what it wrote
                    // while it holds the lock, and another one writes there.
                    None => {
                        self.doubted = Some(self.offset);
                        self.reread_locked()?;
                    }
                }
                continue;
            }
            if self.fill()? {
                continue;
            }
            // Only part of a line is there. Its writer may die and the next one repair it, so that it must
            // be read anew.
            let partial = self.buffer.len() > self.used;
            self.buffer.clear();
            self.used = 0;
            match self.next.take() {
                Some(next) => {
                    self.skipped += u64::from(partial);
                    (self.segment, self.offset, self.file) = (next, 0, None);
                }
                None => {
                    self.next = segment::list(&self.dir)?.into_iter().find(|&number| number > self.segment);
                    // A line may have been added before the new segment was made: look at this one again.
                    if self.next.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn advance(&mut self, length: usize) {
        self.used += length;
        self.offset += length as u64;
    }

    fn reread_locked(&mut self) -> Result<(), StoreError> {
        let path = segment::path(&self.dir, self.segment);
        self.buffer.clear();
        self.used = 0;
        let lock = File::open(&path).map_err(StoreError::io("open", &path))?;
        lock.lock_shared().map_err(StoreError::io("lock", &path))?;
        self.fill()?;
        Ok(())
    }

    fn fill(&mut self) -> Result<bool, StoreError> {
        let path = segment::path(&self.dir, self.segment);
        let file = match &self.file {
            Some(file) => file,
            None => match File::open(&path) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(StoreError::io("open", &path)(error)),
            },
        };
        self.buffer.drain(..std::mem::take(&mut self.used));
        let held = self.buffer.len();
        self.buffer.resize(held + CHUNK, 0);
        let read = file.read_at(&mut self.buffer[held..], self.offset + held as u64);
        let count = read.map_err(StoreError::io("read", &path));
        self.buffer.truncate(held + count.as_ref().copied().unwrap_or(0));
        Ok(count? > 0)
    }
}

fn parse(cursor: Cursor, line: &[u8]) -> Option<Entry> {
    let text = str::from_utf8(line).ok()?.trim();
    let envelope: Envelope<'_> = serde_json::from_str(text).ok()?;
    let (namespace, topic) = (envelope.namespace.into_owned(), envelope.topic.into_owned());
    Some(Entry { cursor, namespace, topic, text: text.to_owned() })
}

impl Iterator for Entries {
    type Item = Result<Entry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
