// SPDX-License-Identifier: Apache-2.0
//! Making a container: from a bundle to a process that waits at its gate, or runs.
//!
//! Everything that can fail without the container's process happens before there is one. What was made
//! is undone, in the reverse order, unless the whole succeeds.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ctr_record::{Mount, Timestamp};
use ctr_sys::process::Child;
use serde_json::{Value, json};

use crate::cgroup::{Cgroup, Hierarchies, JoinFds};
use crate::container::Container;
use crate::gate::Gate;
use crate::init::Init;
use crate::launch::Launch;
use crate::plan::{Caller, MountKind, Plan};
use crate::report::{Channel, Message};
use crate::rootfs::{CgroupMount, Prepared};
use crate::spec::{self, Config};
use crate::state::{ContainerDir, State, start_time};
use crate::{RuntimeError, hooks, rootfs, spawn, user_namespace};

/// How a container is made, beyond what its config says.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The bundle directory.
    pub bundle: PathBuf,
    /// A Unix socket that is sent the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// A file that is written the pid of the container's first process, in decimal without a newline.
    pub pid_file: Option<PathBuf>,
    /// The root is moved over `/` instead of pivoted to, for roots on a ramdisk.
    pub no_pivot: bool,
    /// The container keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 up the container inherits.
    pub preserve_fds: u32,
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
}

pub(crate) fn make(root: &Path, id: &str, options: &CreateOptions, opening: Opening) -> Result<Made, RuntimeError> {
    let bundle = std::path::absolute(&options.bundle).map_err(RuntimeError::io("find", &options.bundle))?;
    let config = spec::load(&bundle.join("config.json"))?;
    let plan = Plan::new(id, &bundle, &config.spec, Caller::this())?;
    check_terminal(&plan, options, opening)?;
    let layers = read_layers(&bundle)?;
    let dir = ContainerDir::claim(root, id)?;
    let mut undo = Undo { dir: &dir, cgroup: None, child: None, done: false };
    let (container, terminal) = make_in(&dir, &plan, &config, layers, options, opening, &mut undo)?;
    undo.done = true;
    let child = undo.child.take().expect("made");
    drop(undo);
    for warning in config.warnings {
        eprintln!("{warning}");
    }
    Ok(Made { container, child, terminal })
}

fn make_in(
    dir: &ContainerDir,
    plan: &Plan,
    config: &Config,
    layers: Vec<Mount>,
    options: &CreateOptions,
    opening: Opening,
    undo: &mut Undo<'_>,
) -> Result<(Container, Option<OwnedFd>), RuntimeError> {
    let _lock = dir.lock()?;
    let hierarchies = Hierarchies::detect()?;
    let mut state = State {
        oci_version: config.spec.version().clone(),
        id: dir.id().to_owned(),
        pid: 0,
        pid_start_time: 0,
        bundle: plan.bundle.clone(),
        rootfs: plan.rootfs.path.clone(),
        created: Timestamp::now(),
        owner: nix::unistd::geteuid().as_raw(),
        annotations: config.spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        cgroup: Cgroup::planned(&hierarchies, &plan.cgroup)?,
    };
    fs::write(dir.config(), &config.bytes).map_err(RuntimeError::io("write", &dir.config()))?;
    dir.save(&state)?;

    let cgroup = undo.cgroup.insert(Cgroup::create(&hierarchies, &plan.cgroup)?);
    state.cgroup = cgroup.clone();
    cgroup.configure(&plan.cgroup)?;
    let prepared = Prepared {
        layers: layers.clone(),
        root: None,
        binds: clone_bind_sources(plan)?,
        cgroups: CgroupMount::of(cgroup),
    };
    let join = plan
        .namespaces
        .join
        .iter()
        .map(|(kind, path)| {
            let file = File::open(path).map_err(RuntimeError::io("open the namespace", path))?;
            Ok((*kind, OwnedFd::from(file)))
        })
        .collect::<Result<Vec<_>, RuntimeError>>()?;
    let console_socket = options.console_socket.as_deref().map(connect).transpose()?;
    let (ours, theirs) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
    let (opener, gate) = match opening {
        Opening::Later => (None, Gate::create(dir.path()).map_err(RuntimeError::io("make the gate in", dir.path()))?),
        Opening::Detached | Opening::Foreground => {
            let (opener, gate) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
            (Some(opener), Gate::Parent(gate))
        }
    };
    let process = plan.process.clone().ok_or_else(|| RuntimeError::config("process", "it is missing"))?;
    let keyring =
        (!options.no_new_keyring).then(|| CString::new(format!("_ses.{}", dir.id())).expect("an id has no NUL bytes"));
    let state_for_hooks = oci_state(&state, "creating");
    let init = Init {
        plan,
        prepared,
        join,
        channel: theirs,
        gate,
        console_socket,
        launch: Launch::new(process, plan.seccomp.clone(), keyring, options.preserve_fds),
        no_pivot: options.no_pivot,
        state: state_for_hooks,
    };
    let join_fds = cgroup.join_fds()?;
    let child = undo.child.insert(spawn_init(plan, cgroup, &join_fds, init)?);

    state.pid = child.pid.as_raw();
    state.pid_start_time = start_time(state.pid).unwrap_or(0);
    dir.save(&state)?;
    set_oom_score(plan, state.pid)?;
    if let Some(pid_file) = &options.pid_file {
        write_pid_file(pid_file, state.pid)?;
    }
    if let Some(opener) = &opener {
        // It stays unread until the process has come that far.
        let _ = opener.send(&Message::Go);
    }
    let terminal = serve(&ours, plan, &layers, &state, opening)?;
    Ok((Container::new(dir.clone(), state), terminal))
}

fn spawn_init(plan: &Plan, cgroup: &Cgroup, join_fds: &JoinFds, init: Init<'_>) -> Result<Child, RuntimeError> {
    let namespaces = &plan.namespaces;
    let joins_user = namespaces.join.iter().any(|(kind, _)| *kind == libc::CLONE_NEWUSER);
    let offsets = user_namespace::with_time_offsets(namespaces)?;
    let child = if joins_user {
        // The process in between joins them all, so that the container's process has none left to join.
        let mut init = init;
        let join = std::mem::take(&mut init.join);
        let join: Vec<spawn::Join<'_>> = join.iter().map(|(kind, fd)| (fd.as_fd(), *kind)).collect();
        spawn::spawn_joined(join_fds, offsets.new_kinds(namespaces), &join, || init.run())
    } else {
        let pid_namespace = init.join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWPID);
        let pid_namespace = pid_namespace.map(|(_, fd)| fd.try_clone()).transpose();
        let pid_namespace = pid_namespace.map_err(RuntimeError::call("duplicate a descriptor"))?;
        let pid_namespace = pid_namespace.as_ref().map(AsFd::as_fd);
        spawn::spawn_in(join_fds, offsets.new_kinds(namespaces), pid_namespace, || init.run())
    };
    offsets.restore()?;
    child.map_err(|error| spawn::explain(cgroup, error))
}

// Answers the container's process until it waits at its gate or, opened at once, runs its program.
fn serve(
    channel: &Channel,
    plan: &Plan,
    layers: &[Mount],
    state: &State,
    opening: Opening,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let go = || channel.send(&Message::Go).map_err(RuntimeError::call("answer the container's process"));
    let mut terminal = None;
    loop {
        match channel.receive().map_err(RuntimeError::call("hear from the container's process"))? {
            Some(Message::WantsMappings) => {
                let user = plan.namespaces.user.as_ref().expect("only a new user namespace asks");
                user_namespace::write_mappings(state.pid, user)?;
                match ctr_sys::process::is_root() {
                    true => channel
                        .send(&Message::Root(make_root_for(state.pid, plan, layers)?))
                        .map_err(RuntimeError::call("hand over the rootfs"))?,
                    false => go()?,
                }
            }
            Some(Message::WantsHooks) => {
                let told = oci_state(state, "creating");
                hooks::run("prestart", &plan.hooks.prestart, &told)?;
                hooks::run("createRuntime", &plan.hooks.create_runtime, &told)?;
                go()?;
            }
            Some(Message::Terminal(fd)) => terminal = Some(fd),
            Some(Message::Ready) if opening == Opening::Later => return Ok(terminal),
            Some(Message::Failed(failure)) => return Err(failure.into()),
            // Closed by execve: the program runs. A process that died closes it as well.
            None if opening != Opening::Later && !died(state.pid) => return Ok(terminal),
            None => return Err(RuntimeError::InitDied(how_it_died(state.pid))),
            Some(Message::Ready | Message::Go | Message::Root(_)) => {}
        }
    }
}

// A state directory is closed to everybody but its owner, so root puts together what the container's
// user could not reach.
fn make_root_for(pid: i32, plan: &Plan, layers: &[Mount]) -> Result<OwnedFd, RuntimeError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/user"));
    let user_namespace = File::open(&path).map_err(RuntimeError::io("open", &path))?;
    let failed = |errno: nix::errno::Errno| RuntimeError::io("open the rootfs", &plan.rootfs.path)(errno.into());
    let target = rootfs::open_directory(&plan.rootfs.path).map_err(failed)?;
    Ok(rootfs::make_root(&target, layers, Some(user_namespace.as_fd()))?)
}

// Ended without a report and without a program: killed, by the cgroup's memory limit or by somebody.
fn died(pid: i32) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let status = waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), flags);
    !matches!(status, Ok(WaitStatus::StillAlive)) && !was_executed(pid)
}

// PF_FORKNOEXEC in the flags of /proc/PID/stat: set from fork to exec.
fn was_executed(pid: i32) -> bool {
    const PF_FORKNOEXEC: u64 = 0x40;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & PF_FORKNOEXEC == 0)
}

fn how_it_died(pid: i32) -> String {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), flags) {
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}; is the memory limit too low?"),
        Ok(WaitStatus::Exited(_, status)) => format!("status {status}"),
        _ => "its status is not known".to_owned(),
    }
}

fn check_terminal(plan: &Plan, options: &CreateOptions, opening: Opening) -> Result<(), RuntimeError> {
    let terminal = plan.process.as_ref().is_some_and(|process| process.terminal);
    let config = |reason: &str| Err(RuntimeError::config("process.terminal", reason));
    let detached = opening != Opening::Foreground;
    match (terminal && detached, options.console_socket.is_some()) {
        (true, false) => config("cannot allocate tty if runc will detach without setting console socket"),
        (false, true) => config("cannot use console socket if runc will not detach or allocate tty"),
        _ => Ok(()),
    }
}

// With privileges the sources are opened here, where they can all be reached; a user namespace may hide
// them. Without, the container's process has to do it.
fn clone_bind_sources(plan: &Plan) -> Result<Vec<Option<OwnedFd>>, RuntimeError> {
    if !ctr_sys::process::is_root() {
        return Ok(Vec::new());
    }
    let clone = |mount: &crate::plan::MountPlan| match &mount.kind {
        MountKind::Bind { source, recursive } => {
            let tree = ctr_sys::mount::clone_tree(nix::fcntl::AT_FDCWD, source, *recursive);
            tree.map(Some).map_err(RuntimeError::io("open the source of a bind mount", source))
        }
        _ => Ok(None),
    };
    plan.mounts.iter().map(clone).collect()
}

#[derive(serde::Deserialize)]
struct MountsFile {
    mounts: Vec<Mount>,
}

// Beside config.json: how the container mounts its own root. A bundle without it has a directory.
fn read_layers(bundle: &Path) -> Result<Vec<Mount>, RuntimeError> {
    let path = bundle.join("mounts.json");
    match fs::read(&path) {
        Ok(bytes) => {
            let file: MountsFile =
                serde_json::from_slice(&bytes).map_err(|source| RuntimeError::Json { path, source })?;
            Ok(file.mounts)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(RuntimeError::io("read", &path)(error)),
    }
}

fn connect(path: &Path) -> Result<OwnedFd, RuntimeError> {
    UnixStream::connect(path).map(OwnedFd::from).map_err(RuntimeError::io("connect to the console socket", path))
}

fn set_oom_score(plan: &Plan, pid: i32) -> Result<(), RuntimeError> {
    let Some(score) = plan.process.as_ref().and_then(|process| process.oom_score_adj) else { return Ok(()) };
    let path = PathBuf::from(format!("/proc/{pid}/oom_score_adj"));
    match fs::write(&path, score.to_string()) {
        // Lowering it takes CAP_SYS_RESOURCE, which a runtime without root does not have.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !ctr_sys::process::is_root() => Ok(()),
        result => result.map_err(RuntimeError::io("write", &path)),
    }
}

/// Writes a pid file in one step: callers watch for it.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<(), RuntimeError> {
    let name = path.file_name().ok_or_else(|| RuntimeError::config("--pid-file", "it names no file"))?;
    let new = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let write = || {
        let _ = fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o666).open(&new)?;
        file.write_all(pid.to_string().as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(RuntimeError::io("write the pid file", path))
}

/// The state that `state` prints and hooks get (runtime-spec, "State").
pub(crate) fn oci_state(state: &State, status: &str) -> Value {
    let mut object = json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": state.pid,
        "status": status,
        "bundle": state.bundle,
    });
    if !state.annotations.is_empty() {
        let annotations: &BTreeMap<String, String> = &state.annotations;
        object["annotations"] = json!(annotations);
    }
    object
}

/// Takes back what was made when the rest fails.
struct Undo<'a> {
    dir: &'a ContainerDir,
    cgroup: Option<Cgroup>,
    child: Option<Child>,
    done: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(child) = &self.child {
            let _ = ctr_sys::process::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = nix::sys::wait::waitpid(child.pid, None);
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.signal_all(libc::SIGKILL);
            let _ = cgroup.delete();
        }
        let _ = self.dir.remove();
    }
}
