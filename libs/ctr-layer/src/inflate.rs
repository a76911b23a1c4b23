// SPDX-License-Identifier: Apache-2.0
//! A layer's bytes as stored, to the bytes of its tar: gzip, zstd or neither, told apart by their magic.
//!
//! Media types lie (Docker's `…diff.tar` may well be compressed), so they are not asked.

use std::io::{self, BufRead, Read};
use std::mem;

use flate2::bufread::GzDecoder;

use crate::{Error, Limits};

const FEED: usize = 256 * 1024;
/// The largest window that decoders accept unasked, 128 MiB; more is memory for an image to waste.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A reader of a layer's uncompressed tar.
pub(crate) struct Inflate {
    decoder: Decoder,
    limits: Limits,
    written: u64,
}

enum Decoder {
    Plain(Feed),
    Gzip(Box<GzDecoder<Feed>>),
    Zstd(zstd::stream::read::Decoder<'static, Feed>),
    Done,
}

impl Inflate {
    /// Looks at the first bytes of `source`. Nothing at all is an empty layer.
    pub(crate) fn open(source: Box<dyn Read + Send>, limits: &Limits) -> Result<Self, Error> {
        let mut feed = Feed::new(source);
        let magic = feed.peek(4).map_err(|error| Error::Read { source: unmark(error) })?;
        let decoder = match magic {
            [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(GzDecoder::new(feed))),
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Decoder::Zstd(open_zstd(feed)?),
            _ => Decoder::Plain(feed),
        };
        Ok(Self { decoder, limits: limits.clone(), written: 0 })
    }

    /// Fills `buffer` with what comes next; less than its length only at the end.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.decoder.read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.decoder = Decoder::Done;
                    break;
                }
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.decoder.explain(error)),
            }
            let taken = self.decoder.taken();
            let written = self.written + filled as u64;
            if written > self.limits.total {
                return Err(Error::TooLarge { limit: self.limits.total });
            }
            if written > self.limits.ratio_floor && written / taken.max(1) > self.limits.ratio {
                return Err(Error::Ratio { limit: self.limits.ratio });
            }
        }
        self.written += filled as u64;
        Ok(filled)
    }
}

fn open_zstd(feed: Feed) -> Result<zstd::stream::read::Decoder<'static, Feed>, Error> {
    let corrupt = |source| Error::Corrupt { codec: "zstd", source };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(feed).map_err(corrupt)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(corrupt)?;
    Ok(decoder)
}

impl Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(feed) => feed.read(buffer),
            Self::Gzip(decoder) => read_members(decoder, buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Done => Ok(0),
        }
    }

    fn taken(&self) -> u64 {
        match self {
            Self::Plain(feed) => feed.taken,
            Self::Gzip(decoder) => decoder.get_ref().taken,
            Self::Zstd(decoder) => decoder.get_ref().taken,
            Self::Done => 0,
        }
    }

    fn explain(&self, error: io::Error) -> Error {
        let of_source = error.get_ref().is_some_and(|inner| inner.is::<SourceError>());
        match self {
            Self::Gzip(_) if !of_source => Error::Corrupt { codec: "gzip", source: error },
            Self::Zstd(_) if !of_source => Error::Corrupt { codec: "zstd", source: error },
            _ => Error::Read { source: unmark(error) },
        }
    }
}

// A layer may be several members (estargz has one per file), and zeros may follow the last one: some
// registries' blobs are padded.
fn read_members(decoder: &mut GzDecoder<Feed>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let n = decoder.read(buffer)?;
        if n > 0 || buffer.is_empty() {
            return Ok(n);
        }
        let feed = decoder.get_mut();
        match feed.peek(2)? {
            [] => return Ok(0),
            [0x1f, 0x8b] => {
                let feed = mem::take(feed);
                decoder.reset(feed);
            }
            _ => return feed.skip_zeros(),
        }
    }
}

/// An error of the source, marked so that it is not taken for one of the compression.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SourceError(io::Error);

fn unmark(error: io::Error) -> io::Error {
    match error.downcast::<SourceError>() {
        Ok(SourceError(source)) => source,
        Err(error) => error,
    }
}

/// The compressed bytes, buffered, counted, and open to a look ahead.
struct Feed {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    taken: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self { source: Box::new(io::empty()), buffer: Vec::new(), start: 0, end: 0, taken: 0 }
    }
}

impl Feed {
    fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, buffer: vec![0; FEED], ..Self::default() }
    }

    /// The next `n` bytes, or all that are left when there are fewer.
    fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        while self.end - self.start < n {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.pull()? == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + n)])
    }

    fn skip_zeros(&mut self) -> io::Result<usize> {
        loop {
            let rest = self.fill_buf()?;
            if rest.is_empty() {
                return Ok(0);
            }
            if rest.iter().any(|&b| b != 0) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "other data follows the last gzip member"));
            }
            let n = rest.len();
            self.consume(n);
        }
    }

    fn pull(&mut self) -> io::Result<usize> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    self.taken += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::new(error.kind(), SourceError(error))),
            }
        }
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end && !self.buffer.is_empty() {
            (self.start, self.end) = (0, 0);
            self.pull()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A plain tar is not copied twice.
        if self.start == self.end && buffer.len() >= FEED {
            let n = self.source.read(buffer)?;
            self.taken += n as u64;
            return Ok(n);
        }
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}
