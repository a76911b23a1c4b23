// SPDX-License-Identifier: Apache-2.0
//! `logs`: what a container wrote, as it wrote it: its standard output to ours, its errors to ours.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use clap::ValueEnum;
use ctr_cli::{Context, Error};
use ctr_store::Watch;
use ctr_store::task::{Decoder, LogFormat, Stream, Task};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::store::Store;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what was written to this stream
    #[arg(long, value_name = "STREAM")]
    stream: Option<Wanted>,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Begin this many lines before the end
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Go on with what is written, until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Container
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Stdout,
    Stderr,
}

impl From<Wanted> for Stream {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Stdout => Self::Stdout,
            Wanted::Stderr => Self::Stderr,
        }
    }
}

pub(crate) fn logs(store: &Store, args: &Args) -> Result<ExitCode, Error> {
    let task = store.tasks.open(&args.id)?;
    let log = &task.file().log;
    if log.format == LogFormat::Raw && (args.stream.is_some() || args.timestamps) {
        return Err(Error::misuse(format!("the log of {} is raw: it knows neither streams nor times", args.id)));
    }
    let unable = || format!("read the log {}", log.path.display());
    // Watched before the first look, so that nothing is missed.
    let watch = Watch::open()?;
    if args.follow {
        watch.add(task.path())?;
        watch.add(&log.path)?;
    }
    let file = File::open(&log.path).unable_to(unable)?;
    let decoder = Decoder::new(log.format);
    let input = BufReader::with_capacity(64 << 10, file);
    let mut reader = Reader { input, line: Vec::new(), raw: log.format == LogFormat::Raw };
    let mut printer = Printer::of(args);
    if let Some(lines) = args.tail {
        reader.skip_to_last(lines, &decoder, &printer).unable_to(unable)?;
    }
    let supervisor = if args.follow { task.supervisor()? } else { None };
    loop {
        // Looked at before the log is read: what is in the log once it has ended is all there will be.
        let ended = !args.follow || has_ended(store, &task, &supervisor)?;
        while let Some(line) = reader.next_line().unable_to(unable)? {
            printer.print(&decoder, line)?;
        }
        printer.flush()?;
        if ended || !sleep(&watch, &supervisor)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

struct Reader {
    input: BufReader<File>,
    line: Vec<u8>,
    raw: bool,
}

impl Reader {
    /// The next line that is complete; raw logs may end without a newline, and are read as far as they go.
    fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        // What is left of a line that was not complete the last time stays in front.
        if self.raw || self.line.ends_with(b"\n") {
            self.line.clear();
        }
        let read = self.input.read_until(b'\n', &mut self.line)?;
        let complete = self.line.ends_with(b"\n") || (self.raw && read > 0);
        Ok(complete.then_some(&self.line[..]))
    }

    /// Goes to where the last `count` lines of output begin. A line may be several entries.
    fn skip_to_last(&mut self, count: usize, decoder: &Decoder, printer: &Printer) -> io::Result<()> {
        let mut starts = VecDeque::new();
        let mut offset = 0;
        // Whether the line that the stream is in has begun; another stream's may lie between its parts.
        let mut within = [false; 2];
        while let Some(line) = self.next_line()? {
            let length = line.len() as u64;
            if let Some(entry) = decoder.decode(line).filter(|entry| printer.wants(entry.stream)) {
                let stream = entry.stream.unwrap_or(Stream::Stdout) as usize;
                if !within[stream] {
                    starts.push_back(offset);
                }
                within[stream] = !entry.text.ends_with(b"\n");
            }
            offset += length;
            if starts.len() > count {
                starts.pop_front();
            }
        }
        let start = starts.front().copied().unwrap_or(offset);
        self.line.clear();
        self.input.seek(SeekFrom::Start(start)).map(drop)
    }
}

struct Printer {
    wanted: Option<Stream>,
    timestamps: bool,
    outputs: [BufWriter<Box<dyn Write>>; 2],
    /// Whether a stream's next entry goes on with a line.
    within: [bool; 2],
    damaged: u64,
}

impl Printer {
    fn of(args: &Args) -> Self {
        let outputs: [Box<dyn Write>; 2] = [Box::new(io::stdout()), Box::new(io::stderr())];
        Self {
            wanted: args.stream.map(Stream::from),
            timestamps: args.timestamps,
            outputs: outputs.map(BufWriter::new),
            within: [false; 2],
            damaged: 0,
        }
    }

    fn wants(&self, stream: Option<Stream>) -> bool {
        self.wanted.is_none() || stream.is_none() || stream == self.wanted
    }

    fn print(&mut self, decoder: &Decoder, line: &[u8]) -> Result<(), Error> {
        let Some(entry) = decoder.decode(line) else {
            self.damaged += 1;
            return Ok(());
        };
        if !self.wants(entry.stream) {
            return Ok(());
        }
        let stream = entry.stream.unwrap_or(Stream::Stdout) as usize;
        let output = &mut self.outputs[stream];
        let mut print = || {
            if let (true, false, Some(time)) = (self.timestamps, self.within[stream], &entry.time) {
                write!(output, "{time} ")?;
            }
            output.write_all(&entry.text)
        };
        print().unable_to(|| "write to standard output")?;
        self.within[stream] = !entry.text.ends_with(b"\n");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.damaged > 0 {
            let damaged = std::mem::take(&mut self.damaged);
            ctr_cli::tell(&format!("ctr-task: warning: left out {damaged} damaged lines of the log"));
        }
        self.outputs.iter_mut().try_for_each(Write::flush).unable_to(|| "write to standard output")
    }
}

/// Whether nothing more will be written.
fn has_ended(store: &Store, task: &Task, supervisor: &Option<OwnedFd>) -> Result<bool, Error> {
    let Some(supervisor) = supervisor else { return Ok(true) };
    if task.exit()?.is_some() || store.tasks.open(&task.file().id).is_err() {
        return Ok(true);
    }
    let mut fds = [PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO).map_err(io::Error::from)? > 0)
}

/// Sleeps until there may be more; false when nobody reads standard output any more.
fn sleep(watch: &Watch, supervisor: &Option<OwnedFd>) -> Result<bool, Error> {
    let stdout = io::stdout();
    // An error is reported though no event is asked for, and a pipe without a reader has one.
    let mut fds = vec![PollFd::new(stdout.as_fd(), PollFlags::empty()), PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    fds.extend(supervisor.iter().map(|supervisor| PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(io::Error::from(errno)).unable_to(|| "wait for output"),
    }
    let hung_up = fds[0].any().unwrap_or(false);
    watch.drain()?;
    Ok(!hung_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(log: &str, count: usize, stream: Option<Wanted>) -> String {
        let path = std::env::temp_dir().join(format!("ctr-task-logs-{}-{count}-{stream:?}", std::process::id()));
        std::fs::write(&path, log).unwrap();
        let args = Args { stream, timestamps: false, tail: None, follow: false, id: String::new() };
        let input = BufReader::new(File::open(&path).unwrap());
        let mut reader = Reader { input, line: Vec::new(), raw: false };
        let (decoder, printer) = (Decoder::new(LogFormat::Cri), Printer::of(&args));
        reader.skip_to_last(count, &decoder, &printer).unwrap();
        let mut rest = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            let entry = decoder.decode(line).unwrap();
            if printer.wants(entry.stream) {
                rest.extend_from_slice(&entry.text);
            }
        }
        std::fs::remove_file(path).unwrap();
        String::from_utf8(rest).unwrap()
    }

    #[test]
    fn the_tail_counts_lines_and_not_entries() {
        let log = "t stdout F one\nt stdout P tw\nt stderr F err\nt stdout F o\nt stdout F three\nt stdout P four";
        assert_eq!(tail(log, 0, None), "");
        assert_eq!(tail(log, 1, None), "three\n");
        assert_eq!(tail(log, 2, Some(Wanted::Stdout)), "two\nthree\n");
        assert_eq!(tail(log, 1, Some(Wanted::Stderr)), "err\n");
        assert_eq!(tail(log, 9, None), "one\ntwerr\no\nthree\n");
    }

    #[test]
    fn a_line_that_is_not_complete_is_waited_for() {
        let path = std::env::temp_dir().join(format!("ctr-task-logs-partial-{}", std::process::id()));
        std::fs::write(&path, "t stdout F o").unwrap();
        let input = BufReader::new(File::open(&path).unwrap());
        let mut reader = Reader { input, line: Vec::new(), raw: false };
        assert!(reader.next_line().unwrap().is_none());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"ne\nt stdout F two\n").unwrap();
        assert_eq!(reader.next_line().unwrap().unwrap(), b"t stdout F one\n");
        assert_eq!(reader.next_line().unwrap().unwrap(), b"t stdout F two\n");
        assert!(reader.next_line().unwrap().is_none());
        std::fs::remove_file(path).unwrap();
    }
}
