// SPDX-License-Identifier: Apache-2.0
//! Making a container: from a bundle to a process that waits at its gate, or runs.
//!
//! Everything that can fail without the container's process happens before there is one, but for what a seccomp
//! profile is to the kernel where no hook could run meanwhile. What was made is undone, in the reverse order, unless
//! the whole succeeds.

pub(crate) mod claim;
mod namespaces;
pub(crate) mod serve;
pub(crate) mod undo;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ctr_record::Mount;
use ctr_sys::affinity::{Aside, preemptions};
use ctr_sys::process::Child;
use nix::sched::sched_getcpu;

use self::undo::Undo;
use crate::caller::notify::Notify;
use crate::caller::pidfd_socket::{PidfdSocket, Role};
use crate::caller::{pid_file, tty};
use crate::cgroup::{Cgroup, Holder, JoinFds, Manager};
use crate::container::Container;
use crate::hooks::Outputs;
use crate::network::{self, Begun};
use crate::plan::{Caller, CpuAffinity, Plan, ProcessPlan};
use crate::process::filter::deliver;
use crate::process::gate::Gate;
use crate::process::init::Init;
use crate::process::keyring::SessionKeyring;
use crate::process::launch::Launch;
use crate::process::report::{Channel, Message};
use crate::process::{spawn, user_namespace};
use crate::rootfs::Prepared;
use crate::rootfs::cgroup_mount::CgroupMount;
use crate::rootfs::{mount_source, overlay};
use crate::spec::{self, Config};
use crate::state::ContainerDir;
use crate::timing::Stage;
use crate::{RuntimeError, Service, progress, rootfs, timing, warn};

/// How a container is made, beyond what its config says.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The bundle directory.
    pub bundle: PathBuf,
    /// The config, if it is not the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// A Unix socket that is sent the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// A Unix socket that is sent a descriptor of the container's first process.
    pub pidfd_socket: Option<PathBuf>,
    /// A file that is written the pid of the container's first process, in decimal without a newline.
    pub pid_file: Option<PathBuf>,
    /// The root is moved over `/` instead of pivoted to, for roots on a ramdisk.
    pub no_pivot: bool,
    /// The container keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors the container inherits, from 3 up or beyond those of the service.
    pub preserve_fds: u32,
    /// What a service manager has for the container.
    pub service: Service,
    /// Who makes its cgroup.
    pub cgroup_manager: Manager,
}

impl CreateOptions {
    fn inherited(&self) -> u32 {
        self.preserve_fds.saturating_add(self.service.sockets)
    }
}

/// What becomes of a new container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It waits for `start`.
    Later,
    /// It runs as soon as it is recorded, and the caller goes away.
    Detached,
    /// It runs as soon as it is recorded, and the caller stays.
    Foreground,
}

/// A container just made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) container: Container,
    pub(crate) child: Child,
    /// The master of its terminal, if it has one and no socket wanted it.
    pub(crate) terminal: Option<OwnedFd>,
    /// Where it says that it is ready, if somebody wants to know.
    pub(crate) notify: Option<Notify>,
}

/// What there is of a container before anything is made.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) config: Config,
    pub(crate) plan: Plan,
    /// The mounts that make its root file system, if the bundle says any.
    pub(crate) layers: Vec<Mount>,
}

/// Reads a bundle and plans its container, whose directory is to be `state`.
pub(crate) fn plan(id: &str, options: &CreateOptions, state: &Path) -> Result<Planned, RuntimeError> {
    let (bundle, config) = read(options, state)?;
    plan_of(id, &bundle, config, options)
}

fn read(options: &CreateOptions, state: &Path) -> Result<(PathBuf, Config), RuntimeError> {
    let bundle = std::path::absolute(&options.bundle).map_err(RuntimeError::io("find", &options.bundle))?;
    let mut config = match &options.config {
        None => spec::load(&bundle.join("config.json"))?,
        Some(path) => spec::load(path)?,
    };
    options.service.amend(&mut config.spec, state);
    Ok((bundle, config))
}

fn plan_of(id: &str, bundle: &Path, config: Config, options: &CreateOptions) -> Result<Planned, RuntimeError> {
    let plan = Plan::new(id, bundle, &config.spec, Caller::this(options.cgroup_manager))?;
    let layers = overlay::read_layers(bundle)?;
    Ok(Planned { config, plan, layers })
}

pub(crate) fn make(root: &Path, id: &str, options: &CreateOptions, opening: Opening) -> Result<Made, RuntimeError> {
    check_preserved(options.inherited())?;
    let (bundle, config) = read(options, &root.join(id))?;
    let network = network::begin(&config.spec);
    let Planned { config, plan, layers } = plan_of(id, &bundle, config, options)?;
    timing::mark(Stage::Plan);
    let mut process = plan.process.clone().ok_or_else(|| RuntimeError::config("process", "it is missing"))?;
    process.console_size = tty::first_size(&process, opening == Opening::Foreground);
    process.exec_cpu_affinity = CpuAffinity::default();
    check_terminal(process.terminal, options.console_socket.is_some(), opening)?;
    // Held until all is made, or taken back.
    let (dir, _lock) = ContainerDir::claim(root, id)?;
    let mut undo = Undo::new(&dir);
    let notify = options.service.notify.as_deref().map(|manager| Notify::make(dir.path(), manager, opening));
    let notify = notify.transpose()?.flatten();
    let making = Making { dir: &dir, plan: &plan, config: &config, layers: &layers, options, opening };
    let terminal = make_in(&making, process, network, &mut undo)?;
    let (child, state) = undo.keep();
    config.warnings.iter().for_each(warn);
    Ok(Made { container: Container::new(dir, state), child, terminal, notify })
}

/// What a container is made of.
#[derive(Clone, Copy)]
struct Making<'a> {
    dir: &'a ContainerDir,
    plan: &'a Plan,
    config: &'a Config,
    layers: &'a [Mount],
    options: &'a CreateOptions,
    opening: Opening,
}

fn make_in(
    making: &Making<'_>,
    process: ProcessPlan,
    network: Begun,
    undo: &mut Undo<'_>,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let Making { dir, plan, config, layers, options, opening } = *making;
    let mut state = claim::new_state(plan, config, options.cgroup_manager);
    state.no_new_keyring = options.no_new_keyring;
    let holder = claim::resources(dir, plan, &mut state, undo)?;
    let cgroup = &state.cgroup.clone();
    // Where hooks of others run before the container has its rights, these are in force by then. So are they
    // where its process would at some moment be denied what it needs.
    let restricted_first = plan.hooks.run_in_container() || cgroup.restricts_devices_by_steps();
    if restricted_first {
        cgroup.enforce_devices(&plan.cgroup)?;
    }
    timing::mark(Stage::Cgroup);
    let join = namespaces::open(plan)?;
    let joined_user = join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWUSER && ctr_sys::process::is_root());
    let root = joined_user.map(|(_, fd)| rootfs::make_root_for(plan, layers, Some(fd.as_fd()))).transpose()?;
    // They are looked up in a mount namespace that is joined, as with runc.
    let sources = match plan.namespaces.is_new(libc::CLONE_NEWNS) {
        true => mount_source::prepare(plan, &plan.mounts)?,
        false => Vec::new(),
    };
    let prepared =
        Prepared { layers: layers.to_vec(), root, sources, cgroups: CgroupMount::of(cgroup, &plan.namespaces) };
    let console_socket = options.console_socket.as_deref().map(connect).transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
    let (ours, theirs) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
    let (opener, gate) = match opening {
        Opening::Later => (None, Gate::create(dir.path()).map_err(RuntimeError::io("make the gate in", dir.path()))?),
        Opening::Detached | Opening::Foreground => {
            let (opener, gate) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
            (Some(opener), Gate::Parent(gate))
        }
    };
    let oom_score = process.oom_score_adj;
    let keyring = (!state.no_new_keyring).then(|| SessionKeyring::of_first(plan));
    let (launch, mut filter) = Launch::new(process, plan, keyring, state.intel_rdt.as_ref(), options.inherited())?;
    if !plan.hooks.is_empty() {
        // None is to run for what is refused.
        deliver(filter.take(), plan)?;
    }
    let init = Init {
        plan,
        prepared,
        join,
        network: network.origin(plan),
        channel: theirs,
        gate,
        console_socket,
        launch,
        no_pivot: options.no_pivot,
        state: state.to_oci("creating"),
        hook_outputs: match plan.hooks.run_in_container() {
            true => Outputs::open(&plan.hooks)?,
            false => Outputs::default(),
        },
    };
    progress::tell_of(plan);
    let (join_fds, before) = (cgroup.join_fds()?, preemptions());
    let child = spawn_init(plan, cgroup, &join_fds, init)?;
    // It is not to wait for this process, which has the longer way before it, where it could be working: be it that
    // it has begun by taking this processor, or that it is found there.
    let aside = (preemptions() != before).then(Aside::step).flatten();
    timing::mark(Stage::Clone);

    let pid = child.pid;
    progress::tell(|| format!("child process in init(): it has pid {pid}"));
    let waits = state.set_process(&child).is_some_and(|processor| Ok(processor) == sched_getcpu());
    let aside = if waits {
        drop(aside);
        Aside::step()
    } else {
        aside
    };
    let (child, _) = undo.child.insert((child, state.clone()));
    holder.map_or(Ok(()), Holder::release)?;
    // Soon it has nothing to do but to wait for this.
    if let Some(made) = network.finish()? {
        // If it has ended meanwhile, its last message says how.
        let _ = ours.send(&Message::Network(made));
    }
    // From here on the container's process is busy with its mounts, on another processor.
    fs::write(dir.config(), &config.bytes).map_err(RuntimeError::io("write", &dir.config()))?;
    dir.record_process(&state)?;
    if !restricted_first {
        cgroup.enforce_devices(&plan.cgroup)?;
    }
    if let Some(socket) = pidfd_socket {
        socket.send(child, Role::First)?;
    }
    serve::set_oom_score(oom_score, pid)?;
    deliver(filter, plan)?;
    if let Some(opener) = &opener {
        // It stays unread until the process has come that far.
        let _ = opener.send(&Message::Go);
    }
    drop(aside);
    timing::mark(Stage::Record);
    ctr_sys::early::release_view();
    let terminal = serve::serve(&ours, plan, layers, (child, &state), opening)?;
    if let Some(pid_file) = &options.pid_file {
        pid_file::write(pid_file, state.pid)?;
    }
    dir.record_complete()?;
    timing::mark(Stage::Container);
    progress::tell(|| "init: closing the pipe to signal completion: the container is set up".to_owned());
    Ok(terminal)
}

fn spawn_init(plan: &Plan, cgroup: &Cgroup, join_fds: &JoinFds, init: Init<'_>) -> Result<Child, RuntimeError> {
    let namespaces = &plan.namespaces;
    let joins_user = namespaces.join.iter().any(|(kind, _)| *kind == libc::CLONE_NEWUSER);
    let offsets = user_namespace::with_time_offsets(namespaces)?;
    let new = init.network.left_to_clone(offsets.new_kinds(namespaces));
    let child = if joins_user {
        // The process in between joins them all, so that the container's process has none left to join.
        let mut init = init;
        let join = std::mem::take(&mut init.join);
        let join: Vec<spawn::Join<'_>> = join.iter().map(|(kind, fd)| (fd.as_fd(), *kind)).collect();
        spawn::spawn_joined(join_fds, new, &join, || init.run())
    } else {
        let pid_namespace = init.join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWPID);
        let pid_namespace = pid_namespace.map(|(_, fd)| fd.try_clone()).transpose();
        let pid_namespace = pid_namespace.map_err(RuntimeError::call("duplicate a descriptor"))?;
        let pid_namespace = pid_namespace.as_ref().map(AsFd::as_fd);
        spawn::spawn_in(join_fds, new, pid_namespace, || init.run())
    };
    offsets.restore()?;
    child.map_err(|error| spawn::explain(cgroup, error))
}

/// Checks that what a program is to inherit from 3 up was inherited by this one.
pub(crate) fn check_preserved(count: u32) -> Result<(), RuntimeError> {
    match (3..3_i32.saturating_add_unsigned(count)).find(|fd| !ctr_sys::process::is_inherited(*fd)) {
        Some(fd) => Err(RuntimeError::NotPreserved(fd)),
        None => Ok(()),
    }
}

/// Checks that a terminal has somebody who takes its master.
pub(crate) fn check_terminal(terminal: bool, console_socket: bool, opening: Opening) -> Result<(), RuntimeError> {
    let config = |reason: &str| Err(RuntimeError::config("process.terminal", reason));
    let detached = opening != Opening::Foreground;
    match (terminal && detached, console_socket) {
        (true, false) => config("cannot allocate tty if runc will detach without setting console socket"),
        (false, true) => config("cannot use console socket if runc will not detach or allocate tty"),
        _ => Ok(()),
    }
}

/// Connects to a console socket.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd, RuntimeError> {
    UnixStream::connect(path).map(OwnedFd::from).map_err(RuntimeError::io("connect to the console socket", path))
}
