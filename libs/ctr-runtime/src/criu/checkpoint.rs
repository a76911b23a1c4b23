// SPDX-License-Identifier: Apache-2.0
//! A container is written to images, and ended unless it is to go on.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

use ctr_record::TaskStatus;

use super::message::{Notification, Request, Version};
use super::options::CheckpointOptions;
use super::request::{self, DUMP_LOG};
use super::service::{Program, Setting};
use super::workshop::{Work, Yard};
use super::{images, observe};
use crate::caller::notify;
use crate::container::Container;
use crate::{RuntimeError, Service, warn};

const ACTION: &str = "checkpoint the container";

/// The first criu that freezes a cgroup of v2.
const FREEZES_V2: Version = Version(3, 14);
/// The first criu that keeps joined namespaces apart.
const EXTERNAL_NAMESPACES: Version = Version(3, 15);
/// The first criu that says when pages can be had.
const SAYS_READY: Version = Version(3, 15);

impl Container {
    /// Writes the container to images, and deletes it unless it is to go on running.
    ///
    /// criu holds the processes while it works. If it or this process is killed meanwhile they go on as if
    /// nothing had been.
    pub fn checkpoint(&self, mut options: CheckpointOptions) -> Result<(), RuntimeError> {
        let (lock, container) = self.locked()?;
        container.require("checkpoint", &[TaskStatus::Running, TaskStatus::Paused])?;
        let program = Program::find()?;
        check_features(&options, &program)?;
        images::create_directory(&options.criu.image_path)?;
        if let Some(parent) = &options.parent_path {
            images::check_parent(&options.criu.image_path, parent)?;
        }
        let work = Work::open(&options.criu, DUMP_LOG)?;
        let status_fd = options.status_fd.take().map(File::from);
        let status_number = status_fd.as_ref().map(AsRawFd::as_raw_fd);
        let mut lock = Some(lock);
        let dumped = container.dump(&options, &program, &work, status_number, || {
            if let Some(mut status) = status_fd
                && let Err(error) = status.write_all(&[0])
            {
                warn(format_args!("unable to write to --status-fd: {error}"));
            }
            // Pages may be asked for much later, or never, and meanwhile somebody may want it deleted.
            lock = None;
        });
        dumped.map_err(|error| work.explain(error, DUMP_LOG))?;
        match options.leave_running || options.pre_dump {
            true => Ok(()),
            false if lock.is_some() => container.remove(),
            false => self.remove_if_there(),
        }
    }

    fn remove_if_there(&self) -> Result<(), RuntimeError> {
        match self.locked() {
            Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
            Ok((_, other)) if other.state().pid_start_time != self.state().pid_start_time => Ok(()),
            Ok((_lock, container)) => container.remove(),
        }
    }

    fn dump(
        &self,
        options: &CheckpointOptions,
        program: &Program,
        work: &Work,
        status_fd: Option<RawFd>,
        ready: impl FnOnce(),
    ) -> Result<(), RuntimeError> {
        let state_dir = self.dir().path();
        let notifies = notify::has_directory(state_dir);
        let mut spec = self.config()?;
        Service::of_container(notifies).amend(&mut spec, state_dir);
        let plan = self.plan_of(&spec)?;
        request::check(&plan)?;
        let (mut running, mut descriptors) = observe::observe(self, &plan, options.criu.shell_job)?;
        descriptors.notifies = notifies;
        let on_v2 = self.cgroup().v2_path().is_some() && running.freezer.as_deref() == self.cgroup().v2_path();
        if on_v2 && !program.is(FREEZES_V2) {
            running.freezer = None;
        }
        if running.joined.iter().any(|(kind, _)| request::key_of_namespace(*kind).is_some()) {
            program.require(EXTERNAL_NAMESPACES, "a network or pid namespace that exists")?;
        }
        if !options.pre_dump {
            descriptors.write(work.images())?;
        }
        let annotation = request::annotation(&self.state().annotations);
        let yard = Yard::create(self.dir())?;
        let mut asked = request::checkpoint(options, annotation, &plan, running, work.numbers());
        asked.cgroup_yard = yard.cgroups();
        if !program.is(SAYS_READY) {
            asked.status_fd = status_fd.filter(|_| options.criu.lazy_pages);
        }
        let request = if options.pre_dump { Request::PreDump(asked) } else { Request::Dump(asked) };
        let setting = Setting { mounts: yard.mounts(), directories: work.places(), ..Setting::default() };
        let mut ready = Some(ready);
        let note = |notification: &Notification, _| {
            if notification.script == "status-ready"
                && let Some(ready) = ready.take()
            {
                ready();
            }
            Ok(())
        };
        program.start(&setting)?.converse(ACTION, &request, note)?;
        Ok(())
    }
}

fn check_features(options: &CheckpointOptions, program: &Program) -> Result<(), RuntimeError> {
    if !options.pre_dump && !options.criu.lazy_pages {
        return Ok(());
    }
    let features = program.features()?;
    let refuse = |what: &str| {
        let reason = format!("this kernel, or criu, has no {what}");
        Err(RuntimeError::Criu { action: ACTION, reason })
    };
    match (options.pre_dump && !features.memory_tracking, options.criu.lazy_pages && !features.lazy_pages) {
        (true, _) => refuse("tracking of memory, which --pre-dump needs"),
        (_, true) => refuse("userfaultfd, which --lazy-pages needs"),
        _ => Ok(()),
    }
}
