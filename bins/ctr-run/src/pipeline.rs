// SPDX-License-Identifier: Apache-2.0
//! The end of the pipeline: a record's bundle, run in the foreground.
//!
//! The exit status is the container's. Failures of ctr-run itself are 125, 126 when the program cannot
//! be executed and 127 when it is not there, as of every tool that runs another.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use ctr_cli::{Context, Error};
use ctr_record::{Payload, Record, TaskIo, Timestamp};
use ctr_runtime::cgroup::Manager;
use ctr_runtime::{Container, CreateOptions, RunOptions};
use ctr_store::bundle::{Bundle, Bundles};
use ctr_store::event::EventLog;
use ctr_store::sched::Inherited;
use ctr_store::{StateDir, runtime_root};

use crate::args::Pipeline;
use crate::verbs::release;

/// Runs the record's bundle; returns the status to exit with.
pub(crate) fn run(args: &Pipeline, manager: Manager) -> Result<ExitCode, Error> {
    run_record(args, manager).map(ExitCode::from).map_err(|error| match error.exit_code() {
        code @ (126 | 127) => error.with_exit_code(code),
        _ => error.with_exit_code(125),
    })
}

fn run_record(args: &Pipeline, manager: Manager) -> Result<u8, Error> {
    let mut place = Inherited::take();
    let record = read_record(args)?;
    args.state.check(&record)?;
    let bundle = record.bundle.as_ref().ok_or_else(|| {
        Error::new(ctr_record::ErrorKind::Invalid, "the record has no bundle").with_hint("ctr-bundle makes one")
    })?;
    ctr_record::check_container_id(&bundle.id)?;
    Bundle::open(&bundle.path)?;
    let state = StateDir::open(&record.state_dir)?;
    let events = Events { log: EventLog::open(&state).ok(), namespace: record.namespace.clone() };
    let options = RunOptions {
        create: CreateOptions { bundle: bundle.path.clone(), cgroup_manager: manager, ..CreateOptions::default() },
        ..RunOptions::default()
    };
    let mut pid = 0;
    let started = |container: &Container| {
        release(place.take());
        pid = container.state().pid;
        events.write_start(container);
    };
    let status = ctr_runtime::run(&runtime_root(&record.namespace), &bundle.id, &options, started)
        .map_err(|error| match error.exec_status() {
            Some(status) => Error::from(error).with_exit_code(status),
            None => Error::from(error),
        })
        .unable_to(|| format!("run {}", bundle.id))?;
    events.write_end(&bundle.id, pid, status);
    if args.rm {
        Bundles::of(&state, &record.namespace).remove(&bundle.id)?;
        events.write(Payload::ContainerDelete { id: bundle.id.clone() });
    }
    Ok(status)
}

// The record's reader is the pipeline, so the container gets no standard input but from a file.
fn read_record(args: &Pipeline) -> Result<Record, Error> {
    let Some(path) = &args.record else {
        let record = ctr_cli::single_record()?;
        let null = File::open("/dev/null").unable_to(|| "open /dev/null")?;
        nix::unistd::dup2_stdin(null.as_fd()).map_err(std::io::Error::from).unable_to(|| "close standard input")?;
        return Ok(record);
    };
    let failed = || format!("read the record {}", path.display());
    Record::parse(read_line(path).unable_to(failed)?.trim_end()).unable_to(failed)
}

fn read_line(path: &Path) -> std::io::Result<String> {
    const LIMIT: u64 = 16 << 20;
    let mut text = String::new();
    File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// The event log, as far as it can be written: a container does not fail for it.
struct Events {
    log: Option<EventLog>,
    namespace: String,
}

impl Events {
    fn write(&self, payload: Payload) {
        let Some(log) = &self.log else { return };
        if let Err(error) = log.append(&self.namespace, payload) {
            ctr_cli::render("ctr-run", &Error::from(error));
        }
    }

    fn write_start(&self, container: &Container) {
        let state = container.state();
        let (container_id, pid) = (state.id.clone(), state.pid);
        let bundle = state.bundle.display().to_string();
        let io = TaskIo::default();
        self.write(Payload::TaskCreate { container_id: container_id.clone(), bundle, rootfs: Vec::new(), io, pid });
        self.write(Payload::TaskStart { container_id, pid });
    }

    fn write_end(&self, id: &str, pid: i32, status: u8) {
        let (container_id, exited_at, exit_status) = (id.to_owned(), Timestamp::now(), u32::from(status));
        let id = container_id.clone();
        let (c, i) = (container_id.clone(), id.clone());
        self.write(Payload::TaskExit { container_id: c, id: i, pid, exit_status, exited_at });
        self.write(Payload::TaskDelete { container_id, id, pid, exit_status, exited_at });
    }
}
