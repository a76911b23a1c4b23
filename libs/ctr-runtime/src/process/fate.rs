// SPDX-License-Identifier: Apache-2.0
//! What became of a process that was to execute a program and has closed its channel.
//!
//! Executing closes it, and so does dying: by a signal, or by the memory limit of the cgroup.

use ctr_sys::stat;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::RuntimeError;

/// Fails when the process, a child of this one that was not waited for yet, has not executed its program.
pub(crate) fn check_executed(pid: Pid) -> Result<(), RuntimeError> {
    match was_executed(pid) {
        true => Ok(()),
        false => Err(RuntimeError::Died(how_it_died(pid))),
    }
}

// PF_FORKNOEXEC in the flags of /proc/PID/stat: set from fork on, and cleared by execve before it closes
// anything. It can be read until the process is waited for.
pub(crate) fn was_executed(pid: Pid) -> bool {
    const PF_FORKNOEXEC: u64 = 0x40;
    stat::read(pid).map_or(true, |stat| stat.flags & PF_FORKNOEXEC == 0)
}

/// How the process, which has ended or is about to, has ended. It is left to be waited for.
pub(crate) fn how_it_died(pid: Pid) -> String {
    match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}; is the memory limit too low?"),
        Ok(WaitStatus::Exited(_, status)) => format!("status {status}"),
        _ => "its status is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctr_sys::wait;

    #[test]
    fn a_process_that_has_ended_since_its_program_began_has_executed_it() {
        #[allow(clippy::zombie_processes)] // waited for below, after what is tested
        let child = std::process::Command::new("false").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        assert_eq!(how_it_died(pid), "status 1");
        check_executed(pid).unwrap();
        wait::wait(pid).unwrap();
    }
}
