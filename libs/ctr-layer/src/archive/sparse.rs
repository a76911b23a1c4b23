// SPDX-License-Identifier: Apache-2.0
//! The maps of sparse files, in GNU's four formats.

use super::number;
use crate::entry::Region;
use crate::error::Malformed;
use crate::stream::BLOCK;

pub(super) fn region(offset: Option<i64>, length: Option<i64>) -> Result<Region, Malformed> {
    let number = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok()).ok_or(Malformed::SparseMap);
    Ok(Region { offset: number(offset)?, length: number(length)? })
}

/// Adds a region of GNU's old format; `false`: the field is unused, and so are those after it.
pub(super) fn push(map: &mut Vec<Region>, offset: &[u8], length: &[u8]) -> Result<bool, Malformed> {
    if offset[0] == 0 || length[0] == 0 {
        return Ok(false);
    }
    map.push(region(number::field(offset), number::field(length))?);
    Ok(true)
}

/// Adds the regions of a block that continues a map; whether yet another one follows.
pub(super) fn gnu_extension(block: &[u8; BLOCK], map: &mut Vec<Region>) -> Result<bool, Malformed> {
    for slot in block[..21 * 24].chunks_exact(24) {
        if !push(map, &slot[..12], &slot[12..])? {
            break;
        }
    }
    Ok(block[21 * 24] != 0)
}

/// Whether regions ascend within a file of `size`, and are filled by `stored` bytes exactly.
pub(super) fn check(size: u64, regions: &[Region], stored: u64) -> Result<(), Malformed> {
    let (mut end, mut total) = (0, 0_u64);
    for region in regions {
        let next = region.offset.checked_add(region.length).filter(|&next| next <= size);
        if region.offset < end {
            return Err(Malformed::SparseMap);
        }
        end = next.ok_or(Malformed::SparseMap)?;
        total += region.length; // at most `size`, as the regions do not overlap
    }
    if total == stored && i64::try_from(size).is_ok() { Ok(()) } else { Err(Malformed::SparseMap) }
}

/// Reads the map of PAX format 1.0: the number of regions, then each offset and length, a line each.
pub(super) struct MapReader {
    limit: usize,
    count: Option<usize>,
    digits: Vec<u8>,
    numbers: Vec<u64>,
}

impl MapReader {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, count: None, digits: Vec::new(), numbers: Vec::new() }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.numbers.len() == 2 * count)
    }

    pub(super) fn read(&mut self, block: &[u8; BLOCK]) -> Result<(), Malformed> {
        for &byte in block {
            match byte {
                b'0'..=b'9' if self.digits.len() < 19 => self.digits.push(byte),
                b'\n' => {
                    let number = number::decimal(&self.digits).and_then(|n| u64::try_from(n).ok());
                    self.add(number.ok_or(Malformed::SparseMap)?)?;
                    self.digits.clear();
                }
                _ => return Err(Malformed::SparseMap),
            }
            if self.is_complete() {
                break; // the rest of the block is padding
            }
        }
        Ok(())
    }

    fn add(&mut self, number: u64) -> Result<(), Malformed> {
        match self.count {
            Some(_) => self.numbers.push(number),
            None => match usize::try_from(number) {
                Ok(count) if count <= self.limit => self.count = Some(count),
                _ => return Err(Malformed::Regions(self.limit)),
            },
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Region> {
        self.numbers.chunks_exact(2).map(|pair| Region { offset: pair[0], length: pair[1] }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(u64, u64)]) -> Vec<Region> {
        pairs.iter().map(|&(offset, length)| Region { offset, length }).collect()
    }

    #[test]
    fn maps_must_ascend_and_fit() {
        let check = |size, pairs: &[(u64, u64)], stored| check(size, &map(pairs), stored).is_ok();
        assert!(check(0, &[], 0));
        assert!(check(100, &[(0, 10), (10, 5), (100, 0)], 15));
        assert!(!check(100, &[(0, 10)], 11));
        assert!(!check(100, &[(0, 10), (5, 10)], 20));
        assert!(!check(100, &[(95, 10)], 10));
        assert!(!check(u64::MAX, &[(u64::MAX, 2)], 2));
        assert!(!check(u64::MAX, &[], 0));
    }

    #[test]
    fn a_map_of_lines_may_span_blocks() {
        let mut text = b"200\n".to_vec();
        for i in 0..200 {
            text.extend_from_slice(format!("{}\n{}\n", i * 1000, i).as_bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let mut reader = MapReader::new(200);
        for block in text.chunks_exact(BLOCK) {
            assert!(!reader.is_complete());
            reader.read(block.try_into().unwrap()).unwrap();
        }
        assert!(reader.is_complete());
        assert_eq!(reader.finish()[199], Region { offset: 199_000, length: 199 });
    }

    // Go CVE-2025-58183: memory was reserved for as many regions as a map claims to have.
    #[test]
    fn cve_2025_58183_regions_are_bounded() {
        let mut block = [b'9'; BLOCK];
        block[18] = b'\n';
        assert_eq!(MapReader::new(10).read(&block).err(), Some(Malformed::Regions(10)));
        block[18] = b'9';
        assert_eq!(MapReader::new(10).read(&block).err(), Some(Malformed::SparseMap));
    }
}
