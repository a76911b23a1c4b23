// SPDX-License-Identifier: Apache-2.0
//! Making a container and running it at once: detached, or in the foreground to its end.

use std::os::fd::AsFd;
use std::path::Path;

use ctr_sys::process::{Child, pidfd_send_signal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::RuntimeError;
use crate::caller::notify::Notify;
use crate::caller::tty::{Proxy, Side};
use crate::container::Container;
use crate::create::{self, CreateOptions, Made, Opening};
use crate::timing::{self, Stage};

/// How a container is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// How it is made.
    pub create: CreateOptions,
    /// Return once it runs, and leave it to whoever reaps it.
    pub detach: bool,
    /// Keep the container when it has ended, to be deleted later.
    pub keep: bool,
    /// Do not adopt what the container's processes leave behind.
    pub no_subreaper: bool,
}

/// Makes a container and lets it run. `started` is called once its program is executed.
///
/// In the foreground it returns the status to exit with: the program's, or 128 and the signal that
/// killed it. Signals are passed on to the program meanwhile.
pub fn run(root: &Path, id: &str, options: &RunOptions, started: impl FnOnce(&Container)) -> Result<u8, RuntimeError> {
    if options.detach {
        let made = create::make(root, id, &options.create, Opening::Detached)?;
        made.container.run_poststart().inspect_err(|_| drop(made.container.delete(true)))?;
        started(&made.container);
        if let Some(notify) = &made.notify {
            notify.wait(made.child.pid.as_raw(), &made.child.pidfd)?;
        }
        return Ok(0);
    }
    let attendance = Attendance::begin(options.no_subreaper)?;
    let made = create::make(root, id, &options.create, Opening::Foreground)?;
    attendance.finish(made, options.keep, |made| {
        made.container.run_poststart()?;
        timing::mark(Stage::Hooks);
        started(&made.container);
        Ok(())
    })
}

/// What this process does for a container in the foreground: it passes signals and the terminal on, reaps what
/// is left behind, and deletes it in the end.
#[derive(Debug)]
pub(crate) struct Attendance(Signals);

impl Attendance {
    /// Begins before there is a process, so that no signal is lost.
    pub(crate) fn begin(no_subreaper: bool) -> Result<Self, RuntimeError> {
        if !no_subreaper {
            nix::sys::prctl::set_child_subreaper(true).map_err(RuntimeError::errno("become a subreaper"))?;
        }
        Signals::block().map(Self)
    }

    /// Goes on to the container's end, and returns the status to exit with. `begun` is called first; if it fails,
    /// that is the end.
    pub(crate) fn finish(
        self,
        mut made: Made,
        keep: bool,
        begun: impl FnOnce(&Made) -> Result<(), RuntimeError>,
    ) -> Result<u8, RuntimeError> {
        let outcome = begun(&made).and_then(|()| {
            let terminal = made.terminal.take();
            let proxy = terminal.map(Proxy::start).transpose().map_err(RuntimeError::call("use the terminal"))?;
            supervise(&made.child, &self.0, proxy, made.notify.as_ref())
        });
        timing::mark(Stage::Wait);
        if outcome.is_err() || !keep {
            let deleted = match made.container.delete(true) {
                Err(RuntimeError::NotFound(_)) => Ok(()), // by somebody else, who has ended it
                result => result,
            };
            timing::mark(Stage::Delete);
            return outcome.and_then(|status| deleted.map(|()| status));
        }
        outcome
    }
}

/// Waits for a process' end with the terminal between it and this one, and signals passed on.
pub(crate) fn supervise(
    child: &Child,
    signals: &Signals,
    mut proxy: Option<Proxy>,
    notify: Option<&Notify>,
) -> Result<u8, RuntimeError> {
    loop {
        let sides = proxy.as_ref().map(Proxy::poll_fds).unwrap_or_default();
        let mut fds = vec![
            PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(sides.iter().map(|(_, fd)| fd.clone()));
        fds.extend(notify.map(|notify| PollFd::new(notify.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(RuntimeError::errno("wait for the container")(errno)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let awake: Vec<Side> =
            sides.iter().zip(&ready[2..]).filter(|(_, ready)| **ready).map(|((side, _), _)| *side).collect();
        if let Some(terminal) = &mut proxy {
            terminal.transfer(&awake);
        }
        if let Some((notify, ready)) = notify.and_then(|notify| Some((notify, notify.read()?))) {
            // The one to watch is this process, which ends as the container does.
            let _ = notify.pass_on(&ready, std::process::id() as i32);
        }
        if ready[1] {
            // What the program wrote last is still in the terminal.
            if let Some(proxy) = proxy {
                proxy.finish();
            }
            return reap(child.pid);
        }
        // Later, because to the dead nothing can be passed on.
        if ready[0] {
            pass_signals_on(signals, child, proxy.as_ref())?;
        }
    }
}

fn pass_signals_on(signals: &Signals, child: &Child, proxy: Option<&Proxy>) -> Result<(), RuntimeError> {
    while let Ok(Some(info)) = signals.0.read_signal() {
        match info.ssi_signo as i32 {
            libc::SIGCHLD => reap_orphans(child.pid),
            libc::SIGWINCH if proxy.is_some() => proxy.into_iter().for_each(Proxy::resize),
            // Of a pipe that somebody closed: not meant for the container.
            libc::SIGPIPE => {}
            number => match pidfd_send_signal(child.pidfd.as_fd(), number) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => result.map_err(RuntimeError::call("pass a signal on"))?,
            },
        }
    }
    Ok(())
}

// What the container's processes left behind, if this process adopts it.
fn reap_orphans(first: Pid) {
    use nix::sys::wait::{Id, waitid};
    loop {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::All, look) {
            Ok(status) if status.pid().is_some_and(|pid| pid != first) => {
                let _ = waitpid(status.pid(), Some(WaitPidFlag::WNOHANG));
            }
            _ => return,
        }
    }
}

fn reap(pid: Pid) -> Result<u8, RuntimeError> {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status as u8),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as u8),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(RuntimeError::errno("wait for the container")(errno)),
        }
    }
}

/// All signals, blocked and readable.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals of this process; a program that is executed gets them unblocked.
    pub(crate) fn block() -> Result<Self, RuntimeError> {
        let all = SigSet::all();
        all.thread_block().map_err(RuntimeError::errno("block signals"))?;
        let fd = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        fd.map(Self).map_err(RuntimeError::errno("make a signalfd"))
    }
}
