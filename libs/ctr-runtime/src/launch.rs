// SPDX-License-Identifier: Apache-2.0
//! The last steps of a process before its program: rights, user, directory, and execution.
//!
//! Shared by a container's first process and by `exec`. The order is what matters here, and each step
//! says why it stands where it does.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ctr_sys::affinity::{self, CpuSet};
use ctr_sys::process as sys;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};

use crate::explain;
use crate::plan::ProcessPlan;
use crate::report::{InitFailure, Step, StepResult};
use crate::seccomp::Filter;

/// A process about to become a program.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) process: ProcessPlan,
    pub(crate) seccomp: Option<Filter>,
    /// The session keyring's name; none: the caller's keyring is kept.
    pub(crate) keyring: Option<CString>,
    /// How many descriptors from 3 up the program inherits.
    pub(crate) preserve_fds: u32,
    terminal: Option<OwnedFd>,
    /// Where the LSM's label for the program is written, opened while the host's /proc can be reached.
    label: Option<(File, String)>,
    program: CString,
}

impl Launch {
    pub(crate) fn new(process: ProcessPlan, seccomp: Option<Filter>, keyring: Option<CString>, preserve: u32) -> Self {
        let program = process.args[0].clone();
        Self { process, seccomp, keyring, preserve_fds: preserve, terminal: None, label: None, program }
    }

    /// The lowest descriptor that the program does not inherit.
    pub(crate) fn first_own_fd(&self) -> i32 {
        3_i32.saturating_add_unsigned(self.preserve_fds)
    }

    /// Makes a terminal the process' standard streams and controlling terminal.
    pub(crate) fn use_terminal(&mut self, slave: OwnedFd) {
        self.terminal = Some(slave);
    }

    /// Opens what is written to the host's /proc later, when that is out of reach.
    pub(crate) fn open_attributes(&mut self) -> StepResult<()> {
        let open = |path: &str, label: String| {
            let file = File::options().write(true).open(path);
            file.step_with(|| format!("open {path} for the label {label:?}")).map(|file| Some((file, label)))
        };
        self.label = match (&self.process.apparmor_profile, &self.process.selinux_label) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(InitFailure::finding("apparmorProfile and selinuxLabel cannot both be applied"));
            }
            (Some(profile), None) => open("/proc/thread-self/attr/apparmor/exec", format!("exec {profile}"))?,
            (None, Some(label)) => open("/proc/thread-self/attr/exec", label.clone())?,
        };
        Ok(())
    }

    /// Does everything that can be done before the container is started, up to finding the program.
    pub(crate) fn prepare(&mut self) -> StepResult<()> {
        if let Some(name) = &self.keyring {
            match sys::join_new_session_keyring(name) {
                // A kernel without keys, or a seccomp filter around us that forbids them.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {}
                result => result.step("make a session keyring")?,
            }
        }
        if let Some(slave) = self.terminal.take() {
            attach_terminal(slave.as_fd())?;
        }
        // It opens a file, which a limit may forbid.
        self.set_home();
        let process = &self.process;
        for &(resource, soft, hard) in &process.rlimits {
            sys::set_rlimit(resource, soft, hard)
                .step_with(|| format!("set the limit {} to {soft}:{hard}", sys::rlimit_name(resource)))?;
        }
        if process.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().step("set no-new-privileges")?;
        }
        if let Some(scheduler) = process.scheduler {
            sys::set_scheduler(scheduler).step("set the scheduler")?;
        }
        if let Some(priority) = process.io_priority {
            sys::set_io_priority(priority).step("set the I/O priority")?;
        }
        self.choose_cpus()?;
        if let Some((file, label)) = &mut self.label {
            file.write_all(label.as_bytes()).step_with(|| format!("set the label {label:?}"))?;
        }
        if !process.no_new_privileges {
            // Without no-new-privileges it takes CAP_SYS_ADMIN, which is about to go.
            self.load_seccomp()?;
        }
        self.become_user()?;
        self.program = explain::find_program(&self.process.args[0], &self.process.env)?;
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

    fn load_seccomp(&self) -> StepResult<()> {
        match &self.seccomp {
            None => Ok(()),
            Some(filter) => ctr_sys::seccomp::load(&filter.program, filter.flags).step("load the seccomp filter"),
        }
    }

    /// Executes the program.
    pub(crate) fn execute(&mut self) -> StepResult<Infallible> {
        sys::reset_signals();
        sys::close_on_exec_from(self.first_own_fd()).step("close what the program must not inherit")?;
        if self.process.no_new_privileges {
            // Last of all, so that the profile need not allow anything but the program's own calls.
            self.load_seccomp()?;
        }
        let error = sys::execve(&self.program, &self.process.args, &self.process.env);
        Err(explain::exec_failure(&self.program, &error))
    }
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
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
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
