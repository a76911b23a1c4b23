// SPDX-License-Identifier: Apache-2.0
//! A position in the event log, as users keep it.

use std::fmt;
use std::str::FromStr;

use ctr_record::{Classify, ErrorKind};
use serde::{Serialize, Serializer};

/// The place just after an event; as text `SEGMENT:OFFSET`. Cursors of one log compare in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// A string that is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a cursor: it must be SEGMENT:OFFSET")]
pub struct InvalidCursor(String);

impl Classify for InvalidCursor {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(s: &str) -> Result<Self, InvalidCursor> {
        let number =
            |digits: &str| -> Option<u64> { digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())? };
        let parsed = s
            .split_once(':')
            .and_then(|(segment, offset)| Some(Self { segment: number(segment)?, offset: number(offset)? }));
        parsed.ok_or_else(|| InvalidCursor(s.chars().take(64).collect()))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let cursor: Cursor = "3:1024".parse().unwrap();
        assert_eq!(cursor, Cursor { segment: 3, offset: 1024 });
        assert_eq!(cursor.to_string(), "3:1024");
        for bad in ["", ":", "1", "1:", ":1", "+1:2", "1:-2", "1:2:3", "1: 2", "99999999999999999999:1", "a:b"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
