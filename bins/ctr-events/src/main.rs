// SPDX-License-Identifier: Apache-2.0
//! `ctr-events`: prints the event log, from its beginning or a cursor on, and what is still to come.
//!
//! It reads only; who appends to the log is whoever does something.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Parser;
use ctr_cli::{Context, Error, StateArgs};
use ctr_store::event::{Cursor, Entries, EventLog};
use ctr_store::{StateDir, Watch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Prints, follows and replays the event log, a JSON object a line.
#[derive(Debug, Parser)]
#[command(name = "ctr-events", version)]
struct Args {
    /// Go on with events as they happen
    #[arg(short, long)]
    follow: bool,
    /// Begin after this event's cursor, or with what is still to come for "now"
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,
    /// Print the events of every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    state: StateArgs,
}

fn main() -> ExitCode {
    ctr_cli::run(print)
}

fn print(args: Args) -> Result<ExitCode, Error> {
    let namespace = if args.all_namespaces { None } else { Some(args.state.namespace()?) };
    let log = EventLog::open(&StateDir::open(&args.state.dir()?)?)?;
    let since = match args.since.as_deref() {
        None => None,
        Some("now") => Some(log.end()?),
        Some(text) => Some(text.parse::<Cursor>()?),
    };
    let watch = args.follow.then(|| log.watch()).transpose()?;
    let mut printer =
        Printer { entries: log.read(since)?, namespace, stdout: BufWriter::new(io::stdout().lock()), reported: 0 };
    printer.print_available()?;
    if let Some(watch) = watch {
        while wait(&watch)? {
            printer.print_available()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Printer {
    entries: Entries,
    namespace: Option<String>,
    stdout: BufWriter<StdoutLock<'static>>,
    reported: u64,
}

impl Printer {
    fn print_available(&mut self) -> Result<(), Error> {
        for entry in &mut self.entries {
            let entry = entry?;
            if self.namespace.as_ref().is_none_or(|wanted| *wanted == entry.namespace) {
                let body = entry.text.strip_suffix('}').expect("an event is an object");
                writeln!(self.stdout, "{body},\"cursor\":\"{}\"}}", entry.cursor)
                    .unable_to(|| "write to standard output")?;
            }
        }
        self.stdout.flush().unable_to(|| "write to standard output")?;
        let skipped = self.entries.skipped();
        if skipped > self.reported {
            let count = skipped - self.reported;
            ctr_cli::tell(&format!("ctr-events: warning: left out {count} lines of the log that are no events"));
            self.reported = skipped;
        }
        Ok(())
    }
}

/// Waits for new events; false when nobody reads standard output any more.
fn wait(watch: &Watch) -> Result<bool, Error> {
    let stdout = io::stdout();
    // No event is asked of standard output: an error is reported all the same, and a pipe whose reader
    // is gone has one.
    let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN), PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(io::Error::from(errno)).unable_to(|| "wait for events"),
    }
    if fds[1].any().unwrap_or(false) {
        return Ok(false);
    }
    watch.drain()?;
    Ok(true)
}
