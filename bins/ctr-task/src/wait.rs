// SPDX-License-Identifier: Apache-2.0
//! `wait`: sleeps until containers have ended, and relays how.
//!
//! An end is known from exit.json, which appears before anybody is told, and after the task was deleted
//! from the event log. Meanwhile this sleeps on the task's directory and on the supervisor's process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ctr_cli::{Context, Error};
use ctr_record::{Classify, ErrorKind, Payload, Timestamp};
use ctr_store::Watch;
use ctr_store::event::EventLog;
use ctr_store::task::{Exit, TaskError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::store::Store;

/// The exit code of our own failures; the others are the container's.
pub(crate) const FAILED: u8 = 125;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Return when the first of them has ended
    #[arg(long)]
    any: bool,
    /// Return when all of them have ended (the default)
    #[arg(long, conflicts_with = "any")]
    all: bool,
    /// Give up after this many seconds, with exit code 75
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Containers
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "a number of seconds is expected".to_owned())
}

/// What is printed of a container that has ended.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended<'a> {
    id: &'a str,
    #[serde(flatten)]
    end: End,
}

#[derive(Serialize)]
#[serde(untagged)]
enum End {
    Kept(Exit),
    /// The event log knows no more than this.
    #[serde(rename_all = "camelCase")]
    Recalled {
        exit_status: u32,
        exited_at: Timestamp,
    },
}

impl End {
    fn status(&self) -> u32 {
        match self {
            Self::Kept(exit) => exit.exit_status,
            Self::Recalled { exit_status, .. } => *exit_status,
        }
    }
}

/// A container that is waited for.
struct Awaited<'a> {
    id: &'a str,
    /// The exit code that it contributes, once it is known.
    code: Option<u8>,
    /// Readable when its supervisor ends, or it itself, when it has lost its supervisor.
    process: Option<OwnedFd>,
}

pub(crate) fn wait(store: &Store, args: &Args) -> Result<ExitCode, Error> {
    // One that the clock cannot hold is none.
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let own = |error: Error| error.with_exit_code(FAILED);
    let watch = Watch::open().map_err(|error| own(error.into()))?;
    let mut awaited: Vec<Awaited<'_>> = args.ids.iter().map(|id| Awaited { id, code: None, process: None }).collect();
    loop {
        for waiting in awaited.iter_mut().filter(|waiting| waiting.code.is_none()) {
            waiting.look(store, &watch);
            if args.any
                && let Some(code) = waiting.code
            {
                return Ok(ExitCode::from(code));
            }
        }
        if awaited.iter().all(|waiting| waiting.code.is_some()) {
            let first = awaited.iter().filter_map(|waiting| waiting.code).find(|&code| code != 0);
            return Ok(ExitCode::from(first.unwrap_or(0)));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let pending: Vec<&str> = awaited.iter().filter(|w| w.code.is_none()).map(|w| w.id).collect();
            return Err(Error::new(ErrorKind::Temporary, format!("still not ended: {}", pending.join(", "))));
        }
        sleep(&watch, &awaited, left).map_err(own)?;
    }
}

impl Awaited<'_> {
    fn look(&mut self, store: &Store, watch: &Watch) {
        let code = match self.find_end(store, watch) {
            Ok(None) => return,
            Ok(Some(end)) => {
                let code = u8::try_from(end.status()).unwrap_or(u8::MAX);
                ctr_cli::emit(&Ended { id: self.id, end }).map(|()| code)
            }
            Err(error) => Err(error),
        };
        self.process = None;
        self.code = Some(code.unwrap_or_else(|error| {
            ctr_cli::render("ctr-task", &error.with_exit_code(FAILED));
            FAILED
        }));
    }

    /// How it ended; `None` when it has not, and then there is something to sleep on.
    fn find_end(&mut self, store: &Store, watch: &Watch) -> Result<Option<End>, Error> {
        let task = match store.tasks.open(self.id) {
            Err(TaskError::NotFound { .. }) => return self.recall(store).map(Some),
            task => task?,
        };
        // Before the look, so that nothing happens in between; a second time changes nothing.
        match watch.add(task.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.recall(store).map(Some),
            added => added?,
        }
        if let Some(exit) = task.exit()? {
            return Ok(Some(End::Kept(exit)));
        }
        self.process = task.supervisor()?;
        if self.process.is_none() {
            self.process = task.process()?;
        }
        // It may have ended while we looked for who keeps it.
        match task.exit()? {
            Some(exit) => Ok(Some(End::Kept(exit))),
            None if self.process.is_some() => Ok(None),
            None => self.recall_unkept(store).map(Some),
        }
    }

    /// How a container ended whose supervisor could not write it down.
    fn recall_unkept(&self, store: &Store) -> Result<End, Error> {
        self.recall(store).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = format!("the end of {} is unknown: its supervisor was killed before it", self.id);
                Error::new(ErrorKind::Failed, message)
            }
            _ => error,
        })
    }

    /// How a container that is gone ended.
    fn recall(&self, store: &Store) -> Result<End, Error> {
        let log = EventLog::open(&store.state)?;
        match log.last_exit(&store.namespace, self.id)? {
            Some(Payload::TaskExit { exit_status, exited_at, .. }) => Ok(End::Recalled { exit_status, exited_at }),
            _ => Err(TaskError::NotFound { id: self.id.to_owned() }.into()),
        }
    }
}

fn sleep(watch: &Watch, awaited: &[Awaited<'_>], left: Option<Duration>) -> Result<(), Error> {
    let mut fds = vec![PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    let processes = awaited.iter().filter_map(|waiting| waiting.process.as_ref());
    fds.extend(processes.map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
    // Rounded up: a rest of less than a millisecond must not become a busy loop.
    let timeout =
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(io::Error::from(errno)).unable_to(|| "wait"),
    }
    Ok(watch.drain()?)
}
