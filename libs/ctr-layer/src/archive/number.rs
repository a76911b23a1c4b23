// SPDX-License-Identifier: Apache-2.0
//! The ways tar writes numbers: octal text, base-256, and PAX decimals.

use crate::entry::Time;

/// A numeric field of a header: octal text, or base-256 when its first bit is set. Empty is 0.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(&first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

/// Octal digits among spaces and NULs.
pub(super) fn octal(bytes: &[u8]) -> Option<i64> {
    let filler = |b: &u8| matches!(b, b' ' | 0);
    let start = bytes.iter().position(|b| !filler(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !filler(b)).map_or(start, |last| last + 1);
    // What follows a NUL within the field is no part of the number.
    let digits = bytes[start..end].split(|&b| b == 0).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

// Two's complement of the whole field, big-endian, in which the marker bit is replaced by the sign.
fn base256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative { bytes[0] | 0x80 } else { bytes[0] & 0x7f };
    let start = if negative { -1 } else { 0 };
    std::iter::once(&first)
        .chain(&bytes[1..])
        .try_fold(start, |value: i64, &byte| Some(value.checked_mul(256)? | i64::from(byte)))
}

/// A decimal integer of a PAX record.
pub(super) fn decimal(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Seconds with an optional fraction.
pub(super) fn time(bytes: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let kept = &fraction[..fraction.len().min(9)];
    let nanoseconds = format!("{kept:0<9}").parse().ok()?;
    Some(match text.starts_with('-') {
        true => Time::default(),
        false => Time::bounded(seconds, nanoseconds),
    })
}

impl Time {
    /// A time of whole seconds; one before 1970 is 1970, as in containerd.
    pub(super) fn of_seconds(seconds: i64) -> Self {
        Self::bounded(seconds, 0)
    }

    // What does not fit into 64 bits of nanoseconds (the year 2262) becomes 1970 too.
    fn bounded(seconds: i64, nanoseconds: u32) -> Self {
        let fits = seconds >= 0 && seconds.checked_mul(1_000_000_000).is_some_and(|n| n < i64::MAX - 1_000_000_000);
        if fits { Self { seconds, nanoseconds } } else { Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_octal_with_any_padding() {
        for (text, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0junk", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"6 4\0", None),
        ] {
            assert_eq!(field(text), value, "{text:?}");
        }
    }

    #[test]
    fn reads_base_256_of_either_sign() {
        assert_eq!(field(&[0x80, 0, 0, 0, 0, 0x20, 0, 0]), Some(0x20_0000));
        assert_eq!(field(&[0xff; 12]), Some(-1));
        assert_eq!(field(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]), Some(-256));
        let mut max = [0xff; 12];
        max[..4].copy_from_slice(&[0x80, 0, 0, 0]);
        max[4] = 0x7f;
        assert_eq!(field(&max), Some(i64::MAX));
        max[4] = 0x80;
        assert_eq!(field(&max), None);
        assert_eq!(field(&[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn reads_times_with_fractions_and_bounds_them() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        for (text, value) in [
            ("0", at(0, 0)),
            ("1.5", at(1, 500_000_000)),
            ("1700000000.123456789", at(1_700_000_000, 123_456_789)),
            ("1.1234567899", at(1, 123_456_789)),
            ("1.", at(1, 0)),
            ("-0.5", at(0, 0)),
            ("-7", at(0, 0)),
            ("99999999999999", at(0, 0)),
            ("9223372036854775808", None),
            ("", None),
            ("1.x", None),
            ("1e3", None),
        ] {
            assert_eq!(time(text.as_bytes()), value, "{text}");
        }
    }
}
