// SPDX-License-Identifier: Apache-2.0
//! `ctr-shim`: starts a container through an OCI runtime, returns, and lives on as its supervisor.
//!
//! The process that was called reads the record and waits; its child does everything else ([`supervise`])
//! and is on its own from the first moment, so that nothing that happens to the caller reaches the
//! container.

mod console;
mod job;
mod log;
mod oom;
mod outputs;
mod runtime;
mod supervise;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use ctr_cli::{Context, Error, StateArgs};
use ctr_record::{ErrorKind, Record};
use ctr_store::read_bounded;
use ctr_store::sched::Inherited;
use ctr_store::task::LogFormat;
use ctr_sys::process::{Clone3, spawn};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::job::Job;

/// A record larger than this is no record.
const MAX_RECORD: u64 = 16 << 20;

/// Starts the container of a record and keeps it: its output, its end, its events.
#[derive(Debug, Parser)]
#[command(name = "ctr-shim", version)]
struct Args {
    /// Read the record from a file instead of standard input
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// OCI runtime: a program in $PATH, or a path
    #[arg(long, value_name = "RUNTIME", default_value = "ctr-run")]
    runtime: PathBuf,
    /// How the container's output is kept
    #[arg(long, value_name = "FORMAT", default_value = "cri")]
    log_format: Format,
    /// Where the container's output is kept [default: log in the task's directory]
    #[arg(long, value_name = "FILE")]
    log_path: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Cri,
    Json,
    Raw,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Cri => Self::Cri,
            Format::Json => Self::Json,
            Format::Raw => Self::Raw,
        }
    }
}

fn main() -> ExitCode {
    ctr_cli::run(shim)
}

fn shim(args: Args) -> Result<ExitCode, Error> {
    let place = Inherited::take();
    close_inherited();
    let record = read_record(&args)?;
    args.state.check(&record)?;
    let job = Job::prepare(&args, record)?;
    let (report, reporter) = pipe2(OFlag::O_CLOEXEC).map_err(std::io::Error::from).unable_to(|| "make a pipe")?;
    let mut report = Some(File::from(report));
    let main = || {
        // With this end open here, a caller that is gone would not be noticed.
        drop(report.take());
        supervise::run(job, place, File::from(reporter))
    };
    let supervisor = spawn(Clone3::default(), main).unable_to(|| "make a supervisor")?;
    let mut line = String::new();
    let mut report = report.expect("only the child takes it");
    report.read_to_string(&mut line).unable_to(|| "hear from the supervisor")?;
    if line.is_empty() {
        // It has said on standard error what went wrong, unless it was killed.
        return match ctr_sys::wait::wait(supervisor.pid).unable_to(|| "hear from the supervisor")? {
            ctr_sys::wait::End::Exited(code) => Ok(ExitCode::from(code)),
            ctr_sys::wait::End::Killed(signal) => {
                Err(Error::new(ErrorKind::Failed, format!("the supervisor was killed by signal {signal}")))
            }
        };
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).unable_to(|| "write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn read_record(args: &Args) -> Result<Record, Error> {
    let Some(path) = &args.record else { return ctr_cli::single_record() };
    let text = read_bounded(path, MAX_RECORD)?;
    let invalid = || Error::new(ErrorKind::Invalid, format!("{} is not UTF-8", path.display()));
    Ok(Record::parse(&String::from_utf8(text).map_err(|_| invalid())?)?)
}

/// Closes what the caller left open: a pipe's other end would otherwise wait for the container's end.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // What is inherited is what is not close-on-exec; to take it and drop it closes it.
    numbers.into_iter().for_each(|number| drop(ctr_sys::inherit::take(number)));
}
