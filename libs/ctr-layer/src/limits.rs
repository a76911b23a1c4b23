// SPDX-License-Identifier: Apache-2.0
//! What a layer may ask for at most.

/// Bounds on what a layer may hold, against tars that are small to send and endless to unpack.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the uncompressed tar.
    pub total: u64,
    /// How many times the compressed size the tar may have.
    pub ratio: u64,
    /// Tars up to this size are not held to the ratio: little data compresses arbitrarily well.
    pub ratio_floor: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of extended headers (names, attributes, sparse maps) of one entry.
    pub metadata: usize,
    /// Bytes of a path.
    pub path: usize,
    /// Regions of data in one sparse file.
    pub regions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: u64::MAX,
            // What gzip can reach at all is 1032. zstd reaches 32768, with nothing but zeros.
            ratio: 1100,
            ratio_floor: 4 << 30,
            entries: 10_000_000,
            metadata: 1 << 20, // as Go's archive/tar
            path: 4095,        // PATH_MAX without its NUL
            regions: 65_536,
        }
    }
}
