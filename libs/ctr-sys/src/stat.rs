// SPDX-License-Identifier: Apache-2.0
//! What `/proc/PID/stat` says of a process.

use std::io;

use nix::unistd::Pid;

/// When a process was started, in the kernel's clock ticks since boot: with its number, this names one
/// process among all of a boot.
pub fn start_time(pid: Pid) -> io::Result<u64> {
    const FIELD: usize = 22; // proc_pid_stat(5), counted from 1
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the command in parentheses, which may hold spaces and parentheses itself.
    let after_command = stat.rsplit_once(')').map(|(_, rest)| rest);
    let start = after_command.and_then(|rest| rest.split_whitespace().nth(FIELD - 3)?.parse().ok());
    start.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is malformed")))
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
}
