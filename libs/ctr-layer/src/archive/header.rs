// SPDX-License-Identifier: Apache-2.0
//! One header block: its checksum, its dialect, its fields.

use tar::{Header, UstarHeader};

use super::number::field;
use super::sparse;
use crate::entry::{Class, Kind, Region, Time};
use crate::error::{Fault, Malformed};
use crate::stream::BLOCK;

/// What Linux keeps of a device's numbers.
const MAJOR_MAX: i64 = (1 << 12) - 1;
const MINOR_MAX: i64 = (1 << 20) - 1;

/// A header block whose checksum is right.
pub(super) struct Block(Header);

/// The dialects that name and date an entry differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Block {
    pub(super) fn verify(bytes: &[u8; BLOCK]) -> Result<Self, Malformed> {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(bytes);
        let stored = field(&header.as_old().cksum).ok_or(Malformed::Checksum)?;
        // The checksum is made with itself as spaces. Some old tars added the bytes as signed ones.
        let others = || bytes[..148].iter().chain(&bytes[156..]);
        let unsigned = others().map(|&b| i64::from(b)).sum::<i64>() + 8 * i64::from(b' ');
        let signed = others().map(|&b| i64::from(b as i8)).sum::<i64>() + 8 * i64::from(b' ');
        if stored != unsigned && stored != signed {
            return Err(Malformed::Checksum);
        }
        if bytes[257..263] == *b"ustar\0" {
            header.as_mut_bytes()[263..265].copy_from_slice(b"00"); // Go does not look at the version
        }
        Ok(Self(header))
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0.as_old().linkflag[0]
    }

    pub(super) fn size(&self) -> Result<u64, Malformed> {
        let size = field(&self.0.as_old().size).ok_or(Malformed::Number("size"))?;
        u64::try_from(size).map_err(|_| Malformed::Number("size"))
    }

    pub(super) fn mode(&self) -> Result<u32, Malformed> {
        let mode = field(&self.0.as_old().mode).ok_or(Malformed::Number("mode"))?;
        Ok((mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i64, Malformed> {
        field(&self.0.as_old().uid).ok_or(Malformed::Number("uid"))
    }

    pub(super) fn gid(&self) -> Result<i64, Malformed> {
        field(&self.0.as_old().gid).ok_or(Malformed::Number("gid"))
    }

    pub(super) fn mtime(&self) -> Result<i64, Malformed> {
        field(&self.0.as_old().mtime).ok_or(Malformed::Number("time of modification"))
    }

    pub(super) fn target(&self) -> &[u8] {
        until_nul(&self.0.as_old().linkname)
    }

    /// The character or block device that this entry is, or why its numbers cannot be those of one.
    pub(super) fn device(&self) -> Result<Result<Kind, Fault>, Malformed> {
        // Version 7 has devices but no field for their numbers; Go reads them as 0 there.
        let (major, minor) = match (self.0.as_ustar(), self.0.as_gnu()) {
            (Some(header), _) => (&header.dev_major, &header.dev_minor),
            (_, Some(header)) => (&header.dev_major, &header.dev_minor),
            _ => (&[0; 8], &[0; 8]),
        };
        let major = field(major).ok_or(Malformed::Number("device major"))?;
        let minor = field(minor).ok_or(Malformed::Number("device minor"))?;
        for (what, value, max) in [("device major", major, MAJOR_MAX), ("device minor", minor, MINOR_MAX)] {
            if !(0..=max).contains(&value) {
                return Ok(Err(Fault::Range { what, value }));
            }
        }
        let class = if self.type_flag() == b'3' { Class::Character } else { Class::Block };
        Ok(Ok(Kind::Device { class, major: major as u32, minor: minor as u32 }))
    }

    /// The name with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0.as_old().name);
        let prefix = match self.dialect() {
            Dialect::V7 => &[][..],
            Dialect::Ustar => until_nul(self.prefix()),
            Dialect::Star => until_nul(&self.prefix()[..131]),
            // Go before 1.8 wrote a prefix into GNU headers, where these times are: "no number" tells.
            Dialect::Gnu => match self.gnu_times() {
                Some(_) => &[],
                None => Some(until_nul(self.prefix())).filter(|prefix| prefix.is_ascii()).unwrap_or_default(),
            },
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The time of access, which only GNU's header has room for.
    pub(super) fn atime(&self) -> Option<Time> {
        let (atime, _) = self.gnu_times()?;
        atime.map(Time::of_seconds)
    }

    /// The file's size, the first regions of its map, and whether the map goes on in the next block.
    pub(super) fn gnu_sparse(&self) -> Result<(u64, Vec<Region>, bool), Malformed> {
        let header = self.0.as_gnu().ok_or(Malformed::SparseMap)?;
        let size = field(&header.realsize).and_then(|size| u64::try_from(size).ok()).ok_or(Malformed::SparseMap)?;
        let mut map = Vec::new();
        for slot in &header.sparse {
            if !sparse::push(&mut map, &slot.offset, &slot.numbytes)? {
                break;
            }
        }
        Ok((size, map, header.isextended[0] != 0))
    }

    fn dialect(&self) -> Dialect {
        let is_star = self.0.as_bytes()[508..] == *b"tar\0";
        match (self.0.as_ustar(), self.0.as_gnu()) {
            (Some(_), _) if is_star => Dialect::Star,
            (Some(_), _) => Dialect::Ustar,
            (_, Some(_)) => Dialect::Gnu,
            _ => Dialect::V7,
        }
    }

    fn prefix(&self) -> &[u8] {
        const START: usize = std::mem::offset_of!(UstarHeader, prefix);
        &self.0.as_bytes()[START..START + 155]
    }

    // Times of access and change, each where there is one; `None` when they are no numbers.
    fn gnu_times(&self) -> Option<(Option<i64>, Option<i64>)> {
        let header = self.0.as_gnu()?;
        let time = |bytes: &[u8; 12]| if bytes[0] == 0 { Some(None) } else { field(bytes).map(Some) };
        Some((time(&header.atime)?, time(&header.ctime)?))
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
