// SPDX-License-Identifier: Apache-2.0
//! The last steps of a process before its program: rights, user, directory, and execution.
//!
//! Shared by a container's first process and by `exec`. The order is what matters here, and each step
//! says why it stands where it does.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use ctr_sys::affinity::{self, CpuSet};
use ctr_sys::process as sys;
use nix::sys::personality::{self, Persona};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};

use crate::intel_rdt::RdtGroup;
use crate::plan::{MemoryPolicy, Plan, ProcessPlan};
use crate::process::explain;
use crate::process::filter::{self, Awaited, Owed};
use crate::process::keyring::SessionKeyring;
use crate::process::label::Labels;
use crate::process::report::{Channel, InitFailure, Message, Step, StepResult};
use crate::{RuntimeError, warn};

/// A process about to become a program.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) process: ProcessPlan,
    seccomp: Option<Awaited>,
    /// Whether the runtime is without root.
    rootless: bool,
    personality: Option<i32>,
    memory_policy: Option<MemoryPolicy>,
    /// None: the caller's keyring is kept.
    keyring: Option<SessionKeyring>,
    labels: Option<Labels>,
    /// Of a group in resctrl.
    entrances: Vec<File>,
    /// How many descriptors from 3 up the program inherits.
    preserve_fds: u32,
    terminal: Option<OwnedFd>,
    program: CString,
}

impl Launch {
    /// Plans how a process of a container gets to its program, and opens what it needs of the host for that. Its
    /// seccomp filter is owed to it.
    pub(crate) fn new(
        mut process: ProcessPlan,
        plan: &Plan,
        keyring: Option<SessionKeyring>,
        group: Option<&RdtGroup>,
        preserve_fds: u32,
    ) -> Result<(Self, Option<Owed>), RuntimeError> {
        // In a user namespace it has them all, whatever this process has.
        if !plan.namespaces.is_private(libc::CLONE_NEWUSER) {
            let ours = ctr_sys::capability::permitted().map_err(RuntimeError::call("read the capabilities"))?;
            let lacking = process.capabilities.withhold(ours);
            if !lacking.is_empty() {
                let lacking = lacking.join(" ");
                warn(format_args!("ignoring capabilities that this runtime does not have itself: {lacking}"));
            }
        }
        let filter =
            plan.seccomp.as_ref().map(filter::pair).transpose().map_err(RuntimeError::call("make a socket pair"))?;
        let (owed, seccomp) = filter.unzip();
        let launch = Self {
            seccomp,
            rootless: plan.cgroup.rootless,
            personality: plan.personality,
            memory_policy: plan.memory_policy.clone(),
            keyring,
            labels: Labels::of(&process)?,
            entrances: group.map_or(Ok(Vec::new()), RdtGroup::entrances)?,
            preserve_fds,
            terminal: None,
            program: process.args[0].clone(),
            process,
        };
        Ok((launch, owed))
    }

    /// The lowest descriptor that the program does not inherit.
    pub(crate) fn first_own_fd(&self) -> i32 {
        3_i32.saturating_add_unsigned(self.preserve_fds)
    }

    /// Makes a terminal the process' standard streams and controlling terminal.
    pub(crate) fn use_terminal(&mut self, slave: OwnedFd) {
        self.terminal = Some(slave);
    }

    /// The descriptors that it needs on its way.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let labels = self.labels.iter().map(Labels::as_raw_fd);
        labels.chain(self.entrances.iter().map(AsRawFd::as_raw_fd)).chain(self.seccomp.iter().map(AsRawFd::as_raw_fd))
    }

    /// Does everything that can be done before the container is started, up to finding the program.
    pub(crate) fn prepare(&mut self, parent: &Channel) -> StepResult<()> {
        // Before a seccomp filter may forbid it. What is opened from here on is close-on-exec by itself.
        sys::close_on_exec_from(self.first_own_fd()).step("close what the program must not inherit")?;
        for mut entrance in std::mem::take(&mut self.entrances) {
            entrance.write_all(b"0").step("enter the group of Intel RDT")?;
        }
        if let Some(keyring) = &self.keyring {
            self.labels.as_ref().map_or(Ok(()), Labels::mark_new_keys)?;
            keyring.join()?;
            self.labels.as_ref().map_or(Ok(()), Labels::unmark_new_keys)?;
        }
        if let Some(slave) = self.terminal.take() {
            attach_terminal(slave.as_fd())?;
        }
        // It opens a file, which a limit may forbid.
        self.set_home();
        self.set_limits(parent)?;
        let process = &self.process;
        if process.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().step("set no-new-privileges")?;
        }
        if let Some(scheduler) = process.scheduler {
            sys::set_scheduler(scheduler).step_with(|| {
                match scheduler.policy as i32 {
                    // The kernel wants it to be free to run on every CPU.
                    libc::SCHED_DEADLINE => {
                        "set the scheduler (process scheduler can't be used together with AllowedCPUs)"
                    }
                    _ => "set the scheduler",
                }
                .to_owned()
            })?;
        }
        if let Some(priority) = process.io_priority {
            sys::set_io_priority(priority).step("set the I/O priority")?;
        }
        self.choose_cpus()?;
        if let Some(personality) = self.personality {
            personality::set(Persona::from_bits_retain(personality)).step("set the personality")?;
        }
        if let Some(policy) = &self.memory_policy {
            ctr_sys::memory::set_policy(policy.mode, &policy.nodes).step("set the memory policy")?;
        }
        // The host's /proc goes with it.
        if let Some(labels) = self.labels.take() {
            labels.apply()?;
        }
        if !self.process.no_new_privileges {
            // Without no-new-privileges it takes CAP_SYS_ADMIN, which is about to go.
            self.load_seccomp(parent)?;
        }
        self.become_user()?;
        self.program = explain::find_program(&self.process.args[0], &self.process.env)?;
        if self.process.no_new_privileges && self.seccomp.as_ref().is_some_and(|filter| filter.notify) {
            // Whoever creates the container hands the listener on, and is gone when it is started.
            self.load_seccomp(parent)?;
        }
        Ok(())
    }

    // The runtime may have been kept to some CPUs; that is no reason to keep the container there.
    fn choose_cpus(&self) -> StepResult<()> {
        let affinity = &self.process.exec_cpu_affinity;
        if let Some(cpus) = &affinity.last {
            return affinity::set(cpus).step_with(|| format!("set the final CPU affinity to {cpus:?}"));
        }
        if affinity.initial.is_none() {
            let _ = affinity::set(&CpuSet::all());
        }
        Ok(())
    }

    fn set_limits(&self, parent: &Channel) -> StepResult<()> {
        for &(resource, soft, hard) in &self.process.rlimits {
            match sys::set_rlimit(None, resource, soft, hard) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return ask_for_limits(parent),
                result => result.step_with(|| limit_step(resource, soft, hard))?,
            }
        }
        Ok(())
    }

    fn become_user(&mut self) -> StepResult<()> {
        let process = &self.process;
        let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
        process.capabilities.limit_bounding()?;
        ctr_sys::capability::keep_through_setuid(true).step("keep the capabilities")?;
        own_stdio(uid)?;
        let groups: Vec<Gid> = process.groups.iter().copied().map(Gid::from_raw).collect();
        match setgroups(&groups) {
            // A user namespace made without privileges cannot change them; asking for none is no failure.
            Err(nix::errno::Errno::EPERM) if groups.is_empty() && setgroups_denied() => {}
            result => result.step("set the supplementary groups")?,
        }
        setresgid(gid, gid, gid).step_with(|| format!("become group {gid}"))?;
        // As root a directory of another user may be out of reach (NFS), and as the user one of root's.
        let before = self.change_directory();
        setresuid(uid, uid, uid).step_with(|| format!("become user {uid}"))?;
        if before.is_err() {
            self.change_directory()?;
        }
        verify_directory(&self.process.cwd)?;
        if let Some(mask) = self.process.umask {
            umask(Mode::from_bits_truncate(mask));
        }
        ctr_sys::capability::keep_through_setuid(false).step("end keeping the capabilities")?;
        self.process.capabilities.apply()
    }

    fn change_directory(&self) -> StepResult<()> {
        let cwd = &self.process.cwd;
        let failed = || format!("chdir to cwd ({:?}) set in config.json failed", cwd.display().to_string());
        nix::unistd::chdir(cwd).step_with(failed)
    }

    // Programs expect it; a config without it gets what the container's passwd says.
    fn set_home(&mut self) {
        if variable(&self.process.env, "HOME").is_none_or(<[u8]>::is_empty) {
            let home = home_of(self.process.uid).unwrap_or_else(|| PathBuf::from("/"));
            if let Ok(entry) = CString::new(format!("HOME={}", home.display())) {
                self.process.env.retain(|entry| entry.as_bytes() != b"HOME=");
                self.process.env.push(entry);
            }
        }
    }

    /// Loads the seccomp filter, unless that is done.
    pub(crate) fn load_seccomp(&mut self, parent: &Channel) -> StepResult<()> {
        let Some(filter) = self.seccomp.take() else { return Ok(()) };
        let (flags, notify) = (filter.flags, filter.notify);
        let program = filter.receive()?;
        let failed = || match flags.is_available() {
            true => "load the seccomp filter".to_owned(),
            false => "load the seccomp filter: this kernel does not know all of its flags".to_owned(),
        };
        if !notify {
            return ctr_sys::seccomp::load(&program, flags).step_with(failed);
        }
        let listener = ctr_sys::seccomp::load_with_listener(&program, flags).step_with(failed)?;
        match parent.hand_over(listener, self.rootless).step("hand the seccomp listener over")? {
            true => Ok(()),
            false => Err(InitFailure::finding("the runtime ended before it took the seccomp listener")),
        }
    }

    /// Executes the program.
    pub(crate) fn execute(&mut self, parent: &Channel) -> StepResult<Infallible> {
        sys::reset_signals();
        // Last of all, so that the profile need not allow anything but the program's own calls.
        self.load_seccomp(parent)?;
        let error = sys::execve(&self.program, &self.process.args, &self.process.env);
        Err(explain::exec_failure(&self.program, &error))
    }
}

// Without a user namespace the parent may do no more than this process, but then it says so.
fn ask_for_limits(parent: &Channel) -> StepResult<()> {
    parent.send(&Message::WantsLimits).step("ask for the resource limits")?;
    match parent.receive() {
        Ok(Some(Message::Go)) => Ok(()),
        _ => Err(InitFailure::finding("the runtime ended while the resource limits were being set")),
    }
}

/// What setting a limit is called.
pub(crate) fn limit_step(resource: u32, soft: u64, hard: u64) -> String {
    format!("set the limit {} to {soft}:{hard}", sys::rlimit_name(resource))
}

/// Makes a terminal the standard streams and the controlling terminal of this session.
fn attach_terminal(slave: BorrowedFd<'_>) -> StepResult<()> {
    ctr_sys::terminal::make_controlling(slave).step("make the terminal the controlling one")?;
    nix::unistd::dup2_stdin(slave).step("use the terminal for standard input")?;
    nix::unistd::dup2_stdout(slave).step("use the terminal for standard output")?;
    nix::unistd::dup2_stderr(slave).step("use the terminal for standard error")
}

// So that the program can open /dev/stdout. The group stays: it may be the host's tty group.
fn own_stdio(uid: Uid) -> StepResult<()> {
    for fd in ctr_sys::inherit::standard_streams() {
        let Ok(status) = fstat(fd) else { continue }; // closed
        let is_null = status.st_rdev == nix::sys::stat::makedev(1, 3)
            && SFlag::from_bits_truncate(status.st_mode).contains(SFlag::S_IFCHR);
        if status.st_uid == uid.as_raw() || is_null {
            continue;
        }
        match fchown(fd, Some(uid), None) {
            // A file of a user that is not mapped, or on a read-only file system.
            Err(nix::errno::Errno::EPERM | nix::errno::Errno::EROFS | nix::errno::Errno::EINVAL) => {}
            result => result.step("give the standard streams to the container's user")?,
        }
    }
    Ok(())
}

fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").map_or(true, |text| text.starts_with(b"deny"))
}

// A working directory outside the root, reached through a leaked descriptor, would be the host's
// (CVE-2024-21626).
fn verify_directory(cwd: &Path) -> StepResult<()> {
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(InitFailure::finding(format!("the working directory {} is outside the container", cwd.display()))),
    }
}

fn home_of(uid: u32) -> Option<PathBuf> {
    const LIMIT: u64 = 10 << 20;
    let mut passwd = String::new();
    let file = nix::fcntl::open(
        "/etc/passwd",
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let file = File::from(file.ok()?);
    // The image may have put a pipe there (CVE-2024-9676).
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    std::io::Read::read_to_string(&mut std::io::Read::take(file, LIMIT), &mut passwd).ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()))?;
    line.split(':').nth(5).filter(|home| home.starts_with('/')).map(PathBuf::from)
}

/// The value of a variable.
pub(crate) fn variable<'a>(env: &'a [CString], name: &str) -> Option<&'a [u8]> {
    env.iter()
        .map(CString::as_c_str)
        .map(CStr::to_bytes)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
