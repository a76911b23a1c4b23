// SPDX-License-Identifier: Apache-2.0
//! The parent's side of a container's set-up: what its process cannot do for itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use ctr_record::Mount;
use ctr_sys::process::Child;
use nix::unistd::Pid;
use serde_json::Value;

use crate::create::Opening;
use crate::network::net_device;
use crate::plan::{Plan, Rlimit};
use crate::process::report::{Channel, InitFailure, Message, Step};
use crate::process::{fate, launch, user_namespace};
use crate::rootfs::idmap::UserNamespaces;
use crate::seccomp::SeccompError;
use crate::state::State;
use crate::{RuntimeError, hooks, rootfs};

/// Answers the container's process until it waits at its gate or, opened at once, runs its program. Returns
/// the master of its terminal, if it hands one over.
pub(crate) fn serve(
    channel: &Channel,
    plan: &Plan,
    layers: &[Mount],
    (child, state): (&Child, &State),
    opening: Opening,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let pid = child.pid;
    let mut terminal = None;
    let inside = plan.mounts.iter().filter(|planned| planned.source_inside.is_some());
    let mut unmapped = inside.filter_map(|planned| Some((planned, planned.idmap.as_ref()?)));
    let mut mappings = UserNamespaces::default();
    loop {
        let answer = match channel.receive().map_err(RuntimeError::call("hear from the container's process"))? {
            Some(Message::WantsMappings) => {
                let user = plan.namespaces.user.as_ref().expect("only a new user namespace asks");
                user_namespace::write_mappings(state.pid, user)?;
                match ctr_sys::process::is_root() {
                    true => {
                        let user_namespace = open_user_namespace(state.pid)?;
                        Message::Root(rootfs::make_root_for(plan, layers, Some(user_namespace.as_fd()))?)
                    }
                    false => Message::Go,
                }
            }
            Some(Message::Unmapped(tree)) => {
                let next = unmapped.next();
                let (planned, idmap) =
                    next.ok_or_else(|| InitFailure::finding("no further mount is to be idmapped"))?;
                mappings.map(planned, idmap, tree.as_fd())?;
                Message::Go
            }
            Some(Message::WantsRuntime) => {
                net_device::move_all(&plan.net_devices, state.pid)?;
                let told = state.to_oci("creating");
                hooks::run("prestart", &plan.hooks, &plan.hooks.prestart, &told)?;
                hooks::run("createRuntime", &plan.hooks, &plan.hooks.create_runtime, &told)?;
                Message::Go
            }
            Some(Message::WantsLimits) => {
                set_limits(plan.process.as_ref().map_or(&[], |process| &process.rlimits), pid)?;
                Message::Go
            }
            Some(Message::Listener(listener)) => {
                let listener = listener.take(child)?;
                // Before the process goes on: its program must not run without the agent.
                send_listener(plan, listener, child, state.to_oci("creating"))?;
                Message::Go
            }
            Some(Message::Terminal(fd)) => {
                terminal = Some(fd);
                continue;
            }
            Some(Message::Ready) => match channel.send(&Message::Go) {
                Ok(()) => return Ok(terminal),
                Err(_) => return Err(RuntimeError::Died(fate::how_it_died(pid))),
            },
            Some(Message::Failed(failure)) => return Err(failure.into()),
            Some(Message::Go | Message::Root(_) | Message::Network(_) | Message::Socket(_)) => continue,
            None if opening == Opening::Later => return Err(RuntimeError::Died(fate::how_it_died(pid))),
            None => return fate::check_executed(pid).map(|()| terminal),
        };
        // If it has ended meanwhile, the next message says how.
        let _ = channel.send(&answer);
    }
}

fn open_user_namespace(pid: i32) -> Result<File, RuntimeError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/user"));
    File::open(&path).map_err(RuntimeError::io("open", &path))
}

/// Sends a process' seccomp listener to the agent that the plan names.
pub(crate) fn send_listener(plan: &Plan, listener: OwnedFd, child: &Child, state: Value) -> Result<(), RuntimeError> {
    let receiver = plan.seccomp_receiver.as_ref().ok_or(SeccompError::NoListener)?;
    receiver.send(listener.as_fd(), child, state)
}

/// Sets the limits of a process that may not do so itself: in a user namespace it has lost the right to raise
/// those that it was born with.
pub(crate) fn set_limits(limits: &[Rlimit], pid: Pid) -> Result<(), RuntimeError> {
    for &(resource, soft, hard) in limits {
        ctr_sys::process::set_rlimit(Some(pid), resource, soft, hard)
            .step_with(|| launch::limit_step(resource, soft, hard))?;
    }
    Ok(())
}

/// Gives a process the badness that the config asks for, or that of the container's first one.
pub(crate) fn set_oom_score(score: Option<i32>, pid: Pid) -> Result<(), RuntimeError> {
    let Some(score) = score else { return Ok(()) };
    let path = PathBuf::from(format!("/proc/{pid}/oom_score_adj"));
    match fs::write(&path, score.to_string()) {
        // Lowering it takes CAP_SYS_RESOURCE, which a runtime without root does not have.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !ctr_sys::process::is_root() => Ok(()),
        result => result.map_err(RuntimeError::io("write", &path)),
    }
}
