// SPDX-License-Identifier: Apache-2.0
//! Takes back what was made of a container when the rest of it fails.

use std::os::fd::AsFd;

use ctr_sys::process::{Child, pidfd_send_signal};

use crate::cgroup::Cgroup;
use crate::hooks;
use crate::intel_rdt::RdtGroup;
use crate::state::{ContainerDir, State};

/// What there is of a container so far; dropped before [`keep`](Self::keep), nothing of it is left.
#[derive(Debug)]
pub(crate) struct Undo<'a> {
    dir: &'a ContainerDir,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) intel_rdt: Option<RdtGroup>,
    /// The process, and what is recorded of it.
    pub(crate) child: Option<(Child, State)>,
    done: bool,
}

impl<'a> Undo<'a> {
    /// Nothing but a directory.
    pub(crate) fn new(dir: &'a ContainerDir) -> Self {
        Self { dir, cgroup: None, intel_rdt: None, child: None, done: false }
    }

    /// All went well.
    pub(crate) fn keep(mut self) -> (Child, State) {
        self.done = true;
        self.child.take().expect("a container that was made has a process")
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some((child, _)) = &self.child {
            let _ = pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = nix::sys::wait::waitpid(child.pid, None);
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.signal_all(libc::SIGKILL);
            let _ = cgroup.delete();
        }
        if let Some(group) = &self.intel_rdt {
            let _ = group.remove();
        }
        let _ = self.dir.remove();
        if let Some((_, state)) = &self.child {
            // What the hooks before have made is theirs to take back.
            hooks::run_poststop(state);
        }
    }
}
