// SPDX-License-Identifier: Apache-2.0
//! Times and amounts of memory with units, as runc's callers write them.

use std::time::Duration;

/// Reads a time as Go's `ParseDuration` does: numbers with units, as in `1m30s` or `1.5h`. None that is
/// negative.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("\u{b5}s", 1e-6),
        ("\u{3bc}s", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == &rest[..unit])?;
        seconds += number * factor;
        rest = &rest[unit..];
        if rest.is_empty() {
            return Duration::try_from_secs_f64(seconds).ok();
        }
    }
}

/// Reads an amount of memory as runc does: a number with the unit `b`, `k`, `m`, `g`, `t` or `p`, in powers of
/// 1024, to which `b` or `ib` may be added. -1 stands for no limit.
pub(crate) fn parse_memory(text: &str) -> Option<i64> {
    const UNITS: &str = "kmgtp";
    if text == "-1" {
        return Some(-1);
    }
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let number: f64 = text[..end].parse().ok().filter(|number| *number >= 0.0)?;
    let unit = text[end..].strip_prefix(' ').unwrap_or(&text[end..]).to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => 0,
        Some('b') if letters.as_str().is_empty() => 0,
        Some(letter) if matches!(letters.as_str(), "" | "b" | "ib") => UNITS.find(letter)? + 1,
        Some(_) => return None,
    };
    let bytes = number * 1024f64.powi(i32::try_from(power).ok()?);
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            (".5s", Some(500)),
            ("2000us", Some(2)),
            ("2000\u{b5}s", Some(2)),
            ("3000000ns", Some(3)),
            ("+1s", Some(1000)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("1s5", None),
            ("1..5s", None),
            ("1e9s", None),
            ("99999999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn amounts_of_memory_have_units() {
        const MB: i64 = 1 << 20;
        for (text, bytes) in [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("33554432", Some(32 * MB)),
            ("50M", Some(50 * MB)),
            ("1g", Some(1024 * MB)),
            ("1.5 GiB", Some(1536 * MB)),
            ("512kb", Some(MB / 2)),
            ("7b", Some(7)),
            ("1p", Some(1 << 50)),
            ("", None),
            ("-2", None),
            ("-1M", None),
            ("M", None),
            ("10x", None),
            ("10bb", None),
            ("10mi", None),
            ("inf", None),
            ("1e3", Some(1000)),
            ("9999999p", None),
        ] {
            assert_eq!(parse_memory(text), bytes, "{text:?}");
        }
    }
}
