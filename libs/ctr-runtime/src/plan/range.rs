// SPDX-License-Identifier: Apache-2.0
//! What lists of CPUs and memory nodes are made of, `0-3,7`: numbers, and ranges of them.

use std::ops::RangeInclusive;

/// Reads a number, or a range of numbers, all below `limit`. Else it says what is wrong.
pub(crate) fn parse(text: &str, limit: usize) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| match text.parse::<usize>() {
        Ok(number) if text.starts_with('+') || number >= limit => Err(format!("{text} is not from 0 to {}", limit - 1)),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text:?} is not a number")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    match first <= last {
        true => Ok(first..=last),
        false => Err(format!("{text:?} is no range")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_range_has_a_first_and_a_last_number() {
        assert_eq!(parse("7", 8), Ok(7..=7));
        assert_eq!(parse("0-7", 8), Ok(0..=7));
        for bad in ["", "-", "1-", "-1", "1-2-3", "2-1", "8", "0-8", "+1", "1-+2", " 1", "a", "99999999999999999999"] {
            assert!(parse(bad, 8).is_err(), "{bad:?}");
        }
    }
}
