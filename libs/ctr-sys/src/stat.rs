// SPDX-License-Identifier: Apache-2.0
//! What `/proc/PID/stat` says of a process (proc_pid_stat(5)).

use std::fs::File;
use std::io::{self, Read};

use nix::unistd::Pid;

/// The fields that are of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// It has ended, and waits to be reaped at most.
    pub has_ended: bool,
    /// The kernel's `PF_*` flags.
    pub flags: u64,
    /// When it was started, in the kernel's clock ticks since boot: with its number, this names one process
    /// among all of a boot.
    pub start_time: u64,
    /// The processor that it runs on, or is to run on.
    pub processor: usize,
}

/// Looks at a process.
pub fn read(pid: Pid) -> io::Result<Stat> {
    // The kernel hands out the whole line at once, and it has fifty numbers.
    let mut line = [0; 2048];
    let n = File::open(format!("/proc/{pid}/stat"))?.read(&mut line)?;
    parse(&line[..n])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed")))
}

/// When a process was started: [`Stat::start_time`].
pub fn start_time(pid: Pid) -> io::Result<u64> {
    read(pid).map(|stat| stat.start_time)
}

/// What tells one boot of the machine from another: after it, numbers and start times may be other processes'.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn parse(line: &[u8]) -> Option<Stat> {
    // The name in parentheses may hold anything, spaces and parentheses too.
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    let flags = fields.nth(5)?.parse().ok()?;
    let (start_time, processor) = (fields.nth(12)?.parse().ok()?, fields.nth(16)?.parse().ok()?);
    Some(Stat { has_ended, flags, start_time, processor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_started_no_earlier_than_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = start_time(Pid::from_raw(child.id() as i32)).unwrap();
        assert!(started >= start_time(Pid::this()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(start_time(Pid::from_raw(child.id() as i32)).is_err());
    }

    #[test]
    fn names_cannot_pretend_to_be_fields() {
        let line = "77 (a) Z 1 (\u{fffd} b) S 1 2 3 4 5 4194368 7 8 9 10 11 12 13 14 20 0 1 0 1447144 99 0 \
            25 26 27 28 29 30 31 32 33 34 35 36 37 17 3 0\n";
        let expected = Stat { has_ended: false, flags: 4_194_368, start_time: 1_447_144, processor: 3 };
        assert_eq!(parse(line.as_bytes()), Some(expected));
        assert!(parse(&line.replace(" S ", " Z ").into_bytes()).unwrap().has_ended);
        for junk in ["", "77", "77 (a)", "77 (a) S 1 2", "77 (a) S 1 2 3 4 5 x 7 8 9 10 11 12 13 14 20 0 1 0 5"] {
            assert_eq!(parse(junk.as_bytes()), None, "{junk}");
        }
    }
}
