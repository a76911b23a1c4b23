// SPDX-License-Identifier: Apache-2.0
//! `delete`: what is left of a container goes, in an order that a second delete can take up anywhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use ctr_cli::{Context, Error};
use ctr_record::{ErrorKind, Payload, TaskStatus, Timestamp};
use ctr_store::bundle::{Bundle, BundleError};
use ctr_store::event::EventLog;
use ctr_store::task::{HeldTask, Task, TaskError, TaskFile, remove_abandoned_cgroups};
use ctr_store::{StoreError, runtime_root};
use ctr_sys::mount::unmount_all;
use ctr_sys::process::{pidfd_open, pidfd_send_signal};
use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::kill::signal_first;
use crate::store::{Store, for_each};

/// The exit status of a container whose end nobody saw (containerd's `UnknownExitStatus`).
const UNKNOWN: u32 = 255;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kill what still runs
    #[arg(short, long)]
    force: bool,
    /// Leave the bundle where it is
    #[arg(long)]
    keep_bundle: bool,
    /// All containers and bundles of the namespace
    #[arg(short, long, conflicts_with = "ids")]
    all: bool,
    /// Containers
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
}

pub(crate) fn delete(store: &Store, args: &Args) -> Result<ExitCode, Error> {
    let events = EventLog::open(&store.state)?;
    let deletion = Deletion { store, args, events };
    if !args.all {
        return Ok(deletion.delete_each(&args.ids));
    }
    let mut ids = store.tasks.ids()?;
    if !args.keep_bundle {
        ids.extend(store.bundles.list()?);
        ids.sort_unstable();
        ids.dedup();
    }
    let code = deletion.delete_each(&ids);
    store.tasks.sweep()?;
    store.bundles.sweep()?;
    Ok(code)
}

struct Deletion<'a> {
    store: &'a Store,
    args: &'a Args,
    events: EventLog,
}

impl Deletion<'_> {
    fn delete_each(&self, ids: &[String]) -> ExitCode {
        if self.args.force && ids.len() > 1 {
            // All at once, so that their supervisors clear up side by side. What goes wrong is reported when
            // its turn comes.
            ids.iter().filter_map(|id| self.store.tasks.open(id).ok()).for_each(|task| drop(self.stop(&task)));
        }
        for_each(ids, |id| self.delete(id))
    }

    fn delete(&self, id: &str) -> Result<(), Error> {
        let unable = || format!("delete {id}");
        let had_task = match self.store.tasks.open(id) {
            Err(TaskError::NotFound { .. }) => {
                self.refuse_foreign(id)?;
                false
            }
            // A power cut may leave a file without its content; then there is nothing to go by.
            Err(TaskError::Store(StoreError::Damaged { .. })) if self.args.force => {
                self.store.tasks.discard(id).unable_to(unable)?;
                true
            }
            task => {
                self.delete_task(task?).unable_to(unable)?;
                true
            }
        };
        if self.args.keep_bundle {
            return if had_task { Ok(()) } else { Err(TaskError::NotFound { id: id.to_owned() }.into()) };
        }
        match self.store.bundles.remove(id) {
            Ok(()) => {
                self.tell(Payload::ContainerDelete { id: id.to_owned() });
                Ok(())
            }
            Err(BundleError::NotFound { .. }) if had_task => Ok(()), // a bundle from elsewhere is not ours
            Err(BundleError::NotFound { .. }) => Err(TaskError::NotFound { id: id.to_owned() }.into()),
            Err(error) => Err(error).unable_to(unable),
        }
    }

    /// A container that `ctr-run` made without a supervisor may be using the bundle.
    fn refuse_foreign(&self, id: &str) -> Result<(), Error> {
        let state = runtime_root(&self.store.namespace).join(id);
        match state.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(_) => Err(Error::new(ErrorKind::Conflict, format!("{id} is a container of ctr-run's own"))
                .with_hint(format!("ctr-run delete {id}"))),
        }
    }

    fn delete_task(&self, task: Task) -> Result<(), Error> {
        self.stop(&task)?;
        // The supervisor finishes its own clearing up before it lets go.
        let held = task.hold()?;
        let file = held.task().file();
        kill_abandoned(&held)?;
        if file.runtime_root.join(&file.id).symlink_metadata().is_ok() {
            delete_from_runtime(file)?;
        }
        let abandoned = held.task().pid_file().exists() || held.task().exit()?.is_none();
        if abandoned {
            remove_leftovers(file);
        }
        if file.mounted {
            unmount_all(&file.bundle.join("rootfs"));
        }
        self.tell_end(&held, abandoned)?;
        held.remove()?;
        Ok(())
    }

    fn stop(&self, task: &Task) -> Result<(), Error> {
        let state = task.state()?;
        let id = &task.file().id;
        match state.status {
            TaskStatus::Stopped | TaskStatus::Unknown => Ok(()),
            status if !self.args.force => {
                Err(Error::new(ErrorKind::Conflict, format!("the container {id} is {}", status.as_str()))
                    .with_hint("--force kills it"))
            }
            // Nobody knows its first process yet but its supervisor, which takes the runtime with it.
            TaskStatus::Creating => kill_creating(task),
            _ => match signal_first(task, SIGKILL) {
                Err(error) if error.kind() == ErrorKind::Conflict => Ok(()), // it has just ended
                result => result,
            },
        }
    }

    // Before the task's files go: one who is killed in between leaves a task that is deleted again, and the
    // log says twice what otherwise it might not say at all.
    fn tell_end(&self, held: &HeldTask, abandoned: bool) -> Result<(), Error> {
        let file = held.task().file();
        let Some(process) = file.process else { return Ok(()) };
        let (pid, container_id, id) = (process.pid, file.id.clone(), file.id.clone());
        let exit = held.task().exit()?.map(|exit| (exit.exit_status, exit.exited_at));
        let (exit_status, exited_at) = exit.unwrap_or_else(|| (UNKNOWN, Timestamp::now()));
        if abandoned {
            self.complete_story(file, pid, exit_status, exited_at)?;
        }
        self.tell(Payload::TaskDelete { container_id, id, pid, exit_status, exited_at });
        Ok(())
    }

    /// Tells what a supervisor that was killed did not.
    fn complete_story(&self, file: &TaskFile, pid: i32, exit_status: u32, exited_at: Timestamp) -> Result<(), Error> {
        let story = self.events.story(&self.store.namespace, &file.id)?;
        let (container_id, id) = (file.id.clone(), file.id.clone());
        if !story.created {
            let rootfs = Bundle::open(&file.bundle).and_then(|bundle| bundle.mounts()).ok().flatten();
            file.create_event(rootfs.unwrap_or_default()).into_iter().for_each(|created| self.tell(created));
        }
        if !story.started {
            self.tell(Payload::TaskStart { container_id: container_id.clone(), pid });
        }
        if !story.exited {
            self.tell(Payload::TaskExit { container_id, id, pid, exit_status, exited_at });
        }
        Ok(())
    }

    fn tell(&self, payload: Payload) {
        if let Err(error) = self.events.append(&self.store.namespace, payload) {
            let reason = Error::from(error).to_line();
            ctr_cli::tell(&format!("ctr-task: warning: an event is missing from the log: {reason}"));
        }
    }
}

/// Ends a supervisor whose runtime is at work, and waits until neither can make anything any more.
fn kill_creating(task: &Task) -> Result<(), Error> {
    let Some(supervisor) = task.supervisor()? else { return Ok(()) };
    let pid = task.file().supervisor.pid;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
    let children: Vec<OwnedFd> = children.filter_map(|pid| pidfd_open(pid).ok()).collect();
    kill(&supervisor)?;
    // The runtime is killed with it (`PR_SET_PDEATHSIG`), but not at the same moment.
    children.iter().chain([&supervisor]).for_each(wait_for_end);
    Ok(())
}

/// Ends a container whose supervisor was killed, and waits for that.
fn kill_abandoned(held: &HeldTask) -> Result<(), Error> {
    let Some(process) = held.task().process()? else { return Ok(()) };
    if held.task().exit()?.is_none() {
        kill(&process)?;
        wait_for_end(&process);
    }
    Ok(())
}

/// Kills a process, which may be gone by now.
fn kill(process: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(process.as_fd(), SIGKILL) {
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(()),
        result => result,
    }
}

fn wait_for_end(process: &OwnedFd) {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// A runtime that was killed early knows nothing of what it had made.
fn remove_leftovers(file: &TaskFile) {
    if let Ok(config) = Bundle::open(&file.bundle).and_then(|bundle| bundle.config()) {
        remove_abandoned_cgroups(&config, &file.id);
    }
}

/// Has the runtime remove what it still knows of: a supervisor that was killed could not.
fn delete_from_runtime(file: &TaskFile) -> Result<(), Error> {
    let mut command = Command::new(&file.runtime);
    command.arg("--root").arg(&file.runtime_root).args(["delete", "--force", &file.id]).stdin(Stdio::null());
    let output = command.output().unable_to(|| format!("run {}", file.runtime.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let name = file.runtime.file_name().map(Path::new).unwrap_or(&file.runtime);
    let message = format!("{} delete: {}", name.display(), said.trim());
    Err(Error::new(ErrorKind::Failed, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_end_before_it_is_killed() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = pidfd_open(Pid::from_raw(child.id() as i32)).unwrap();
        child.wait().unwrap();
        kill(&process).unwrap();
        wait_for_end(&process);
    }
}
