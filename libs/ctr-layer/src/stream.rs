// SPDX-License-Identifier: Apache-2.0
//! A layer's tar on its way from the compressed bytes to whoever writes the files.
//!
//! One thread inflates, one hashes (the diffID), and the caller's parses and writes. All three share
//! the same few buffers and nothing is copied between them: whichever stage is slow, inflation for a
//! fast disk, hashing without SHA instructions, the file system otherwise, has a core to itself. The
//! number of buffers bounds the memory, and how far a stream that nobody reads yet runs ahead.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use ctr_record::{Algorithm, DiffId, Hasher};

use crate::inflate::Inflate;
use crate::{Error, Limits};

/// The size of a tar block.
pub(crate) const BLOCK: usize = 512;

// Every chunk but the last is full, and a multiple of a block, so that a block never spans two chunks.
const CHUNK: usize = 256 * 1024;
const CHUNKS: usize = 12;

/// A layer's uncompressed tar, being inflated and hashed as it is read.
pub struct Stream {
    chunks: Receiver<Message>,
    current: Option<Arc<Chunk>>,
    at: usize,
    offset: u64,
    ended: bool,
    hasher: JoinHandle<DiffId>,
    limits: Limits,
}

enum Message {
    Chunk(Arc<Chunk>),
    Failed(Error),
    End,
}

impl Stream {
    /// Begins to read a layer as it is stored, whatever its compression. The digest of its tar is made
    /// with `algorithm`: that of the diffID it is to be compared with.
    pub fn open(source: impl Read + Send + 'static, algorithm: Algorithm, limits: &Limits) -> Result<Self, Error> {
        let (to_parser, chunks) = mpsc::channel();
        let (to_hasher, hashed) = mpsc::channel::<Arc<Chunk>>();
        let (limits, bounds) = (limits.clone(), limits.clone());
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let hasher = spawn("layer-hash").spawn(move || {
            let mut hasher = Hasher::new(algorithm);
            for chunk in hashed {
                hasher.update(chunk.bytes());
            }
            DiffId(hasher.finish())
        });
        let hasher = hasher.map_err(|source| Error::Thread { source })?;
        let inflate = move || {
            let last = match inflate(Box::new(source), &bounds, &to_parser, &to_hasher) {
                Ok(()) => Message::End,
                Err(error) => Message::Failed(error),
            };
            let _ = to_parser.send(last); // nobody listens any more: the layer was given up
        };
        spawn("layer-inflate").spawn(inflate).map_err(|source| Error::Thread { source })?;
        Ok(Self { chunks, current: None, at: 0, offset: 0, ended: false, hasher, limits })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes of the tar that were consumed.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next block; `None` at the end of the tar.
    pub(crate) fn block(&mut self) -> Result<Option<&[u8; BLOCK]>, Error> {
        self.advance()?;
        if self.current.is_none() {
            return Ok(None);
        }
        self.take(BLOCK)?.try_into().map(Some).map_err(|_| Error::Truncated)
    }

    /// At least one and at most `max` bytes, which is more than 0.
    pub(crate) fn take(&mut self, max: usize) -> Result<&[u8], Error> {
        self.advance()?;
        let chunk = self.current.as_ref().ok_or(Error::Truncated)?;
        let bytes = &chunk.bytes()[self.at..];
        let bytes = &bytes[..bytes.len().min(max)];
        self.at += bytes.len();
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }

    pub(crate) fn skip(&mut self, mut n: u64) -> Result<(), Error> {
        while n > 0 {
            n -= self.take(usize::try_from(n).unwrap_or(usize::MAX))?.len() as u64;
        }
        Ok(())
    }

    /// Reads what is left, and ends the hash: the digest and the size of the whole tar.
    pub(crate) fn finish(mut self) -> Result<(DiffId, u64), Error> {
        loop {
            self.advance()?;
            match &self.current {
                None => break,
                Some(chunk) => {
                    self.offset += (chunk.bytes().len() - self.at) as u64;
                    self.at = chunk.bytes().len();
                }
            }
        }
        let diff_id = self.hasher.join().expect("hashing does not panic");
        Ok((diff_id, self.offset))
    }

    // Afterwards the current chunk has a byte to give, unless the stream has ended.
    fn advance(&mut self) -> Result<(), Error> {
        if self.ended || self.current.as_ref().is_some_and(|chunk| self.at < chunk.bytes().len()) {
            return Ok(());
        }
        // The old chunk's buffer must be free before the wait: the inflater may be waiting for it.
        (self.current, self.at) = (None, 0);
        match self.chunks.recv().expect("the inflater says how it ends") {
            Message::Chunk(chunk) => self.current = Some(chunk),
            Message::Failed(error) => return Err(error),
            Message::End => self.ended = true,
        }
        Ok(())
    }
}

fn inflate(
    source: Box<dyn Read + Send>,
    limits: &Limits,
    to_parser: &Sender<Message>,
    to_hasher: &Sender<Arc<Chunk>>,
) -> Result<(), Error> {
    let mut inflate = Inflate::open(source, limits)?;
    let (pool, free) = mpsc::channel();
    for _ in 0..CHUNKS {
        pool.send(Vec::new()).expect("its receiver is two lines above");
    }
    loop {
        let mut buffer = free.recv().expect("this function holds a sender");
        buffer.resize(CHUNK, 0);
        let length = inflate.fill(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let chunk = Arc::new(Chunk { buffer, length, pool: pool.clone() });
        let _ = to_hasher.send(Arc::clone(&chunk)); // it ends only after this sender
        if to_parser.send(Message::Chunk(chunk)).is_err() || length < CHUNK {
            return Ok(());
        }
    }
}

/// A piece of the tar, whose buffer goes back to the pool after its last reader.
struct Chunk {
    buffer: Vec<u8>,
    length: usize,
    pool: Sender<Vec<u8>>,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let _ = self.pool.send(std::mem::take(&mut self.buffer)); // the stream may be over
    }
}
