// SPDX-License-Identifier: Apache-2.0
//! The log from its end: complete lines, newest first, whatever they hold.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::StoreError;

use super::segment;

const CHUNK: u64 = 8 << 10;

pub(super) struct Backwards {
    dir: PathBuf,
    /// Segments not yet begun, newest last.
    segments: Vec<u64>,
    current: Option<Current>,
}

struct Current {
    file: File,
    path: PathBuf,
    /// Where `tail` begins in the file.
    start: u64,
    /// Bytes read and not yet handed out; empty or ending in a newline once `trimmed`.
    tail: Vec<u8>,
    /// Whether the unfinished line at the very end, if there was one, is gone.
    trimmed: bool,
}

impl Backwards {
    pub(super) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let segments = segment::list(&dir)?;
        Ok(Self { dir, segments, current: None })
    }

    /// The line before the one returned last, without its newline.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(line) = current.next_line()? {
                    return Ok(Some(line));
                }
                self.current = None;
            }
            let Some(segment) = self.segments.pop() else { return Ok(None) };
            let path = segment::path(&self.dir, segment);
            let file = File::open(&path).map_err(StoreError::io("open", &path))?;
            let start = file.metadata().map_err(StoreError::io("examine", &path))?.len();
            self.current = Some(Current { file, path, start, tail: Vec::new(), trimmed: false });
        }
    }
}

impl Current {
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            if !self.trimmed {
                let complete = self.tail.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
                self.tail.truncate(complete);
                self.trimmed = complete > 0;
            }
            if let Some((_, body)) = self.tail.split_last()
                && let Some(before) = body.iter().rposition(|&b| b == b'\n')
            {
                let mut line = self.tail.split_off(before + 1);
                line.pop();
                return Ok(Some(line));
            }
            if self.start == 0 {
                let mut line = std::mem::take(&mut self.tail);
                return Ok(line.pop().map(|_newline| line));
            }
            self.read_chunk()?;
        }
    }

    fn read_chunk(&mut self) -> Result<(), StoreError> {
        // A longer line is read in ever longer steps, so that it costs no more than twice its length.
        let length = self.start.min(CHUNK.max(self.tail.len() as u64));
        self.start -= length;
        let mut chunk = vec![0; length as usize];
        self.file.read_exact_at(&mut chunk, self.start).map_err(StoreError::io("read", &self.path))?;
        chunk.append(&mut self.tail);
        self.tail = chunk;
        Ok(())
    }
}
