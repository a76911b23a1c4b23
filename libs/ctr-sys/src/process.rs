// SPDX-License-Identifier: Apache-2.0
//! Processes: clone3, pidfds, and what a process may set about itself that nix has no words for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Whether the effective user is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How [`spawn`] makes a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clone3<'a> {
    /// `CLONE_NEW*` and `CLONE_PARENT`.
    pub flags: u64,
    /// The cgroup v2 directory to be born in (`CLONE_INTO_CGROUP`).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A process that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's pid namespace.
    pub pid: Pid,
    /// The process itself, whatever becomes of the number.
    pub pidfd: OwnedFd,
}

/// Makes a process that runs `main` in a copy of this one's memory and ends with the status it returns.
///
/// Fails with `EBUSY` in a process of several threads: a lock that another thread holds would stay
/// locked in the copy for ever. As there is none, `main` may allocate and format as it likes, and use the
/// standard library's files and commands. What it must not do:
///
/// - Look up names of users, groups or hosts, or local time: the C library would read files, and load
///   libraries, of whatever root it is in by then, which may be a hostile image's (CVE-2019-14271).
/// - Write to the standard streams, which are the container's and may never be read; it has a channel.
/// - Keep descriptors that it does not need ([`close_inherited`] comes first): they may be locks, which last as
///   long as one process has them, and pipes, whose end somebody waits for.
/// - Drop what belongs to the parent's stack frames: these never run again. So it ends by `_exit`, without
///   handlers, and a panic that unwound would run them: programs that use this abort at one.
pub fn spawn(how: Clone3<'_>, main: impl FnOnce() -> i32) -> io::Result<Child> {
    if !is_single_threaded() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is valid and means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = how.flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    // With CLONE_PARENT the child inherits the exit signal of its new parent's other child, and
    // clone3 insists on 0.
    args.exit_signal = if how.flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = how.cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000; // libc's constant is too narrow for it
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of the memory, and goes on with a copy of this
    // stack (args.stack is 0). This process has one thread, so no lock is held by a thread that the copy
    // lacks. `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = main();
            // SAFETY: _exit takes an integer and does not return; atexit handlers and buffers are the parent's.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(Child {
            pid: Pid::from_raw(pid as libc::pid_t),
            // SAFETY: CLONE_PIDFD has stored a new descriptor that nobody else knows.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Whether this process has only one thread.
pub fn is_single_threaded() -> bool {
    // The kernel refuses to take one thread out of a group of several, and does nothing for one alone.
    // SAFETY: unshare takes an integer; for a single thread these flags change nothing.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// Refers to a process by its number (pidfd_open(2)).
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two integers are passed, no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal to the process that a pidfd refers to; real-time signals have no [`Signal`].
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means that of kill(2).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Joins the namespaces of `kinds` (`CLONE_NEW*`) of the process that a pidfd refers to, or the one
/// namespace that an open `/proc/PID/ns/…` is (setns(2)).
pub fn join_namespaces(target: BorrowedFd<'_>, kinds: i32) -> io::Result<()> {
    // SAFETY: two integers are passed, no memory; what it changes is this thread's namespaces only.
    let result = unsafe { libc::setns(target.as_raw_fd(), kinds) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a copy of a descriptor of the process that a pidfd refers to (pidfd_getfd(2)).
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: three integers are passed, no memory.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just put this descriptor into our table (close-on-exec), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// Marks every descriptor from `first` up close-on-exec (close_range(2)).
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: three integers are passed; setting close-on-exec invalidates nobody's descriptor.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a descriptor is open and was inherited through exec: what this program opens itself is
/// close-on-exec.
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes and returns plain integers; a bad number is EBADF.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

/// Lets a descriptor survive the execution of another program, which gets it by its number.
pub fn keep_through_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes and returns plain integers; a bad number is EBADF, and nobody's descriptor is closed.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// In a process made by [`spawn`]: puts a descriptor at a number, which another program then gets it by.
///
/// What had the number is closed. As in [`close_inherited`], whoever owns that here never runs again.
pub fn put_at(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: two integers are passed. That nobody uses what had the number any more is argued above.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// In a process made by [`spawn`]: closes every descriptor that is not in `keep`, but for the standard
/// streams and for those below `first` that this program was given.
///
/// A copy of a process holds its parent's ends of pipes and its parent's locks, and would keep both alive.
/// The values that own them here belong to the parent's stack frames, which never run again in the copy:
/// nothing of them is used or dropped. What `main` itself uses must be in `keep`.
pub fn close_inherited(first: RawFd, keep: &mut [RawFd]) -> io::Result<()> {
    keep.sort_unstable();
    // What this program opened itself may have got one of these numbers.
    for fd in (libc::STDERR_FILENO + 1..first).filter(|fd| !keep.contains(fd) && !is_inherited(*fd)) {
        close_between(fd, fd)?;
    }
    let mut from = first;
    for &fd in keep.iter().filter(|fd| **fd >= first) {
        close_between(from, fd - 1)?;
        from = fd + 1;
    }
    close_between(from, RawFd::MAX)
}

fn close_between(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: three integers are passed. That nobody uses the descriptors any more is argued above.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last as libc::c_uint, 0 as libc::c_uint) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs another program in place of this one (execve(2)); returns only when that fails.
pub fn execve(path: &std::ffi::CStr, args: &[std::ffi::CString], env: &[std::ffi::CString]) -> io::Error {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Runs the program that `file` is in place of this one (execveat(2), `AT_EMPTY_PATH`).
pub fn fexecve(file: BorrowedFd<'_>, args: &[std::ffi::CString], env: &[std::ffi::CString]) -> io::Error {
    match nix::unistd::fexecve(file, args, env) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Lets the signals that ask a process to end do so even in the first process of a PID namespace, which no
/// default action ever ends; until [`reset_signals`]. The exit status is a shell's for the signal.
pub fn end_when_asked() {
    extern "C" fn end(number: libc::c_int) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(128 + number) }
    }
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the handler takes the one integer that it is given and calls nothing unsafe in a handler.
        unsafe { libc::signal(number, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// Gives the signals their default actions and blocks none, as a program expects to begin.
pub fn reset_signals() {
    for number in 1..=libc::SIGRTMAX() {
        if number == libc::SIGKILL || number == libc::SIGSTOP {
            continue;
        }
        // SAFETY: SIG_DFL is no handler function; an invalid number only fails.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// The signal's number from `TERM`, `SIGTERM`, `15` or `RTMIN+1`.
pub fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? };
        return Some(libc::SIGRTMIN() + offset).filter(|n| offset >= 0 && *n <= libc::SIGRTMAX());
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse::<i32>().ok()? };
        return Some(libc::SIGRTMAX() - offset).filter(|n| offset >= 0 && *n >= libc::SIGRTMIN());
    }
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

/// Lets a command begin with no signal blocked, whatever this process blocks.
pub fn unblock_signals_in(command: &mut Command) -> &mut Command {
    let unblock = || Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?);
    // SAFETY: between fork and exec it makes one call that is async-signal-safe, and touches no memory but
    // its own stack.
    unsafe { command.pre_exec(unblock) }
}

/// Sets a resource limit of a process, or of this one (prlimit(2)); `resource` is an `RLIMIT_*`.
pub fn set_rlimit(process: Option<Pid>, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let pid = process.map_or(0, Pid::as_raw);
    // SAFETY: the new limit is a valid rlimit64 that outlives the call; the old one is not asked for.
    let result = unsafe { libc::prlimit64(pid, resource as _, &raw const limit, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes this process unreadable to others of its user (`PR_SET_DUMPABLE` 0): no ptrace, no `/proc/PID/fd`.
pub fn forbid_inspection() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// Sets the NIS domain name of this uts namespace.
pub fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of one string that outlives the call.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the I/O priority of this process; `priority` is a class shifted by 13 and a level (ioprio_set(2)).
pub fn set_io_priority(priority: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: three integers are passed, no memory.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What sched_setattr(2) sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SchedulerAttributes {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets the scheduling policy of this process.
pub fn set_scheduler(attributes: SchedulerAttributes) -> io::Result<()> {
    // SAFETY: sched_attr is plain integers, for which zero is valid.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of::<libc::sched_attr>() as u32;
    attr.sched_policy = attributes.policy;
    attr.sched_flags = attributes.flags;
    attr.sched_nice = attributes.nice;
    attr.sched_priority = attributes.priority;
    attr.sched_runtime = attributes.runtime;
    attr.sched_deadline = attributes.deadline;
    attr.sched_period = attributes.period;
    // SAFETY: `attr` is an initialised sched_attr that states its size and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The names of `RLIMIT_*`, in the order of their numbers.
pub const RLIMIT_NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// The name of an `RLIMIT_*`.
pub fn rlimit_name(resource: u32) -> &'static str {
    RLIMIT_NAMES.get(resource as usize).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_numbers_and_ranges() {
        for (text, number) in
            [("TERM", 15), ("sigkill", 9), ("SIGHUP", 1), ("9", 9), ("64", 64), ("RTMIN+1", libc::SIGRTMIN() + 1)]
        {
            assert_eq!(parse_signal(text), Some(number), "{text}");
        }
        for bad in ["", "0", "65", "-1", "NOPE", "SIG", "RTMIN+99", "RTMIN-1", "9x"] {
            assert_eq!(parse_signal(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_command_begins_with_no_signal_blocked() {
        let blocked = nix::sys::signal::SigSet::all();
        let before = blocked.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK).unwrap();
        let status = unblock_signals_in(Command::new("sh").args(["-c", "kill -TERM $$"])).status();
        before.thread_set_mask().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status.unwrap()), Some(libc::SIGTERM));
    }
}
