// SPDX-License-Identifier: Apache-2.0
//! The verbs of an OCI runtime, answered as runc answers them.

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use ctr_cli::{Context, Error};
use ctr_runtime::cgroup::Manager;
use ctr_runtime::timing::{self, Stage};
use ctr_runtime::{Container, CreateOptions, Owners, RunOptions, RuntimeError, Service};
use ctr_store::sched::Inherited;
use ctr_sys::pattern::Pattern;

use crate::args::{Args, Command, Create, Global, Run};
use crate::log::Log;
use crate::{called, criu, default_spec, events, exec, features, output, update};

/// Performs a verb. runc's exit codes are 1 for any failure, and 255 for one of exec.
pub(crate) fn perform(args: &Args) -> ExitCode {
    let command = args.command.as_ref().expect("a verb was given");
    let log = Log::new(&args.global);
    log.debug(|| format!("{command:?}"));
    Log::new(&args.global).follow();
    let dispatched = match args.pipeline.given() {
        Some(option) => Err(Error::misuse(format!("{option} is for the pipeline, where there is no command"))),
        None => dispatch(&args.global, command),
    };
    match dispatched {
        Ok(code) => code,
        Err(error) => fail(&log, &error, if matches!(command, Command::Exec(_)) { 255 } else { 1 }),
    }
}

/// Reports a failure; returns what to exit with.
pub(crate) fn fail(log: &Log, error: &Error, code: u8) -> ExitCode {
    log.report(error);
    ExitCode::from(code)
}

fn dispatch(global: &Global, command: &Command) -> Result<ExitCode, Error> {
    let root = root(global)?;
    let open = |id: &str| Container::open(&root, id);
    match command {
        Command::Create(create) => {
            let place = Inherited::take();
            let created = Container::create(&root, &create.id, &options(create, global.manager()));
            drop(created.map_err(|error| called::failed("runc create", error))?);
            release(place);
        }
        Command::Run(run) => return run_container(&root, run, global.manager()),
        Command::Exec(args) => return exec::perform(&open(&args.words[0])?, args),
        Command::Start(args) => {
            open(&args.id)?.start_for(&Service::of_this_process())?;
            timing::mark(Stage::Gate);
        }
        Command::State(args) => {
            let container = open(&args.id)?;
            output::print_json(&container.to_json(Owners::default().name(container.state().owner)))?;
        }
        Command::Kill(args) => {
            // 0 only asks whether it runs, as of kill(2).
            let number = if args.signal == "0" { Some(0) } else { ctr_sys::process::parse_signal(&args.signal) };
            let number = number.ok_or_else(|| Error::misuse(format!("unknown signal {:?}", args.signal)))?;
            for_each(&root, &args.id, args.regex, |id| Ok(open(id)?.kill(number, args.all)?))?;
        }
        Command::Delete(args) => {
            for_each(&root, &args.id, args.regex, |id| Ok(delete_container(&root, id, args.force)?))?;
            timing::mark(Stage::Delete);
        }
        Command::List(list) => output::list(&root, global.root.is_some(), list)?,
        Command::Ps(ps) => output::processes(&open(&ps.words[0])?, ps)?,
        Command::Pause(args) => open(&args.id)?.pause()?,
        Command::Resume(args) => open(&args.id)?.resume()?,
        Command::Update(args) => update::perform(&open(args.id())?, args)?,
        Command::Events(args) => events::perform(&open(args.id())?, args)?,
        Command::Mounts(mounts) if mounts.action == "add" => ctr_runtime::add_mounts(&open(&mounts.id)?, &mounts.file)?,
        Command::Mounts(mounts) => ctr_runtime::remove_mounts(&open(&mounts.id)?, &mounts.file)?,
        Command::Checkpoint(args) => criu::checkpoint(&root, args)?,
        Command::Restore(args) => return criu::restore(&root, args, global.manager()),
        Command::Spec(spec) => default_spec::write(&spec.bundle, spec.rootless)?,
        Command::Plan(plan) => {
            let (bundle, config) = (plan.bundle.clone(), plan.config.clone());
            let options =
                CreateOptions { bundle, config, cgroup_manager: global.manager(), ..CreateOptions::default() };
            output::print_json(&ctr_runtime::preview(&plan.id, &options)?)?;
        }
        Command::Features(_) => output::print_json(&features::features())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn root(global: &Global) -> Result<PathBuf, Error> {
    match &global.root {
        Some(root) => {
            let root = std::path::absolute(root).unable_to(|| "find --root")?;
            // However many .. it has: `delete --force` would go for the system's directories.
            let depth = root.components().fold(0_usize, |depth, part| match part {
                Component::Normal(_) => depth + 1,
                Component::ParentDir => depth.saturating_sub(1),
                _ => depth,
            });
            match depth {
                0 => Err(Error::misuse("--root must not be /")),
                _ => Ok(root),
            }
        }
        None => Ok(ctr_store::runtime_root("default")),
    }
}

fn options(create: &Create, cgroup_manager: Manager) -> CreateOptions {
    CreateOptions {
        bundle: create.bundle.clone(),
        config: create.config.clone(),
        console_socket: create.console_socket.clone(),
        pidfd_socket: create.pidfd_socket.clone(),
        pid_file: create.pid_file.clone(),
        no_pivot: create.no_pivot,
        no_new_keyring: create.no_new_keyring,
        preserve_fds: create.preserve_fds,
        service: Service::of_this_process(),
        cgroup_manager,
    }
}

fn run_container(root: &Path, run: &Run, manager: Manager) -> Result<ExitCode, Error> {
    let mut place = Inherited::take();
    let options = RunOptions {
        create: options(&run.create, manager),
        detach: run.detach,
        keep: run.keep,
        no_subreaper: run.no_subreaper,
    };
    let ran = ctr_runtime::run(root, &run.create.id, &options, |_| release(place.take()));
    Ok(ExitCode::from(ran.map_err(|error| called::failed("runc run", error))?))
}

/// The container runs: the next one may start.
pub(crate) fn release(place: Option<Inherited>) {
    if let Some(place) = place {
        place.release();
    }
}

// The container of an id, or all whose ids match a pattern: a failure does not keep it from the others.
fn for_each(root: &Path, id: &str, regex: bool, mut act: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
    if !regex {
        return act(id);
    }
    let pattern = Pattern::new(id).map_err(|why| Error::misuse(format!("{id:?} is no regular expression: {why}")))?;
    let mut failures = Vec::new();
    for id in output::survey(root, false, |container| container.state().id.clone())? {
        if pattern.matches(&id)
            && let Err(error) = act(&id)
        {
            failures.push(error);
        }
    }
    // All are told, the first as the failure of the whole.
    let first = failures.drain(..failures.len().min(1)).next();
    for error in &failures {
        ctr_cli::render("ctr-run", error);
    }
    first.map_or(Ok(()), Err)
}

fn delete_container(root: &Path, id: &str, force: bool) -> Result<(), RuntimeError> {
    match Container::open(root, id).and_then(|container| container.delete(force)) {
        // What a runtime left that was killed before it had recorded anything, or nothing at all.
        Err(RuntimeError::NotFound(_)) if force => ctr_runtime::remove_leftovers(root, id),
        result => result,
    }
}
