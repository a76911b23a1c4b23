// SPDX-License-Identifier: Apache-2.0
//! The files that the log is made of: `00000001.log` and on, each appended to until it is full.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The file of a segment.
pub(super) fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:08}.log"))
}

/// The numbers of all segments, oldest first.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", dir)(error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let name = entry.map_err(StoreError::io("list", dir))?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()) else {
            continue;
        };
        // A number that is written in another way is another name, and not the log's.
        segments.extend(Some(number).filter(|&number| path(dir, number).file_name() == Some(&name)));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The segment that is written to now.
pub(super) fn newest(dir: &Path) -> Result<Option<u64>, StoreError> {
    Ok(list(dir)?.pop())
}
