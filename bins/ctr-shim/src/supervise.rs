// SPDX-License-Identifier: Apache-2.0
//! The supervisor: from the caller's fork to the container's end.
//!
//! Intent is written first (the task), then things are done, then what was done is written. An exit is
//! on the disk before anybody is told of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use ctr_cli::{Context, Error};
use ctr_record::{ErrorKind, Payload, Task, TaskStatus, Timestamp};
use ctr_store::event::EventLog;
use ctr_store::sched::Inherited;
use ctr_store::task::{Exit, HeldTask, LogFile, Process, Stream, remove_abandoned_cgroups};
use ctr_sys::mount::unmount_all;
use ctr_sys::wait::End;
use nix::fcntl::OFlag;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use crate::console::ConsoleSocket;
use crate::job::Job;
use crate::log::Log;
use crate::oom::OomCounter;
use crate::outputs::Outputs;
use crate::runtime::{Runtime, failure, read_pid_file};

/// The supervisor's whole life. The status is the caller's exit code when the container was not started.
pub(crate) fn run(job: Job, place: Option<Inherited>, mut reporter: File) -> i32 {
    let started = leave_caller().map_err(Error::from).and_then(|()| Supervisor::start(&job, place));
    let supervisor = match started {
        Ok(supervisor) => supervisor,
        Err(error) => {
            ctr_cli::render("ctr-shim", &error);
            return i32::from(error.exit_code());
        }
    };
    let mut record = job.into_record();
    record.task = Some(supervisor.description());
    // The caller may be gone; then there is nobody to tell, and nothing else changes.
    let _ = reporter.write_all(format!("{}\n", record.to_line()).as_bytes());
    drop(reporter);
    if let Ok(null) = File::open("/dev/null") {
        let _ = dup2_stderr(null);
    }
    supervisor.keep();
    0
}

/// Cuts the ties to the caller: its session, terminal, directory, streams, signals.
fn leave_caller() -> io::Result<()> {
    setsid()?;
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    set_child_subreaper(true)?;
    // A stray SIGTERM must not lose an exit, so that none is delivered. Children begin with none blocked.
    SigSet::all().thread_block()?;
    Ok(())
}

/// A container that runs, and what its keeper needs.
struct Supervisor {
    held: HeldTask,
    runtime: Runtime,
    events: EventLog,
    namespace: String,
    outputs: Outputs,
    oom: Option<OomCounter>,
    pid: Pid,
}

impl Supervisor {
    /// Starts the container, or leaves nothing behind.
    fn start(job: &Job, place: Option<Inherited>) -> Result<Self, Error> {
        let id = &job.order.id;
        let unable = || format!("start {id}");
        let held = job.tasks.create(job.order.clone()).unable_to(unable)?;
        let runtime = Runtime::of(held.task().file(), held.task().path());
        if runtime.knows_id() {
            held.remove()?;
            let message = format!("{} has a container with the id {id} already", job.order.runtime.display());
            return Err(Error::new(ErrorKind::Conflict, message)).unable_to(unable);
        }
        let mut starting = Starting { job, held, runtime, outputs: None };
        match starting.start() {
            Ok(pid) => {
                if let Some(place) = place {
                    place.release();
                }
                starting.finish(pid).unable_to(unable)
            }
            Err(error) => {
                starting.undo();
                Err(error).unable_to(unable)
            }
        }
    }

    fn description(&self) -> Task {
        let file = self.held.task().file();
        Task {
            id: file.id.clone(),
            pid: self.pid.as_raw(),
            status: TaskStatus::Running,
            started_at: file.started_at,
            extra: Default::default(),
        }
    }

    /// Waits for the end, writes it down, tells it, and removes all but the task's files.
    fn keep(mut self) {
        self.outputs.await_only(self.pid);
        let end = match self.outputs.copy_until_end_of(self.pid) {
            Ok(end) => end,
            Err(error) => return self.warn(&format!("the container's end is not known: {error}")),
        };
        let exited_at = Timestamp::now();
        // First all that it wrote: who knows of the end may read the log.
        if let Err(error) = self.outputs.finish() {
            self.warn(&format!("output may be missing: {error}"));
        }
        let exit = Exit {
            exit_status: u32::from(end.status()),
            exited_at,
            signal: if let End::Killed(signal) = end { Some(signal) } else { None },
            oom_killed: self.oom.as_ref().is_some_and(OomCounter::has_risen),
            dropped_bytes: self.outputs.dropped(),
        };
        if let Err(error) = self.held.record_exit(&exit) {
            self.warn(&format!("unable to write down {exit:?}: {error}"));
        }
        let id = self.held.task().file().id.clone();
        if exit.oom_killed {
            self.tell(Payload::TaskOom { container_id: id.clone() });
        }
        let (pid, exit_status) = (self.pid.as_raw(), exit.exit_status);
        self.tell(Payload::TaskExit { container_id: id.clone(), id, pid, exit_status, exited_at });
        self.clear_up();
    }

    fn clear_up(mut self) {
        match self.runtime.delete() {
            Ok(pid) => {
                self.outputs.await_only(pid);
                match self.outputs.copy_until_end_of(pid) {
                    Ok(End::Exited(0)) => {}
                    Ok(_) => {
                        self.warn(&self.runtime.complaint().unwrap_or_else(|| "the runtime's delete failed".into()))
                    }
                    Err(error) => self.warn(&format!("the runtime's delete cannot be waited for: {error}")),
                }
            }
            Err(error) => self.warn(&format!("the runtime's delete cannot be run: {error}")),
        }
        // Processes that were not the container's first may have gone on writing until now.
        let _ = self.outputs.finish();
        let file = self.held.task().file();
        if file.mounted {
            unmount_all(&file.bundle.join("rootfs"));
        }
        // The last thing: from here on nobody has to look whether anything was left undone.
        let _ = std::fs::remove_file(self.held.task().pid_file());
    }

    fn tell(&self, payload: Payload) {
        if let Err(error) = self.events.append(&self.namespace, payload) {
            self.warn(&format!("an event is missing from the log: {}", Error::from(error).to_line()));
        }
    }

    // Nobody listens to a supervisor: what it has to say is kept with the task.
    fn warn(&self, message: &str) {
        let path = self.held.task().path().join("warnings");
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{} {message}\n", Timestamp::now()).as_bytes()));
    }
}

/// A container on its way.
struct Starting<'a> {
    job: &'a Job,
    held: HeldTask,
    runtime: Runtime,
    outputs: Option<Outputs>,
}

impl Starting<'_> {
    /// Runs the runtime; the container's first process.
    fn start(&mut self) -> Result<Pid, Error> {
        let file = self.held.task().file();
        let directory = self.held.task().path().to_owned();
        if file.mounted {
            ctr_runtime::mount_on_host(&self.job.rootfs, &file.bundle.join("rootfs"))?;
        }
        let LogFile { path, .. } = &file.log;
        let log = Log::open(&file.log).unable_to(|| format!("open the log {}", path.display()))?;
        let mut outputs = Outputs::open(log)?;
        let mut streams = [None, None];
        let mut console = None;
        if file.terminal {
            let socket = ConsoleSocket::open(&directory).unable_to(|| "make a console socket")?;
            console = Some(socket.path());
            outputs.await_terminal(socket);
        } else {
            for (stream, end) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut streams) {
                let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
                outputs.add(read, stream);
                *end = Some(write);
            }
        }
        let pid_file = self.held.task().pid_file();
        let [stdout, stderr]: [Option<OwnedFd>; 2] = streams;
        let runtime = self.runtime.run(&file.bundle, &pid_file, console, stdout, stderr)?;
        let outputs = self.outputs.insert(outputs);
        match outputs.copy_until_end_of(runtime)? {
            End::Exited(0) => Ok(read_pid_file(&pid_file)?),
            end => Err(failure(file, self.runtime.complaint(), end.status())),
        }
    }

    /// Writes down and tells that the container runs.
    fn finish(mut self, pid: Pid) -> Result<Supervisor, Error> {
        // A container may have ended and been reaped already: then there is no process to be named.
        let process = Process::of(pid).unwrap_or(Process { pid: pid.as_raw(), start_time: 0 });
        if let Err(error) = self.held.record_start(process, Timestamp::now()) {
            self.undo();
            return Err(error.into());
        }
        let file = self.held.task().file();
        let container_id = file.id.clone();
        let created = file.create_event(self.job.rootfs.clone());
        let supervisor = Supervisor {
            oom: OomCounter::of(pid),
            outputs: self.outputs.expect("the container was started with them"),
            held: self.held,
            runtime: self.runtime,
            events: self.job.events.clone(),
            namespace: self.job.record.namespace.clone(),
            pid,
        };
        supervisor.tell(created.expect("the process was written down"));
        supervisor.tell(Payload::TaskStart { container_id, pid: pid.as_raw() });
        Ok(supervisor)
    }

    /// Removes what there is so far.
    fn undo(self) {
        // Nothing can be done about a failure here, and the first one is what the caller wants to hear.
        if let Some(mut outputs) = self.outputs
            && let Ok(pid) = self.runtime.delete()
        {
            let _ = outputs.copy_until_end_of(pid);
        }
        let file = self.held.task().file();
        // A runtime that was killed early knows nothing of what it had made.
        remove_abandoned_cgroups(&self.job.config, &file.id);
        if file.mounted {
            unmount_all(&file.bundle.join("rootfs"));
        }
        let _ = self.held.remove();
    }
}
