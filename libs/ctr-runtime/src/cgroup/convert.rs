// SPDX-License-Identifier: Apache-2.0
//! From the values of config.json, which are those of cgroup v1, to those of cgroup v2.

use super::CgroupError;

/// `cpu.weight` for CPU shares (2 to 262144, default 1024), on the curve that takes the default to the
/// default (100) and the ends to the ends (1, 10000).
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // The curve is exact at the default and at the ends: what floating point adds there must not round up.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// `io.weight` (1 to 10000) for a block I/O weight (10 to 1000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// `memory.swap.max` for limits of memory and of memory plus swap; -1 is no limit.
///
/// Nothing to write gives `None`.
pub(super) fn swap_max(memory: Option<i64>, memory_and_swap: Option<i64>) -> Result<Option<i64>, CgroupError> {
    let invalid = |both: i64, rule| {
        Err(CgroupError::Invalid { field: "linux.resources.memory.swap", value: both.to_string(), rule })
    };
    match (memory, memory_and_swap) {
        // v1 could not limit swap of what has no limit itself
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), Some(swap)) => Ok(Some(swap)),
        (None, Some(both)) => invalid(both, "a limit of memory plus swap needs a limit of memory beside it"),
        (Some(memory), Some(both)) if both < memory => invalid(both, "it must not be below the limit of memory"),
        (Some(memory), Some(both)) => Ok(Some(both - memory)),
    }
}

/// How many processes there may be: 0 is a limit too, but would keep even the first from being born there; with
/// 1 there is no other beside it.
pub(super) fn most_pids(limit: i64) -> i64 {
    if limit == 0 { 1 } else { limit }
}

/// The number, or `max` for no limit.
pub(super) fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_on_the_new_curve() {
        let table = [
            (1, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (100, 17),
            (256, 35),
            (512, 59),
            (1024, 100),
            (1025, 101),
            (2048, 174),
            (4096, 303),
            (10_240, 639),
            (131_072, 5478),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, weight) in table {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        let weights: Vec<u64> = (1..=262_144).map(cpu_weight).collect();
        assert!(weights.is_sorted() && weights.iter().all(|w| (1..=10_000).contains(w)));
    }

    #[test]
    fn block_io_weights_span_the_new_range() {
        for (weight, converted) in [(10, 1), (11, 11), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), converted, "{weight}");
        }
    }

    #[test]
    fn swap_is_what_exceeds_memory() {
        let table = [
            (None, None, Some(None)),
            (Some(100), None, Some(None)),
            (Some(-1), None, Some(Some(-1))),
            (Some(100), Some(-1), Some(Some(-1))),
            (None, Some(-1), Some(Some(-1))),
            (Some(-1), Some(50), Some(Some(50))),
            (Some(100), Some(100), Some(Some(0))),
            (Some(100), Some(250), Some(Some(150))),
            (Some(100), Some(99), None),
            (None, Some(100), None),
        ];
        for (memory, both, expected) in table {
            assert_eq!(swap_max(memory, both).ok(), expected, "{memory:?} {both:?}");
        }
    }

    #[test]
    fn negative_is_max() {
        assert_eq!((or_max(-1), or_max(0), or_max(7)), ("max".into(), "0".into(), "7".into()));
    }
}
