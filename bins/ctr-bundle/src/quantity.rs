// SPDX-License-Identifier: Apache-2.0
//! How numbers, sizes and pairs are written in flags.

use ctr_cli::Error;

/// A size in bytes: a number, with B, K, M, G, T or P (also KB, KiB, …) for powers of 1024.
pub(crate) fn size(flag: &str, text: &str) -> Result<u64, Error> {
    parse_size(text).ok_or_else(|| Error::misuse(format!("{flag} {text:?} is not a size, as 256M or 1.5G is")))
}

fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit == "ib" => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    // Millionths are fine enough, and exact.
    let millionths = u128::from(decimal(number, 6)?) << (10 * power);
    u64::try_from(millionths / 1_000_000).ok().filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// A decimal fraction without sign or exponent, times 10 to the power of `places`; what is finer is cut off.
pub(crate) fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(places)];
    format!("{whole}{fraction:0<places$}").parse().ok()
}

/// `KEY=VALUE`, with a key that is not empty.
pub(crate) fn key_value<'a>(what: &str, text: &'a str) -> Result<(&'a str, &'a str), Error> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(Error::misuse(format!("{text:?} is no {what}: KEY=VALUE is expected"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("1k", 1024),
            ("256M", 268_435_456),
            ("256MB", 268_435_456),
            ("256MiB", 268_435_456),
            ("1.5g", 1_610_612_736),
            (".5K", 512),
            ("1T", 1 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(size("--memory", text).ok(), Some(bytes), "{text}");
        }
        for bad in ["", ".", "M", "-1", "+1", "1x", "1 M", "1.2.3", "ib", "1e3", "9000P", "99999999999999999999"] {
            assert!(size("--memory", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal("1.5", 5), Some(150_000));
        assert_eq!(decimal("0.1234567", 5), Some(12_345));
        assert_eq!(decimal("2", 5), Some(200_000));
        assert_eq!(decimal("1,5", 5), None);
    }
}
