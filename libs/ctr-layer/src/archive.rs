// SPDX-License-Identifier: Apache-2.0
//! A tar stream to [`Entry`]s: what archive/tar of Go reads, read the same way.
//!
//! Layers are written by Go programs and were tried with Go programs, so that where tar's dialects and
//! readers differ, Go's reading is what the image means; and two readers that differ are how entries
//! get smuggled past one of them (CVE-2025-62518). The `tar` crate gives the layout of a header block;
//! its iterator is not used: it copies all content once more, applies a binary attribute only up to
//! the first newline in its value, reads a modification time of 0 as 1 and none with a fraction, and
//! knows no PAX sparse files.

mod header;
mod number;
mod pax;
mod sparse;

use crate::entry::{Content, Entry, Kind, Region, Time};
use crate::error::{Error, Fault, Malformed, printable};
use crate::limits::Limits;
use crate::stream::{BLOCK, Stream};

use header::Block;
use pax::Overrides;

/// Reads entries from a stream, and the content of each before the next.
pub(crate) struct Archive {
    stream: Stream,
    limits: Limits,
    /// Bytes of the current entry's content that were not consumed, and of padding after it.
    left: u64,
    padding: u64,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Pending {
    pax: Overrides,
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl Archive {
    pub(crate) fn new(stream: Stream) -> Self {
        let limits = stream.limits().clone();
        Self { stream, limits, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.skip_content()?;
        let mut pending = Pending::default();
        loop {
            let offset = self.stream.offset();
            let malformed = |source| Error::Header { offset, source };
            let Some(block) = self.stream.block()?.copied() else { return Ok(None) };
            if block == [0; BLOCK] {
                return match self.stream.block()? {
                    None => Ok(None),
                    Some(next) if *next == [0; BLOCK] => Ok(None),
                    Some(_) => Err(malformed(Malformed::LoneZeroBlock)),
                };
            }
            let block = Block::verify(&block).map_err(malformed)?;
            let size = block.size().map_err(malformed)?;
            match block.type_flag() {
                b'x' => {
                    let records = self.extended(size, offset)?;
                    pending.pax = Overrides::parse(&records).map_err(malformed)?;
                }
                b'L' => pending.long_name = Some(header::until_nul(&self.extended(size, offset)?).to_vec()),
                b'K' => pending.long_target = Some(header::until_nul(&self.extended(size, offset)?).to_vec()),
                // Global headers, and volume labels, say nothing of the entry that follows; to Go the
                // former are entries of their own, which end what was pending (git archives have them).
                b'g' | b'V' => {
                    self.expect_content(size);
                    self.skip_content()?;
                    pending = Pending::default();
                }
                _ => return self.entry(&block, pending, size, offset).map(Some),
            }
        }
    }

    /// The next piece of the current entry's content, at most `max` bytes; empty when there is no more.
    pub(crate) fn content(&mut self, max: u64) -> Result<&[u8], Error> {
        let max = usize::try_from(self.left.min(max)).unwrap_or(usize::MAX);
        if max == 0 {
            return Ok(&[]);
        }
        let bytes = self.stream.take(max)?;
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }

    /// What the whole stream amounts to, also what follows the archive's end in it.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    fn entry(&mut self, block: &Block, pending: Pending, size: u64, offset: u64) -> Result<Entry, Error> {
        let malformed = |source| Error::Header { offset, source };
        let mut pax = pending.pax;
        let size = pax.size.unwrap_or(size);
        let mut name = pending.long_name.or(pax.path.take()).unwrap_or_else(|| block.name());
        if let Some(sparse_name) = pax.sparse.as_mut().and_then(|sparse| sparse.name.take()) {
            name = sparse_name;
        }
        let fault = |source| Error::Entry { name: printable(&name), source };
        let target = || pending.long_target.or(pax.linkpath).unwrap_or_else(|| block.target().to_vec());
        // Only files have content: to Go, the size of anything else says nothing.
        let kind = match block.type_flag() {
            0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => {
                self.expect_content(size);
                Kind::File(match (block.type_flag(), pax.sparse.take()) {
                    (b'S', _) => self.gnu_sparse(block, offset)?,
                    (_, Some(sparse)) => self.pax_sparse(sparse, size, offset)?,
                    (_, None) => Content::Whole(size),
                })
            }
            b'1' => Kind::Hardlink { target: target() },
            b'2' => Kind::Symlink { target: target() },
            b'3' | b'4' => block.device().map_err(malformed)?.map_err(fault)?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(fault(Fault::UnknownType(other.into()))),
        };
        let id = |what, value: Option<i64>, field: Result<i64, Malformed>| {
            let value = value.map_or(field, Ok).map_err(malformed)?;
            // The highest number stands for "no change" in chown(2).
            match u32::try_from(value) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => Err(fault(Fault::Range { what, value })),
            }
        };
        Ok(Entry {
            mode: block.mode().map_err(malformed)?,
            uid: id("uid", pax.uid, block.uid())?,
            gid: id("gid", pax.gid, block.gid())?,
            mtime: match pax.mtime {
                Some(time) => time,
                None => Time::of_seconds(block.mtime().map_err(malformed)?),
            },
            atime: pax.atime.or_else(|| block.atime()),
            xattrs: pax.xattrs,
            kind,
            name,
        })
    }

    fn gnu_sparse(&mut self, block: &Block, offset: u64) -> Result<Content, Error> {
        let malformed = |source| Error::Header { offset, source };
        let (size, mut map, mut extended) = block.gnu_sparse().map_err(malformed)?;
        while extended {
            let block = self.stream.block()?.ok_or(Error::Truncated)?;
            extended = sparse::gnu_extension(block, &mut map).map_err(malformed)?;
            if map.len() > self.limits.regions {
                return Err(malformed(Malformed::Regions(self.limits.regions)));
            }
        }
        self.sparse(size, map, offset)
    }

    fn pax_sparse(&mut self, sparse: pax::Sparse, size: u64, offset: u64) -> Result<Content, Error> {
        let map = match sparse.map {
            Some(map) => map,
            None => self.pax_sparse_map(offset)?,
        };
        self.sparse(sparse.size.unwrap_or(size), map, offset)
    }

    // Format 1.0: the map stands in front of the content, in decimal lines, padded to a whole block.
    fn pax_sparse_map(&mut self, offset: u64) -> Result<Vec<Region>, Error> {
        let malformed = |source| Error::Header { offset, source };
        let mut map = sparse::MapReader::new(self.limits.regions);
        while !map.is_complete() {
            if self.left < BLOCK as u64 {
                return Err(malformed(Malformed::SparseMap));
            }
            self.left -= BLOCK as u64;
            let block = self.stream.block()?.ok_or(Error::Truncated)?;
            map.read(block).map_err(malformed)?;
        }
        Ok(map.finish())
    }

    fn sparse(&self, size: u64, regions: Vec<Region>, offset: u64) -> Result<Content, Error> {
        let malformed = |source| Error::Header { offset, source };
        if regions.len() > self.limits.regions {
            return Err(malformed(Malformed::Regions(self.limits.regions)));
        }
        sparse::check(size, &regions, self.left).map_err(malformed)?;
        Ok(Content::Sparse { size, regions })
    }

    fn expect_content(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        let (left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        self.stream.skip(left)?;
        self.stream.skip(padding)
    }

    // The content of a header that extends the next one. It is read into memory, so its size is bounded.
    fn extended(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, Error> {
        let limit = self.limits.metadata;
        if size > limit as u64 {
            return Err(Error::Header { offset, source: Malformed::TooLarge(limit) });
        }
        self.expect_content(size);
        let mut content = Vec::with_capacity(size as usize);
        while self.left > 0 {
            content.extend_from_slice(self.content(u64::MAX)?);
        }
        self.skip_content()?;
        Ok(content)
    }
}
