// SPDX-License-Identifier: Apache-2.0
//! A command once per record: as many at a time as there are places, output in the records' order.
//!
//! Each run is a fork of this process that waits its turn and becomes the command. The next one is made
//! when the one before has its place, so that at most one waits in the machine's queue for each caller,
//! and the order of the records is the order of the starts.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::ExitCode;

use ctr_cli::{Context, Error};
use ctr_record::{ErrorKind, Record};
use ctr_store::StateDir;
use ctr_store::sched::Scheduler;
use ctr_sys::process::{Child, Clone3, spawn};
use ctr_sys::wait;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, dup2_stdin, dup2_stdout, getppid, pipe2};

use crate::lines::Lines;
use crate::{Args, become_command, wait_turn};

/// A run whose output has not been printed yet.
struct Run {
    /// Until it has ended.
    child: Option<Child>,
    output: Option<File>,
    code: u8,
}

/// Runs the command for each record; the exit code is that of the first record whose run failed.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut lines = Lines::default();
    let mut runs = VecDeque::new();
    // Readable (its end) once the newest run has its place or is gone.
    let mut queued: Option<OwnedFd> = None;
    let mut seen_any = false;
    let mut first_failure = 0;
    loop {
        if queued.is_none()
            && let Some(line) = lines.next_line()
        {
            seen_any = true;
            match begin(args, &line) {
                Ok((run, granted)) => {
                    runs.push_back(run);
                    queued = Some(granted);
                }
                Err(error) => runs.push_back(report(&error)),
            }
            continue;
        }
        while let Some(run) = runs.pop_front() {
            if run.child.is_some() {
                runs.push_front(run);
                break;
            }
            first_failure = if first_failure == 0 { run.code } else { first_failure };
            print(run)?;
        }
        let wants_input = queued.is_none() && lines.wants_input();
        if runs.is_empty() && !wants_input {
            break;
        }
        let ready = sleep(wants_input, queued.as_ref(), &runs)?;
        if ready.input
            && let Err(error) = lines.fill().unable_to(|| "read standard input")
        {
            seen_any = true;
            runs.push_back(report(&error));
        }
        if ready.granted {
            queued = None;
        }
        for index in ready.ended {
            if let Some(child) = runs[index].child.take() {
                runs[index].code = wait::wait(child.pid).unable_to(|| "wait for a command")?.status();
            }
        }
    }
    match seen_any {
        true => Ok(ExitCode::from(first_failure)),
        false => Err(ctr_cli::no_record()),
    }
}

fn report(error: &Error) -> Run {
    ctr_cli::render("ctr-sched", error);
    Run { child: None, output: None, code: error.exit_code() }
}

fn begin(args: &Args, line: &[u8]) -> Result<(Run, OwnedFd), Error> {
    let text = str::from_utf8(line).map_err(|_| Error::new(ErrorKind::Invalid, "a record is not UTF-8"))?;
    let record = Record::parse(text)?;
    args.state.check(&record)?;
    let scheduler = Scheduler::open(&StateDir::open(&record.state_dir)?)?;
    // Files and not pipes: nobody has to keep up with them, and their end is the command's end even when
    // something that it started lives on.
    let mut input = memory_file("record")?;
    input.write_all(line).and_then(|()| input.rewind()).unable_to(|| "hold a record")?;
    let output = memory_file("output")?;
    let (granted, held_until_exec) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).unable_to(|| "make a pipe")?;
    let parent = Pid::this();
    let main = || {
        let error = match wait_turn_of(parent, &scheduler, args, &input, &output) {
            Ok(place) => become_command(&args.command, place),
            Err(error) => error.with_exit_code(125),
        };
        ctr_cli::render("ctr-sched", &error);
        i32::from(error.exit_code())
    };
    let child = spawn(Clone3::default(), main).unable_to(|| "make a process")?;
    drop(held_until_exec);
    Ok((Run { child: Some(child), output: Some(output), code: 0 }, granted))
}

fn memory_file(name: &str) -> Result<File, Error> {
    let file =
        memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(io::Error::from).unable_to(|| "make a file in memory")?;
    Ok(file.into())
}

// In the child.
fn wait_turn_of(parent: Pid, scheduler: &Scheduler, args: &Args, input: &File, output: &File) -> Result<RawFd, Error> {
    let connect = || {
        dup2_stdin(input)?;
        dup2_stdout(output)?;
        // One that nobody waits for any more must not start anything.
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() == parent { Ok(()) } else { Err(Errno::ECHILD) }
    };
    connect().map_err(io::Error::from).unable_to(|| "get ready")?;
    let place = wait_turn(scheduler, args.limit, &args.command).unable_to(|| "wait for a place to start in")?;
    set_pdeathsig(None).map_err(io::Error::from).unable_to(|| "get ready")?;
    Ok(place)
}

#[derive(Default)]
struct Ready {
    input: bool,
    granted: bool,
    ended: Vec<usize>,
}

fn sleep(wants_input: bool, queued: Option<&OwnedFd>, runs: &VecDeque<Run>) -> Result<Ready, Error> {
    let stdin = io::stdin();
    let running = runs.iter().enumerate().filter_map(|(index, run)| Some((index, run.child.as_ref()?.pidfd.as_fd())));
    let (indices, mut fds): (Vec<usize>, Vec<PollFd<'_>>) =
        running.map(|(index, pidfd)| (index, PollFd::new(pidfd, PollFlags::POLLIN))).unzip();
    fds.extend(queued.map(|granted| PollFd::new(granted.as_fd(), PollFlags::POLLIN)));
    if wants_input {
        fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
    }
    match poll(&mut fds, PollTimeout::NONE) {
        Err(Errno::EINTR) => return Ok(Ready::default()),
        other => other.map_err(io::Error::from).unable_to(|| "wait")?,
    };
    let mut happened = fds.iter().map(|fd| fd.any().unwrap_or(false));
    let ended = indices.into_iter().filter(|_| happened.next() == Some(true)).collect();
    let granted = queued.is_some() && happened.next() == Some(true);
    Ok(Ready { ended, granted, input: happened.next() == Some(true) })
}

fn print(run: Run) -> Result<(), Error> {
    let Some(mut output) = run.output else { return Ok(()) };
    let mut stdout = io::stdout().lock();
    let copied = output.rewind().and_then(|()| io::copy(&mut output, &mut stdout)).and_then(|_| stdout.flush());
    copied.unable_to(|| "write to standard output")
}
