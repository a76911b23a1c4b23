// SPDX-License-Identifier: Apache-2.0
//! A container that exists, and what can be done to it.

pub(crate) mod exec;
pub(crate) mod hot_mount;
pub(crate) mod leftover;
mod update;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use ctr_record::TaskStatus;
use ctr_sys::affinity;
use ctr_sys::process::{pidfd_open, pidfd_send_signal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::caller::notify::Notify;
use crate::cgroup::{Cgroup, CgroupError};
use crate::create::{self, CreateOptions, Opening};
use crate::intel_rdt::{RdtGroup, RdtStats};
use crate::plan::{Caller, Plan};
use crate::process::gate;
use crate::state::{self, ContainerDir, State};
use crate::{RuntimeError, Service, criu, hooks, spec};

/// The names of those who run containers, each looked up once.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<u32, String>);

impl Owners {
    /// The name of one; `#` and the number of a user without a name.
    pub fn name(&mut self, uid: u32) -> &str {
        let look_up = || nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
        self.0.entry(uid).or_insert_with(|| look_up().unwrap_or_else(|| format!("#{uid}")))
    }
}

/// How many containers take longer to look at than a thread takes to begin.
const WORTH_A_THREAD: usize = 64;

/// A container of a state root.
#[derive(Debug)]
pub struct Container {
    pub(crate) dir: ContainerDir,
    pub(crate) state: State,
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

    /// What `look` sees of all containers of a state root, by id, each as far as it can be read. It looks at several
    /// at a time: most of that is the kernel's work.
    pub fn survey<T: Send>(
        root: &Path,
        look: impl Fn(Self) -> T + Sync,
    ) -> Result<Vec<Result<T, RuntimeError>>, RuntimeError> {
        let dirs = state::list(root)?;
        let look_at = |dir: &ContainerDir| match dir.load() {
            Err(RuntimeError::NotFound(_)) => None,
            state => Some(state.map(|state| look(Self { dir: dir.clone(), state }))),
        };
        let look_at_all = |dirs: &[ContainerDir]| dirs.iter().filter_map(look_at).collect::<Vec<_>>();
        let threads = affinity::get().map_or(1, |cpus| cpus.count()).min(dirs.len() / WORTH_A_THREAD).clamp(1, 8);
        let (first, others) = dirs.split_at(dirs.len() / threads);
        // The kernel may leave all of them on one.
        let elsewhere = (threads > 1).then(affinity::elsewhere).flatten();
        let look_elsewhere = |share| {
            elsewhere.as_ref().map(affinity::set);
            look_at_all(share)
        };
        Ok(thread::scope(|scope| {
            let shares = others.chunks(dirs.len().div_ceil(threads).max(1));
            let looks = shares.map(|share| {
                let thread = thread::Builder::new().spawn_scoped(scope, || look_elsewhere(share));
                thread.map_err(|_| share) // there may be no more
            });
            let looks: Vec<_> = looks.collect();
            let mut seen = look_at_all(first);
            for look in looks {
                seen.extend(match look {
                    Ok(thread) => thread.join().expect("a thread that panics aborts"),
                    Err(share) => look_at_all(share),
                });
            }
            seen
        }))
    }

    /// Its directory in the state root.
    pub(crate) fn dir(&self) -> &ContainerDir {
        &self.dir
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

    /// What Intel RDT allows it, and measures of it: nothing, if it is in no group.
    pub fn rdt_stats(&self) -> Result<RdtStats, RuntimeError> {
        self.state.intel_rdt.as_ref().map_or_else(|| Ok(RdtStats::default()), RdtGroup::stats)
    }

    /// What it does at this moment, and its first process: 0, unless there is one.
    pub fn status_and_pid(&self) -> (TaskStatus, i32) {
        match self.status() {
            status @ (TaskStatus::Stopped | TaskStatus::Creating) => (status, 0),
            status => (status, self.state.pid),
        }
    }

    /// The state as `state` prints it, which has members that runc's has beyond the specification's: `owner` is the
    /// name of who runs it.
    pub fn to_json(&self, owner: &str) -> Value {
        let (status, pid) = self.status_and_pid();
        let mut object = self.state.to_oci(status.as_str());
        object["pid"] = pid.into();
        object["rootfs"] = self.state.rootfs.display().to_string().into();
        object["created"] = self.state.created.to_string().into();
        if let Some(unit) = self.cgroup().unit() {
            object["systemd-scope"] = unit.name.as_str().into(); // as crun has it
        }
        object["owner"] = owner.into();
        object
    }

    /// Lets a created container run its program; returns once it does.
    pub fn start(&self) -> Result<(), RuntimeError> {
        let (lock, container) = self.locked()?;
        container.require("start", &[TaskStatus::Created])?;
        match gate::open(container.dir.path()) {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure.into()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                return Err(RuntimeError::NotRunning(container.state.id));
            }
            Err(error) => return Err(RuntimeError::call("open the container's gate")(error)),
        }
        drop(lock);
        container.run_poststart()
    }

    /// The same for a service manager: returns once the container has said that it is ready, if the manager
    /// wants to know.
    pub fn start_for(&self, service: &Service) -> Result<(), RuntimeError> {
        if service.notify.is_some() {
            // The socket of one that runs is not to be taken from it.
            self.require("start", &[TaskStatus::Created])?;
        }
        let notify = service.notify.as_deref().map(|manager| Notify::bind(self.dir.path(), manager));
        let Some(notify) = notify.transpose()?.flatten() else { return self.start() };
        let pidfd = self.pidfd()?;
        self.start()?;
        pidfd.map_or(Ok(()), |pidfd| notify.wait(self.state.pid, &pidfd))
    }

    /// Runs the hooks that come after the program was executed; if one fails the container is stopped.
    pub(crate) fn run_poststart(&self) -> Result<(), RuntimeError> {
        let hooks = &self.state.hooks;
        hooks::run("poststart", hooks, &hooks.poststart, &self.state.to_oci("running")).inspect_err(|_| {
            let _ = self.kill_everything();
        })
    }

    // Waits until nobody else changes the container, and reads what became of it meanwhile.
    pub(crate) fn locked(&self) -> Result<(File, Self), RuntimeError> {
        let lock = self.dir.lock()?;
        Ok((lock, Self { dir: self.dir.clone(), state: self.dir.load()? }))
    }

    /// Sends a signal to the first process, or to all.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), RuntimeError> {
        if all && !self.cgroup().is_none() {
            return Ok(self.cgroup().signal_all(signal)?);
        }
        let first = self.pidfd()?;
        // Without a pid namespace of its own the rest survives its first process.
        if signal == libc::SIGKILL && self.state.shares_pids && self.state.cgroup_is_made && !self.cgroup().is_none() {
            return match first.is_none() && self.cgroup().pids()?.is_empty() {
                true => Err(RuntimeError::NotRunning(self.state.id.clone())),
                false => Ok(self.cgroup().signal_all(signal)?),
            };
        }
        let pidfd = first.ok_or_else(|| RuntimeError::NotRunning(self.state.id.clone()))?;
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
            // Nobody's number, or by now that of a thread, for which the answer was EINVAL before Linux 6.16.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT)) => {
                return Ok(None);
            }
            result => result.map_err(RuntimeError::call("open a pidfd"))?,
        };
        // Whether the number was given to another process is told after it is held, not before.
        let ours = self.state.is_process(pidfd.as_fd());
        Ok(ours.then_some(pidfd))
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<(), RuntimeError> {
        let (_lock, container) = self.locked()?;
        container.require("pause", &[TaskStatus::Running, TaskStatus::Created])?;
        Ok(container.cgroup().freeze()?)
    }

    /// Thaws all processes.
    pub fn resume(&self) -> Result<(), RuntimeError> {
        let (_lock, container) = self.locked()?;
        container.require("resume", &[TaskStatus::Paused])?;
        Ok(container.cgroup().thaw()?)
    }

    /// The pids of all processes, as the host numbers them.
    pub fn pids(&self) -> Result<Vec<i32>, RuntimeError> {
        if self.cgroup().is_none() {
            return Err(CgroupError::NoMembers.into());
        }
        Ok(self.cgroup().pids()?.into_iter().map(Pid::as_raw).collect())
    }

    /// Deletes a container that does not run, or with `force` any: nothing of it is left.
    pub fn delete(&self, force: bool) -> Result<(), RuntimeError> {
        let (_lock, container) = self.locked()?;
        match container.status() {
            TaskStatus::Stopped | TaskStatus::Created | TaskStatus::Creating => {}
            _ if force => {}
            status => {
                let (id, status) = (container.state.id, status.as_str());
                return Err(RuntimeError::WrongState { action: "delete", id, status });
            }
        }
        container.remove()
    }

    // Removes everything of it. Whoever calls it holds the lock.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        self.dir.record_deletion()?;
        self.kill_everything()?;
        // A runtime that was killed at the wrong moment leaves a place that may be another's by now.
        if self.state.cgroup_is_made || self.cgroup().pids()?.is_empty() {
            self.cgroup().delete()?;
        }
        self.state.intel_rdt.as_ref().map_or(Ok(()), RdtGroup::remove)?;
        self.dir.remove()?;
        hooks::run_poststop(&self.state);
        Ok(())
    }

    // Kills all processes and waits for the first one's end.
    fn kill_everything(&self) -> Result<(), RuntimeError> {
        if !self.state.cgroup_is_made {
            return Ok(()); // nor is there a process
        }
        let first = self.pidfd()?;
        // A pid namespace ends with its first process.
        if first.is_none() && self.state.pid != 0 && !self.state.shares_pids {
            return Ok(());
        }
        if first.is_some() {
            criu::let_go(self.state.pid);
        }
        self.cgroup().signal_all(libc::SIGKILL)?;
        if let Some(pidfd) = first {
            let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            let ends_within = |milliseconds: u16| {
                let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                poll(&mut ended, PollTimeout::from(milliseconds))
                    .map(|n| n > 0)
                    .map_err(RuntimeError::errno("wait for the container's end"))
            };
            if !ends_within(100)? {
                self.cgroup().thaw_v1();
            }
            if !ends_within(10_000)? {
                let (id, status) = (self.state.id.clone(), "still running 10 s after SIGKILL");
                return Err(RuntimeError::WrongState { action: "delete", id, status });
            }
        }
        Ok(())
    }

    /// The config that the container was created with, and the limits that it was given since.
    pub fn config(&self) -> Result<Spec, RuntimeError> {
        spec::load(&self.dir.config()).map(|config| config.spec)
    }

    /// The plan of the container, made anew from the config that it was created with.
    pub(crate) fn plan(&self) -> Result<Plan, RuntimeError> {
        self.plan_of(&self.config()?)
    }

    /// The same with another config.
    pub(crate) fn plan_of(&self, spec: &Spec) -> Result<Plan, RuntimeError> {
        Plan::new(&self.state.id, &self.state.bundle, spec, Caller::this(self.state.cgroup_manager))
    }

    pub(crate) fn require(&self, action: &'static str, wanted: &[TaskStatus]) -> Result<(), RuntimeError> {
        match self.status() {
            status if wanted.contains(&status) => Ok(()),
            status => Err(RuntimeError::WrongState { action, id: self.state.id.clone(), status: status.as_str() }),
        }
    }
}

/// Clears up what a runtime left that was killed before it had recorded anything; a container that is being
/// made meanwhile is removed as well.
pub fn remove_leftovers(root: &Path, id: &str) -> Result<(), RuntimeError> {
    let dir = ContainerDir::new(root, id)?;
    let _lock = match dir.lock() {
        Err(RuntimeError::NotFound(_)) => return Ok(()),
        result => result?,
    };
    match dir.load() {
        Err(RuntimeError::NotFound(_)) => dir.remove_leftovers(),
        result => Container { state: result?, dir }.remove(),
    }
}
