// SPDX-License-Identifier: Apache-2.0
//! Making a process in a container's namespaces: new ones, joined ones, or both.
//!
//! One clone3 does it, into the cgroup and all new namespaces at once. Only a user namespace that is to
//! be joined takes a process in between: it has to be entered before anything that belongs to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ctr_sys::process::{Child, Clone3, join_namespaces, pidfd_open, pidfd_send_signal, spawn};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::RuntimeError;
use crate::cgroup::{Cgroup, CgroupError, JoinFds};
use crate::error::MAKE_PROCESS;

/// Namespaces to join at once: a descriptor and the `CLONE_NEW*` of what it stands for.
pub(crate) type Join<'a> = (BorrowedFd<'a>, i32);

const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;

/// Makes a process that is born in `cgroup` and in namespaces of the kinds `new`. A pid namespace in
/// `join` is entered too; the others are `main`'s to join.
pub(crate) fn spawn_in(
    cgroup: &JoinFds,
    new: u64,
    pid_namespace: Option<BorrowedFd<'_>>,
    main: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let how = Clone3 { flags: new & !CGROUP, cgroup: cgroup.v2() };
    let joined = move || {
        // In a user namespace the cgroup files are still open with the parent's rights.
        if let Err(failure) = cgroup.join_self() {
            return report_early(failure.errno);
        }
        // Its root is where the process is, so on v1 it comes after the move.
        if new & CGROUP != 0
            && let Err(errno) = unshare(CloneFlags::CLONE_NEWCGROUP)
        {
            return report_early(errno);
        }
        main()
    };
    let Some(target) = pid_namespace else { return admit(cgroup, spawn(how, joined)?) };
    // It only concerns children; ours is the only one until it is put back.
    let own = File::open("/proc/self/ns/pid")?;
    join_namespaces(target, libc::CLONE_NEWPID)?;
    let child = spawn(how, joined);
    join_namespaces(own.as_fd(), libc::CLONE_NEWPID)?;
    admit(cgroup, child?)
}

/// Does the parent's part in bringing a new process into its cgroup.
fn admit(cgroup: &JoinFds, child: Child) -> io::Result<Child> {
    let Err(error) = cgroup.admit(child.pid) else { return Ok(child) };
    let _ = pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
    waitpid(child.pid, None)?;
    Err(io::Error::other(error))
}

/// The same by way of a process that joins all of `join` first, a user namespace among them.
pub(crate) fn spawn_joined(
    cgroup: &JoinFds,
    new: u64,
    join: &[Join<'_>],
    main: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let (mut reader, writer) = pipe()?;
    let how = Clone3 { flags: 0, cgroup: cgroup.v2() };
    let middle = admit(
        cgroup,
        spawn(how, || {
            let inner = || {
                cgroup.join_self().map_err(|failure| io::Error::from(failure.errno))?;
                join_all(join)?;
                spawn(Clone3 { flags: new | libc::CLONE_PARENT as u64, cgroup: None }, main)
            };
            let answer =
                inner().map(|child| child.pid.as_raw()).unwrap_or_else(|error| -error.raw_os_error().unwrap_or(1));
            let _ = File::from(writer).write_all(&answer.to_ne_bytes());
            0
        })?,
    )?;
    waitpid(middle.pid, None)?;
    let mut answer = [0; 4];
    reader.read_exact(&mut answer)?;
    match i32::from_ne_bytes(answer) {
        // Our child, so the number stays its own until we reap it.
        pid if pid > 0 => Ok(Child { pid: Pid::from_raw(pid), pidfd: pidfd_open(Pid::from_raw(pid))? }),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

// A namespace is joined with rights over the user namespace that it belongs to: that may be one further out
// than the one to join, as with a time namespace that has offsets, or that one itself.
fn join_all(join: &[Join<'_>]) -> io::Result<()> {
    let (user, others): (Vec<_>, Vec<_>) = join.iter().partition(|(_, kinds)| kinds & libc::CLONE_NEWUSER != 0);
    let refused = |(fd, kinds): &Join<'_>| join_namespaces(*fd, *kinds).is_err();
    let from_within: Vec<_> = others.into_iter().filter(refused).collect();
    user.into_iter().chain(from_within).try_for_each(|(fd, kinds)| join_namespaces(fd, kinds))
}

/// Why a process could not be made: its cgroup is a reason that clone3 has in common with no other call.
pub(crate) fn explain(cgroup: &Cgroup, error: io::Error) -> RuntimeError {
    let error = match error.downcast::<CgroupError>() {
        Ok(error) => return error.into(),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EOPNOTSUPP) => cgroup.explain_clone(&error).into(),
        _ => RuntimeError::call(MAKE_PROCESS)(error),
    }
}

// The channel belongs to `main`, which does not run: the parent sees its end of file and this line.
fn report_early(error: Errno) -> i32 {
    let _ = writeln!(io::stderr(), "unable to enter the container's cgroups: {error}");
    1
}

fn pipe() -> io::Result<(File, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((reader.into(), writer))
}
