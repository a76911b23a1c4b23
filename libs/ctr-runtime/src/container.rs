// SPDX-License-Identifier: Apache-2.0
//! A container that exists, and what can be done to it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ctr_record::TaskStatus;
use ctr_sys::process::{pidfd_open, pidfd_send_signal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::create::{self, CreateOptions, Opening};
use crate::plan::{Caller, NamespacePlan, Plan};
use crate::state::{self, ContainerDir, State};
use crate::{RuntimeError, gate, hooks, spec};

/// A container of a state root.
#[derive(Debug)]
pub struct Container {
    dir: ContainerDir,
    state: State,
}

impl Container {
    pub(crate) fn new(dir: ContainerDir, state: State) -> Self {
        Self { dir, state }
    }

    /// Makes a container from a bundle; its program waits for [`start`](Self::start).
    pub fn create(root: &Path, id: &str, options: &CreateOptions) -> Result<Self, RuntimeError> {
        // The process stays a child of whoever reaps it: a supervisor, or init.
        create::make(root, id, options, Opening::Later).map(|made| made.container)
    }

    /// Finds a container.
    pub fn open(root: &Path, id: &str) -> Result<Self, RuntimeError> {
        let dir = ContainerDir::new(root, id)?;
        let state = dir.load()?;
        Ok(Self { dir, state })
    }

    /// All containers of a state root, by id.
    pub fn list(root: &Path) -> Result<Vec<Self>, RuntimeError> {
        Ok(state::list(root)?.into_iter().map(|(dir, state)| Self { dir, state }).collect())
    }

    /// What is recorded of it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it does at this moment.
    pub fn status(&self) -> TaskStatus {
        self.dir.status(&self.state)
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.state.cgroup
    }

    /// The state as `state` prints it, which has members that runc's has beyond the specification's.
    pub fn to_json(&self) -> Value {
        let status = self.status();
        let mut object = create::oci_state(&self.state, status.as_str());
        if matches!(status, TaskStatus::Stopped | TaskStatus::Creating) {
            object["pid"] = 0.into();
        }
        object["rootfs"] = self.state.rootfs.display().to_string().into();
        object["created"] = self.state.created.to_string().into();
        let owner = nix::unistd::User::from_uid(self.state.owner.into()).ok().flatten();
        object["owner"] = owner.map_or_else(|| self.state.owner.to_string(), |user| user.name).into();
        object
    }

    /// Lets a created container run its program; returns once it does.
    pub fn start(&self) -> Result<(), RuntimeError> {
        let lock = self.dir.lock()?;
        self.require("start", &[TaskStatus::Created])?;
        match gate::open(self.dir.path()) {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure.into()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                return Err(RuntimeError::NotRunning(self.state.id.clone()));
            }
            Err(error) => return Err(RuntimeError::call("open the container's gate")(error)),
        }
        drop(lock);
        self.run_poststart()
    }

    /// Runs the hooks that come after the program was executed; if one fails the container is stopped.
    pub(crate) fn run_poststart(&self) -> Result<(), RuntimeError> {
        let hooks = self.plan()?.hooks.poststart;
        let told = create::oci_state(&self.state, "running");
        hooks::run("poststart", &hooks, &told).inspect_err(|_| {
            let _ = self.kill_everything();
        })
    }

    /// Sends a signal to the first process, or to all.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), RuntimeError> {
        if all {
            return Ok(self.cgroup().signal_all(signal)?);
        }
        // Without a pid namespace of its own the rest would survive its first process.
        let shared = signal == libc::SIGKILL && !self.namespaces()?.is_private(libc::CLONE_NEWPID);
        if shared {
            return Ok(self.cgroup().signal_all(signal)?);
        }
        let pidfd = self.pidfd()?.ok_or_else(|| RuntimeError::NotRunning(self.state.id.clone()))?;
        self.send(&pidfd, signal)?;
        // A frozen process would not notice that it is dead.
        if signal == libc::SIGKILL && self.status() == TaskStatus::Paused {
            self.cgroup().thaw()?;
        }
        Ok(())
    }

    fn send(&self, pidfd: &OwnedFd, signal: i32) -> Result<(), RuntimeError> {
        pidfd_send_signal(pidfd.as_fd(), signal).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => RuntimeError::NotRunning(self.state.id.clone()),
            _ => RuntimeError::call("send a signal")(error),
        })
    }

    /// The first process, if it is alive.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>, RuntimeError> {
        if self.state.pid == 0 {
            return Ok(None);
        }
        let pidfd = match pidfd_open(Pid::from_raw(self.state.pid)) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            result => result.map_err(RuntimeError::call("open a pidfd"))?,
        };
        // Whether the number was given to another process is told after it is held, not before.
        let ours = state::start_time(self.state.pid) == Some(self.state.pid_start_time);
        Ok(ours.then_some(pidfd))
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<(), RuntimeError> {
        let _lock = self.dir.lock()?;
        self.require("pause", &[TaskStatus::Running, TaskStatus::Created])?;
        Ok(self.cgroup().freeze()?)
    }

    /// Thaws all processes.
    pub fn resume(&self) -> Result<(), RuntimeError> {
        let _lock = self.dir.lock()?;
        self.require("resume", &[TaskStatus::Paused])?;
        Ok(self.cgroup().thaw()?)
    }

    /// The pids of all processes, as the host numbers them.
    pub fn pids(&self) -> Result<Vec<i32>, RuntimeError> {
        Ok(self.cgroup().pids()?.into_iter().map(Pid::as_raw).collect())
    }

    /// Deletes a container that does not run, or with `force` any: nothing of it is left.
    pub fn delete(&self, force: bool) -> Result<(), RuntimeError> {
        let _lock = self.dir.lock()?;
        match self.status() {
            TaskStatus::Stopped | TaskStatus::Created | TaskStatus::Creating => {}
            _ if force => {}
            status => {
                let (id, status) = (self.state.id.clone(), status.as_str());
                return Err(RuntimeError::WrongState { action: "delete", id, status });
            }
        }
        self.kill_everything()?;
        self.cgroup().delete()?;
        self.run_poststop();
        self.dir.remove()
    }

    // Kills all processes and waits for the first one's end.
    fn kill_everything(&self) -> Result<(), RuntimeError> {
        if self.state.pid == 0 {
            // Not made to the end. Its process, if there was one, has ended with the runtime, and the
            // cgroup that it was going to have may be somebody else's.
            return Ok(());
        }
        let first = self.pidfd()?;
        self.cgroup().signal_all(libc::SIGKILL)?;
        if let Some(pidfd) = first {
            let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::from(10_000_u16);
            let n = poll(&mut ended, patience).map_err(RuntimeError::errno("wait for the container's end"))?;
            if n == 0 {
                let (id, status) = (self.state.id.clone(), "still running 10 s after SIGKILL");
                return Err(RuntimeError::WrongState { action: "delete", id, status });
            }
        }
        Ok(())
    }

    // Their failure is no reason to keep a container (runtime-spec, "Lifecycle", step 13).
    fn run_poststop(&self) {
        let Ok(plan) = self.plan() else { return };
        for hook in &plan.hooks.poststop {
            let told = create::oci_state(&self.state, "stopped");
            if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &told) {
                eprintln!("{error}");
            }
        }
    }

    /// The config that the container was created with.
    pub fn config(&self) -> Result<Spec, RuntimeError> {
        spec::load(&self.dir.config()).map(|config| config.spec)
    }

    /// The plan of the container, made anew from the config that it was created with.
    pub(crate) fn plan(&self) -> Result<Plan, RuntimeError> {
        Plan::new(&self.state.id, &self.state.bundle, &self.config()?, Caller::this())
    }

    fn namespaces(&self) -> Result<NamespacePlan, RuntimeError> {
        Ok(self.plan()?.namespaces)
    }

    pub(crate) fn require(&self, action: &'static str, wanted: &[TaskStatus]) -> Result<(), RuntimeError> {
        match self.status() {
            status if wanted.contains(&status) => Ok(()),
            status => Err(RuntimeError::WrongState { action, id: self.state.id.clone(), status: status.as_str() }),
        }
    }
}

/// Clears up what a runtime left that was killed before it had recorded anything.
pub fn remove_leftovers(root: &Path, id: &str) -> Result<(), RuntimeError> {
    ContainerDir::new(root, id)?.remove()
}
