// SPDX-License-Identifier: Apache-2.0
//! How a child ended. `nix` has no word for a real-time signal, and loses the end that one made.
#![allow(unsafe_code)]

use std::io;

use nix::unistd::Pid;

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(u8),
    /// This signal ended it.
    Killed(i32),
}

impl End {
    /// The end as an exit status, `128+n` for a signal.
    pub fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal as u8,
        }
    }
}

/// Waits for the end of one child.
pub fn wait(pid: Pid) -> io::Result<End> {
    loop {
        match wait4(pid.as_raw(), 0) {
            Ok(Some((_, end))) => return Ok(end),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the end of any child that has ended; `None` when none has, or there is none.
pub fn reap_any() -> io::Result<Option<(Pid, End)>> {
    match wait4(-1, libc::WNOHANG) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        other => other,
    }
}

fn wait4(pid: libc::pid_t, options: libc::c_int) -> io::Result<Option<(Pid, End)>> {
    let mut status = 0;
    // SAFETY: `status` is an int that outlives the call.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, options) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ if libc::WIFSIGNALED(status) => Ok(Some((Pid::from_raw(pid), End::Killed(libc::WTERMSIG(status))))),
        _ => Ok(Some((Pid::from_raw(pid), End::Exited(libc::WEXITSTATUS(status) as u8)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(script: &str) -> End {
        #[allow(clippy::zombie_processes)] // waited for below, in the way that is tested
        let child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        wait(Pid::from_raw(child.id() as i32)).unwrap()
    }

    #[test]
    fn statuses_signals_and_real_time_signals_are_told_apart() {
        assert_eq!(end_of("exit 7"), End::Exited(7));
        assert_eq!(end_of("kill -9 $$"), End::Killed(9));
        let end = end_of(&format!("kill -{} $$", libc::SIGRTMIN() + 1));
        assert_eq!((end, end.status()), (End::Killed(libc::SIGRTMIN() + 1), 128 + libc::SIGRTMIN() as u8 + 1));
    }
}
