// SPDX-License-Identifier: Apache-2.0
//! The event log: `events/`, append-only segments of JSON lines, written to by any process.
//!
//! A writer holds the newest segment's lock (`flock`) for the few microseconds of one write, so that the
//! order of lines is the order of events. A whole line is never changed; one that a killed writer left
//! unfinished is ended by the next writer and skipped by readers. Readers need no lock.

mod backwards;
mod cursor;
mod reader;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctr_record::{Classify, ErrorKind, Event, Payload, Timestamp};
use serde::Deserialize;

use crate::{StateDir, StoreError, Watch};
use backwards::Backwards;
pub use cursor::{Cursor, InvalidCursor};
pub use reader::{Entries, Entry};

/// A segment is full at this size, and the next one is begun.
const SEGMENT_SIZE: u64 = 16 << 20;

/// How far the clock may step back before the log follows it.
const HIDDEN_STEP: Duration = Duration::from_secs(60);

/// The event log of a state directory.
#[derive(Clone, Debug)]
pub struct EventLog {
    dir: PathBuf,
    segment_size: u64,
}

/// What the log tells of the latest life of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Story {
    pub created: bool,
    pub started: bool,
    pub exited: bool,
}

/// A failure of the event log.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EventError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} is not a cursor of this event log")]
    UnknownCursor(Cursor),
}

impl Classify for EventError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::UnknownCursor(_) => ErrorKind::Invalid,
        }
    }
}

impl EventLog {
    /// Opens the log and makes its directory when it is missing.
    pub fn open(state: &StateDir) -> Result<Self, StoreError> {
        let dir = state.events();
        state.make(&dir)?;
        Ok(Self { dir, segment_size: SEGMENT_SIZE })
    }

    /// Adds an event and returns the place after it. Either the whole event is in the log or none of it.
    ///
    /// The event gets its time here, under the lock: times in the log do not run backwards, unless the
    /// clock was set back by more than a minute.
    pub fn append(&self, namespace: &str, payload: Payload) -> Result<Cursor, StoreError> {
        let (segment, path, mut file) = self.lock_newest()?;
        let size = file.metadata().map_err(StoreError::io("examine", &path))?.len();
        let event = Event { timestamp: self.timestamp()?, namespace: namespace.to_owned(), payload };
        let mut text = serde_json::to_vec(&event).expect("an event has only string keys");
        text.push(b'\n');
        match file.write(&text) {
            Ok(written) if written == text.len() => Ok(Cursor { segment, offset: size + written as u64 }),
            written => {
                // Best effort: if even this fails, the next writer finds a line without an end.
                let _ = file.set_len(size);
                let error = written.err().unwrap_or_else(|| io::ErrorKind::StorageFull.into());
                Err(StoreError::io("append to", &path)(error))
            }
        }
    }

    /// The events after `from`, or all of them.
    pub fn read(&self, from: Option<Cursor>) -> Result<Entries, EventError> {
        let first = segment::list(&self.dir)?.first().copied().unwrap_or(1);
        let from = from.unwrap_or(Cursor { segment: first, offset: 0 });
        if !self.knows(from)? {
            return Err(EventError::UnknownCursor(from));
        }
        Ok(Entries::open(self.dir.clone(), from))
    }

    /// The place after the newest event, for a reader of what is still to come.
    pub fn end(&self) -> Result<Cursor, StoreError> {
        // The lock: a cursor must not point into a line that is being written.
        let (segment, path, file) = self.lock_newest()?;
        let offset = file.metadata().map_err(StoreError::io("examine", &path))?.len();
        Ok(Cursor { segment, offset })
    }

    /// A watch that wakes when there may be new events. It is to be made before the first read.
    pub fn watch(&self) -> Result<Watch, StoreError> {
        let watch = Watch::open()?;
        watch.add(&self.dir)?;
        Ok(watch)
    }

    /// How the container of this name ended last, when it has not been made again since.
    pub fn last_exit(&self, namespace: &str, id: &str) -> Result<Option<Payload>, StoreError> {
        let mut events = self.backwards(namespace, id)?;
        while let Some(payload) = events()? {
            match &payload {
                Payload::TaskExit { container_id, id: process, .. } if container_id == id && process == id => {
                    return Ok(Some(payload));
                }
                Payload::TaskCreate { container_id: made, .. } | Payload::ContainerCreate { id: made, .. }
                    if made == id =>
                {
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// What has been told of a container that has not been deleted yet: a supervisor that was killed may
    /// not have told all.
    pub fn story(&self, namespace: &str, id: &str) -> Result<Story, StoreError> {
        let mut story = Story::default();
        let mut events = self.backwards(namespace, id)?;
        while let Some(payload) = events()? {
            match payload {
                Payload::TaskExit { container_id, id: process, .. } if container_id == id && process == id => {
                    story.exited = true;
                }
                Payload::TaskStart { container_id, .. } if container_id == id => story.started = true,
                Payload::TaskCreate { container_id, .. } if container_id == id => {
                    story.created = true;
                    break;
                }
                Payload::TaskDelete { container_id, .. } if container_id == id => break,
                _ => {}
            }
        }
        Ok(story)
    }

    /// The events of a namespace that may speak of a container, newest first.
    fn backwards(
        &self,
        namespace: &str,
        id: &str,
    ) -> Result<impl FnMut() -> Result<Option<Payload>, StoreError>, StoreError> {
        let mut lines = Backwards::open(self.dir.clone())?;
        let quoted = format!("\"{id}\"");
        Ok(move || {
            while let Some(line) = lines.next_line()? {
                // Most lines are of other containers: not parsing them is most of the speed.
                let Some(line) = str::from_utf8(&line).ok().filter(|line| line.contains(&quoted)) else { continue };
                match serde_json::from_str::<Event>(line) {
                    Ok(event) if event.namespace == namespace => return Ok(Some(event.payload)),
                    _ => {}
                }
            }
            Ok(None)
        })
    }

    /// The newest segment, open for appending, locked, and with a whole line at its end.
    fn lock_newest(&self) -> Result<(u64, PathBuf, File), StoreError> {
        loop {
            let segment = segment::newest(&self.dir)?.unwrap_or(1);
            let path = segment::path(&self.dir, segment);
            let mut file = open_segment(&path)?;
            file.lock().map_err(StoreError::io("lock", &path))?;
            // Whoever had the lock before may have begun another segment.
            if segment::newest(&self.dir)? != Some(segment) {
                continue;
            }
            let size = file.metadata().map_err(StoreError::io("examine", &path))?.len();
            if ends_torn(&file, size).map_err(StoreError::io("read", &path))? {
                file.write_all(b"\n").map_err(StoreError::io("append to", &path))?;
            }
            if size < self.segment_size {
                return Ok((segment, path, file));
            }
            // Made under the lock of the full one: once a segment exists, those before it stay as they are.
            open_segment(&segment::path(&self.dir, segment + 1))?;
        }
    }

    fn timestamp(&self) -> Result<Timestamp, StoreError> {
        #[derive(Deserialize)]
        struct Dated {
            timestamp: Timestamp,
        }
        let now = Timestamp::now();
        let Some(line) = Backwards::open(self.dir.clone())?.next_line()? else { return Ok(now) };
        match serde_json::from_slice::<Dated>(&line) {
            Ok(last) if last.timestamp > now && last.timestamp.0 <= now.0 + HIDDEN_STEP => Ok(last.timestamp),
            _ => Ok(now),
        }
    }

    /// Whether a cursor is one that this log gave: the start of a segment, or just after a line.
    fn knows(&self, cursor: Cursor) -> Result<bool, StoreError> {
        let path = segment::path(&self.dir, cursor.segment);
        let before = match (File::open(&path), cursor.offset.checked_sub(1)) {
            (Ok(_), None) => return Ok(true),
            (Ok(file), Some(before)) => (file, before),
            // A log that nothing was written to has a beginning all the same.
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(cursor.segment == 1 && segment::list(&self.dir)?.is_empty());
            }
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            (Err(error), _) => return Err(StoreError::io("open", &path)(error)),
        };
        let mut byte = [0];
        let read = before.0.read_at(&mut byte, before.1).map_err(StoreError::io("read", &path))?;
        Ok(read == 1 && byte == *b"\n")
    }
}

fn open_segment(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path).map_err(StoreError::io("open", path))
}

fn ends_torn(file: &File, size: u64) -> io::Result<bool> {
    let mut last = *b"\n";
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    Ok(last != *b"\n")
}
