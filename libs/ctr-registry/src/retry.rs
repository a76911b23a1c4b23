// SPDX-License-Identifier: Apache-2.0
//! When a failed request is made again: which failures, how often, after how long.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};

use ctr_record::Timestamp;

use crate::Error;
use crate::error::is_temporary;

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How often a request is made before its failure is final.
    pub tries: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause. A server that asks for a longer one is not waited for.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries: 5, pause: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

/// The tries of one request.
pub(crate) struct Retry {
    policy: RetryPolicy,
    failures: u32,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Says that the tries so far led somewhere: the next failure counts as the first.
    pub(crate) fn forget_failures(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next try after `error`; `None` where the failure is final.
    pub(crate) fn pause_after(&mut self, error: &Error) -> Option<Duration> {
        // A host that refuses connections does so at once and will do so for long: two quick tries
        // more bridge a restart. A server that stalls has cost a long wait already.
        let (weight, tries) = match error {
            Error::Connect { .. } => (1, self.policy.tries.min(3)),
            Error::Stalled { .. } => (2, self.policy.tries),
            Error::Exchange { .. } | Error::Truncated { .. } => (1, self.policy.tries),
            Error::Status { status, .. } if is_temporary(*status) => (1, self.policy.tries),
            _ => return None,
        };
        self.failures += weight;
        if self.failures >= tries {
            return None;
        }
        match error {
            Error::Status { retry_after: Some(after), .. } if *after > self.policy.longest => None,
            // Jitter upwards only: the server named the earliest moment.
            Error::Status { retry_after: Some(after), .. } => Some(*after + jitter(self.policy.pause)),
            _ => {
                let pause = self.policy.pause.saturating_mul(1 << (self.failures - 1).min(16)).min(self.policy.longest);
                Some(pause / 2 + jitter(pause / 2))
            }
        }
    }
}

// Between nothing and `most`. A hasher's keys are the only randomness that std offers.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) >> 40;
    most.mul_f64(random as f64 / (1u64 << 24) as f64)
}

/// Reads a Retry-After header: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn parse_retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // Sun, 06 Nov 1994 08:49:37 GMT
    let [_, day, month, year, time, "GMT"] = header.split(' ').collect::<Vec<_>>()[..] else { return None };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let Timestamp(date) = format!("{year}-{month:02}-{day}T{time}Z").parse().ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use reqwest::StatusCode;

    use super::*;

    fn status(status: StatusCode, retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Status { request: String::new(), status, detail: String::new(), retry_after }
    }

    fn tries(error: &Error) -> usize {
        let mut retry = Retry::new(RetryPolicy::default());
        1 + std::iter::from_fn(|| retry.pause_after(error)).count()
    }

    #[test]
    fn tries_are_bounded() {
        let stalled = Error::Stalled { request: String::new(), waited: Duration::ZERO };
        let refused = Error::Connect { request: String::new(), reason: String::new() };
        assert_eq!(tries(&status(StatusCode::TOO_MANY_REQUESTS, Some(1))), 5);
        assert_eq!(tries(&status(StatusCode::BAD_GATEWAY, None)), 5);
        assert_eq!(tries(&stalled), 3);
        assert_eq!(tries(&refused), 3);
        for status_code in [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED, StatusCode::NOT_IMPLEMENTED] {
            assert_eq!(tries(&status(status_code, None)), 1);
        }
    }

    #[test]
    fn a_refused_connection_is_given_up_within_two_seconds() {
        let refused = Error::Connect { request: String::new(), reason: String::new() };
        let mut retry = Retry::new(RetryPolicy::default());
        let total: Duration = std::iter::from_fn(|| retry.pause_after(&refused)).sum();
        assert!(total < Duration::from_secs(2));
    }

    #[test]
    fn the_server_says_when_but_not_for_ever() {
        let mut retry = Retry::new(RetryPolicy::default());
        let pause = retry.pause_after(&status(StatusCode::TOO_MANY_REQUESTS, Some(7))).unwrap();
        assert!(pause >= Duration::from_secs(7) && pause < Duration::from_secs(8), "{pause:?}");
        assert_eq!(retry.pause_after(&status(StatusCode::TOO_MANY_REQUESTS, Some(3600))), None);
    }

    #[test]
    fn reads_seconds_and_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        assert_eq!(parse_retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1993 08:49:37 GMT", now), Some(Duration::ZERO));
        for bad in ["", "-1", "soon", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(parse_retry_after(bad, now), None, "{bad}");
        }
    }
}
