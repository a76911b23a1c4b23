// SPDX-License-Identifier: Apache-2.0
//! `events`: what a container uses, again and again, and when it runs out of memory.
//!
//! Each event is a line of JSON as runc prints it.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ctr_cli::{Context, Error};
use ctr_runtime::cgroup::OomWatch;
use ctr_runtime::cgroup::stats::Stats;
use ctr_runtime::intel_rdt::RdtStats;
use ctr_runtime::{Container, RuntimeError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::{Value, json};

use crate::quantity;

/// The command's arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// The container's id
    id: String,
    /// Time from one statistics event to the next, as 500ms, 5s or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// Print one statistics event at once, and no other
    #[arg(long)]
    stats: bool,
}

impl Events {
    /// Which container it is about.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match quantity::parse_duration(text) {
        Some(duration) if duration.is_zero() => Err("duration interval must be greater than 0".to_owned()),
        Some(duration) => Ok(duration),
        None => Err("it must be a time such as 500ms, 5s or 1m30s".to_owned()),
    }
}

/// The `data` of a statistics event.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    stats: &'a Stats,
    intel_rdt: RdtStats,
    // runc tells of interfaces that it has made itself, and makes none
    network_interfaces: Option<()>,
}

/// Prints events until the container ends.
pub(crate) fn perform(container: &Container, args: &Events) -> Result<(), Error> {
    let id = &container.state().id;
    let pidfd = container.pidfd()?.ok_or_else(|| RuntimeError::NotRunning(id.clone()))?;
    if args.stats {
        return print_stats(container);
    }
    let mut watch = container.cgroup().watch_oom()?;
    let mut next = Instant::now() + args.interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(watch.as_ref().map(|watch| PollFd::new(watch.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno)).unable_to(|| "wait for events"),
        }
        let ended = fds[0].any().unwrap_or(false);
        drop(fds);
        // It may have ended for lack of memory.
        if watch.as_mut().map(OomWatch::take).transpose()? == Some(true) {
            print_line(&json!({"type": "oom", "id": id}))?;
        }
        if ended {
            return Ok(());
        }
        let now = Instant::now();
        if now >= next {
            match print_stats(container) {
                // Somebody deletes it at this moment.
                Err(_) if container.pidfd()?.is_none() => return Ok(()),
                result => result?,
            }
            // What was missed, as by a stopped process, is not made up for.
            next = now + args.interval;
        }
    }
}

fn print_stats(container: &Container) -> Result<(), Error> {
    let stats = container.cgroup().stats()?;
    let data = Data { stats: &stats, intel_rdt: container.rdt_stats()?, network_interfaces: None };
    print_line(&json!({"type": "stats", "id": container.state().id, "data": data}))
}

fn print_line(event: &Value) -> Result<(), Error> {
    let mut line = event.to_string();
    line.push('\n');
    std::io::stdout().write_all(line.as_bytes()).unable_to(|| "write to standard output")
}
