// SPDX-License-Identifier: Apache-2.0
//! Another process in a container that runs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ctr_record::TaskStatus;
use ctr_sys::affinity::{self, CpuSet};
use ctr_sys::process::{self as sys, Child};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::caller::pid_file;
use crate::caller::pidfd_socket::{PidfdSocket, Role};
use crate::caller::tty::{self, Proxy};
use crate::cgroup::CgroupBelow;
use crate::container::Container;
use crate::create::check_preserved;
use crate::create::serve;
use crate::plan::{Plan, ProcessPlan, Rlimit};
use crate::process::fate::check_executed;
use crate::process::filter::deliver;
use crate::process::keyring::SessionKeyring;
use crate::process::launch::Launch;
use crate::process::report::{Channel, Message, Step, StepResult};
use crate::process::spawn;
use crate::rootfs::beneath::Root;
use crate::rootfs::device;
use crate::run::{Signals, supervise};
use crate::timing::{self, Stage};
use crate::{RuntimeError, progress, rootfs};

/// How a process is executed in a container.
#[derive(Debug)]
pub struct ExecOptions {
    /// The process.
    pub process: ProcessPlan,
    /// Return once it runs.
    pub detach: bool,
    /// A Unix socket that is sent the master of its terminal.
    pub console_socket: Option<PathBuf>,
    /// A Unix socket that is sent a descriptor of it.
    pub pidfd_socket: Option<PathBuf>,
    /// A file that is written its pid, in decimal without a newline.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 up it inherits.
    pub preserve_fds: u32,
    /// Execute it even though the container is paused; it runs when that is resumed.
    pub ignore_paused: bool,
    /// The cgroup below the container's that it joins.
    pub cgroup: CgroupBelow,
}

/// Executes a process in a container. In the foreground it returns the status to exit with.
pub fn exec(container: &Container, mut options: ExecOptions) -> Result<u8, RuntimeError> {
    check_state(container, options.ignore_paused)?;
    check_terminal(&options)?;
    check_preserved(options.preserve_fds)?;
    let plan = container.plan()?;
    timing::mark(Stage::Plan);
    let target = container.pidfd()?.ok_or_else(|| RuntimeError::NotRunning(container.state().id.clone()))?;
    let console_socket = match &options.console_socket {
        Some(path) => {
            let socket = UnixStream::connect(path).map_err(RuntimeError::io("connect to the console socket", path))?;
            Some(OwnedFd::from(socket))
        }
        None => None,
    };
    let pidfd_socket = options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
    let signals = if options.detach { None } else { Some(Signals::block()?) };
    let (ours, theirs) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
    let first = plan.process.as_ref().and_then(|process| process.oom_score_adj);
    let oom_score = options.process.oom_score_adj.or(first);
    let affinity = &mut options.process.exec_cpu_affinity;
    if let (true, Some(first)) = (affinity.is_default(), &plan.process) {
        *affinity = first.exec_cpu_affinity.clone();
    }
    let initial = affinity.initial.clone();
    options.process.console_size = tty::first_size(&options.process, !options.detach);
    let limits = options.process.rlimits.clone();
    let keyring = (!container.state().no_new_keyring).then(|| SessionKeyring::of_further(&plan));
    let (launch, filter) =
        Launch::new(options.process, &plan, keyring, container.state().intel_rdt.as_ref(), options.preserve_fds)?;
    let root = match plan.namespaces.is_private(libc::CLONE_NEWNS) {
        true => None,
        false => Some(root_of(container, &target)?),
    };
    let program = launch.process.args[0].clone();
    let process = ExecProcess { launch, channel: theirs, console_socket, root };
    progress::tell(|| format!("nsexec container setup: joining the namespaces of process {}", container.state().pid));
    if let Some(cpus) = &initial {
        progress::tell(|| format!("nsexec: affinity: {}", cpus.mask()));
    }
    let child = on_cpus(initial.as_ref(), || spawn_exec(container, &plan, target.as_fd(), &options.cgroup, process))?;
    let guard = KillOnDrop(&child);
    if let Some(socket) = pidfd_socket {
        socket.send(&child, Role::Further)?;
    }
    timing::mark(Stage::Clone);
    progress::tell(|| format!("child process in init(): it has pid {}", child.pid));
    progress::tell(|| format!("setns_init: about to exec {program:?}"));
    deliver(filter, &plan)?;
    ctr_sys::early::release_view();
    serve::set_oom_score(oom_score, child.pid)?;
    let terminal = await_execution(&ours, &child, &limits, |listener| {
        serve::send_listener(&plan, listener, &child, container.state().to_oci("running"))
    })?;
    check_executed(child.pid)?;
    if let Some(pid_file) = &options.pid_file {
        pid_file::write(pid_file, child.pid.as_raw())?;
    }
    std::mem::forget(guard);
    timing::mark(Stage::Container);
    match signals {
        None => Ok(0),
        Some(signals) => {
            let proxy = terminal.map(Proxy::start).transpose().map_err(RuntimeError::call("use the terminal"))?;
            supervise(&child, &signals, proxy, None)
        }
    }
}

fn check_state(container: &Container, ignore_paused: bool) -> Result<(), RuntimeError> {
    match container.status() {
        TaskStatus::Running | TaskStatus::Created => Ok(()),
        TaskStatus::Paused if ignore_paused => Ok(()),
        TaskStatus::Paused => Err(RuntimeError::ExecInPaused(container.state().id.clone())),
        TaskStatus::Stopped => Err(RuntimeError::ExecInStopped(container.state().id.clone())),
        TaskStatus::Creating | TaskStatus::Unknown => Err(RuntimeError::NotRunning(container.state().id.clone())),
    }
}

fn check_terminal(options: &ExecOptions) -> Result<(), RuntimeError> {
    let refuse = |reason: &str| Err(RuntimeError::config("process.terminal", reason));
    match (options.process.terminal, options.detach, options.console_socket.is_some()) {
        (true, true, false) => refuse("cannot allocate tty if runc will detach without setting console socket"),
        (_, false, true) | (false, _, true) => {
            refuse("cannot use console socket if runc will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}

// A container in the host's mount namespace has changed its root only.
fn root_of(container: &Container, first: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
    let path = PathBuf::from(format!("/proc/{}/root", container.state().pid));
    let root = rootfs::open_directory(&path).map_err(|errno| RuntimeError::io("open", &path)(errno.into()))?;
    // As long as it has not been reaped its number is its own.
    match sys::pidfd_send_signal(first.as_fd(), 0) {
        Ok(()) => Ok(root),
        Err(_) => Err(RuntimeError::NotRunning(container.state().id.clone())),
    }
}

// A process is born on the CPUs of its parent, and into its cgroup.
fn on_cpus<T>(cpus: Option<&CpuSet>, make: impl FnOnce() -> Result<T, RuntimeError>) -> Result<T, RuntimeError> {
    let Some(cpus) = cpus else { return make() };
    let before = affinity::get().map_err(RuntimeError::call("read the CPU affinity"))?;
    affinity::set(cpus).map_err(RuntimeError::call("set the initial CPU affinity"))?;
    let made = make();
    let _ = affinity::set(&before);
    made
}

fn spawn_exec(
    container: &Container,
    plan: &Plan,
    target: BorrowedFd<'_>,
    below: &CgroupBelow,
    process: ExecProcess,
) -> Result<Child, RuntimeError> {
    let cgroup = container.cgroup();
    let join = match below.is_none() {
        true => cgroup.join_fds_beside(Pid::from_raw(container.state().pid))?,
        false => cgroup.join_fds_below(below)?,
    };
    let explain = |error: io::Error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::EOPNOTSUPP) if !below.is_none() => cgroup.explain_below(below, error).into(),
        _ => spawn::explain(cgroup, error),
    };
    // The mount namespace even of a container without one of its own: this runtime may be in another.
    let own = plan.namespaces.new as i32 | libc::CLONE_NEWNS;
    let mut kinds = plan.namespaces.join.iter().fold(own, |kinds, (kind, _)| kinds | kind);
    if container.state().restored {
        // Processes of different times could not be checkpointed together again.
        kinds |= libc::CLONE_NEWTIME;
    }
    if kinds & libc::CLONE_NEWUSER != 0 {
        let join_all = [(target, kinds)];
        let child = spawn::spawn_joined(&join, 0, &join_all, || process.run(None, true));
        return child.map_err(explain);
    }
    let rest = kinds & !libc::CLONE_NEWPID;
    let pid_namespace = (kinds & libc::CLONE_NEWPID != 0).then_some(target);
    let child = spawn::spawn_in(&join, 0, pid_namespace, || process.run(Some((target, rest)), false));
    child.map_err(explain)
}

/// What becomes the process.
struct ExecProcess {
    launch: Launch,
    channel: Channel,
    console_socket: Option<OwnedFd>,
    /// The container's root, where its mount namespace does not say.
    root: Option<OwnedFd>,
}

impl ExecProcess {
    fn run(mut self, join: Option<spawn::Join<'_>>, in_user_namespace: bool) -> i32 {
        let mut keep: Vec<RawFd> = vec![self.channel.as_raw_fd()];
        keep.extend(self.console_socket.iter().map(AsRawFd::as_raw_fd));
        keep.extend(self.launch.descriptors());
        keep.extend(self.root.iter().map(AsRawFd::as_raw_fd));
        keep.extend(join.iter().map(|(target, _)| target.as_raw_fd()));
        if sys::close_inherited(self.launch.first_own_fd(), &mut keep).is_err() {
            return 255;
        }
        let Err(failure) = self.become_process(join, in_user_namespace);
        let _ = self.channel.send(&Message::Failed(failure));
        255
    }

    fn become_process(
        &mut self,
        join: Option<spawn::Join<'_>>,
        in_user_namespace: bool,
    ) -> StepResult<std::convert::Infallible> {
        // Nobody inside may look at this process while it still has what the host gave it
        // (CVE-2016-9962).
        sys::forbid_inspection().step("forbid inspection")?;
        if let Some((target, kinds)) = join {
            sys::join_namespaces(target, kinds).step("join the container's namespaces")?;
        }
        if in_user_namespace {
            crate::process::init::become_root_of_user_namespace()?;
            sys::forbid_inspection().step("forbid inspection")?;
        }
        if let Some(root) = self.root.take() {
            rootfs::change_root(root.as_fd())?;
        }
        nix::unistd::setsid().step("begin a session")?;
        if self.launch.process.terminal {
            self.open_terminal()?;
        }
        self.launch.prepare(&self.channel)?;
        self.launch.execute(&self.channel)
    }

    fn open_terminal(&mut self) -> StepResult<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(Path::new("/"), flags, Mode::empty()).step("open the container's root")?;
        let console = device::open_console(Root(root.as_fd()), self.launch.process.uid)?;
        if let Some(size) = self.launch.process.console_size {
            ctr_sys::terminal::set_size(console.slave.as_fd(), size).step("set the terminal's size")?;
        }
        match self.console_socket.take() {
            None => {
                tty::leave_newlines(console.master.as_fd()).step("configure the terminal")?;
                self.channel.send(&Message::Terminal(console.master)).step("hand over the terminal")?;
            }
            Some(socket) => ctr_sys::socket::send_fd(socket.as_fd(), b"/dev/ptmx", console.master.as_fd())
                .step("send the terminal to the console socket")?,
        }
        self.launch.use_terminal(console.slave);
        Ok(())
    }
}

fn await_execution(
    channel: &Channel,
    child: &Child,
    limits: &[Rlimit],
    send_listener: impl Fn(OwnedFd) -> Result<(), RuntimeError>,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let mut terminal = None;
    // If it has ended meanwhile, the next message says how.
    let go = || drop(channel.send(&Message::Go));
    loop {
        match channel.receive().map_err(RuntimeError::call("hear from the process"))? {
            None => return Ok(terminal),
            Some(Message::Terminal(fd)) => terminal = Some(fd),
            Some(Message::WantsLimits) => {
                serve::set_limits(limits, child.pid)?;
                go();
            }
            Some(Message::Listener(listener)) => {
                // Before the process goes on: its program must not run without the agent.
                send_listener(listener.take(child)?)?;
                go();
            }
            Some(Message::Failed(failure)) => return Err(failure.into()),
            Some(_) => return Err(RuntimeError::call("hear from the process")(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// A process that is not to be left when the rest fails.
struct KillOnDrop<'a>(&'a Child);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        let _ = sys::pidfd_send_signal(self.0.pidfd.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.0.pid, None);
    }
}
