// SPDX-License-Identifier: Apache-2.0
//! What `/proc/PID/stat` says of a process (proc_pid_stat(5)).

use std::fs::File;
use std::io::Read;

/// The fields that are of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcStat {
    /// It has ended, and waits to be reaped at most.
    pub(crate) has_ended: bool,
    /// The kernel's `PF_*` flags.
    pub(crate) flags: u64,
    /// When it was started, in clock ticks since boot.
    pub(crate) start_time: u64,
}

/// Looks at a process; `None`: there is none of that number.
pub(crate) fn read(pid: i32) -> Option<ProcStat> {
    // The kernel hands out the whole line at once, and it has fifty numbers.
    let mut line = [0; 2048];
    let n = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut line).ok()?;
    parse(&line[..n])
}

fn parse(line: &[u8]) -> Option<ProcStat> {
    // The name in parentheses may hold anything, spaces and parentheses too.
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    let flags = fields.nth(5)?.parse().ok()?;
    Some(ProcStat { has_ended, flags, start_time: fields.nth(12)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_pretend_to_be_fields() {
        let line = "77 (a) Z 1 (\u{fffd} b) S 1 2 3 4 5 4194368 7 8 9 10 11 12 13 14 20 0 1 0 1447144 99 0\n";
        let expected = ProcStat { has_ended: false, flags: 4_194_368, start_time: 1_447_144 };
        assert_eq!(parse(line.as_bytes()), Some(expected));
        assert!(parse(&line.replace(" S ", " Z ").into_bytes()).unwrap().has_ended);
        for junk in ["", "77", "77 (a)", "77 (a) S 1 2", "77 (a) S 1 2 3 4 5 x 7 8 9 10 11 12 13 14 20 0 1 0 5"] {
            assert_eq!(parse(junk.as_bytes()), None, "{junk}");
        }
    }
}
