// SPDX-License-Identifier: Apache-2.0
//! Runs a program as a user would, and never waits for it forever.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::flag;

/// How long a program may take unless the test says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The directory of the tools under test: `$CTR_BIN_DIR`, else what cargo builds beside this test.
pub fn bin_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match std::env::var_os("CTR_BIN_DIR") {
        Some(dir) => std::path::absolute(dir).expect("CTR_BIN_DIR is not empty"),
        None => build_tools(),
    })
}

// `cargo test` builds the libraries of the tools that a test depends on, and not the tools.
fn build_tools() -> PathBuf {
    let test = std::env::current_exe().expect("procfs is mounted");
    let profile = test.ancestors().nth(2).expect("a test lies in PROFILE/deps");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(crate::need::repository());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the tools do not build");
    profile.to_owned()
}

// A run in the background, as of nohup and of a shell without jobs, ignores these signals, and what it executes
// inherits that; of a handler of its own it inherits nothing.
fn catch_what_is_ignored() {
    static CAUGHT: Once = Once::new();
    CAUGHT.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("it is there");
        let ignored = u64::from_str_radix(ignored, 16).expect("it is a number");
        for signal in [SIGINT, SIGQUIT].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 1) {
            flag::register(signal, Arc::default()).expect("it is no signal that cannot be caught");
        }
    });
}

/// A program to be run.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    line: String,
    stdin: Vec<u8>,
    timeout: Duration,
    detaches: bool,
}

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    line: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Tool {
    /// A program by its name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        catch_what_is_ignored();
        let program = program.as_ref();
        let line = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        Self { command: Command::new(program), line, stdin: Vec::new(), timeout: TIMEOUT, detaches: false }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.line += &format!(" {}", arg.as_ref().display());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets its working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it something to read; without, it reads nothing.
    pub fn stdin(self, input: impl Into<Vec<u8>>) -> Self {
        Self { stdin: input.into(), ..self }
    }

    /// Replaces the time that it may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same program with the same environment, run by another: `wrapper… program args…`.
    pub fn through(self, wrapper: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        Self { command, ..self }
    }

    /// The command itself, for a test that starts it in its own way.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Says that something which it starts goes on writing to its standard output and error: what counts as
    /// its own output is what is there when it ends.
    pub fn detaches(self) -> Self {
        Self { detaches: true, ..self }
    }

    /// Starts it and returns at once.
    pub fn spawn(mut self) -> Running {
        // Its own process group, so that a timeout also ends what it started.
        let (stdout, stdout_sink) = Stream::open("standard output", self.detaches);
        let (stderr, stderr_sink) = Stream::open("standard error", self.detaches);
        self.command.process_group(0).stdin(Stdio::piped()).stdout(stdout_sink).stderr(stderr_sink);
        let started = Instant::now();
        let spawned = self.command.spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{} does not start: {error}", self.line));
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = self.stdin;
        // It may end without having read everything.
        thread::spawn(move || drop(stdin.write_all(&input)));
        // The writing ends of the pipes go with it.
        drop(self.command);
        Running { child, line: self.line, timeout: self.timeout, started, stdout, stderr }
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    timeout: Duration,
    started: Instant,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Sends it, and it alone, a signal.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).expect("the process was not reaped yet");
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits until its standard output contains `text`, and returns what it has written so far.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) -> String {
        let deadline = Instant::now() + self.timeout;
        loop {
            let (output, ended) = self.stdout.so_far();
            if output.contains(text) {
                return output;
            }
            let errors = || self.stderr.so_far().0;
            assert!(!ended, "{} ended without {text:?}: {output}\nstderr: {}", self.line, errors());
            assert!(Instant::now() < deadline, "{} does not print {text:?}: {output}\nstderr: {}", self.line, errors());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its end and for the end of its output.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            if self.started.elapsed() > self.timeout {
                let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
                let _ = self.child.wait();
                panic!("{} hangs; it said: {}{}", self.line, self.stdout.so_far().0, self.stderr.so_far().0);
            }
            thread::sleep(Duration::from_millis(1));
        };
        let took = self.started.elapsed();
        let (stdout, stderr) = (self.stdout.wait(&self.line), self.stderr.wait(&self.line));
        Outcome { line: self.line, status, stdout, stderr, took }
    }
}

/// One of the standard streams of a program.
#[derive(Debug)]
struct Stream {
    name: &'static str,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A pipe, read by a thread: what was read, and whether that is all.
    Pipe(Arc<Mutex<(Vec<u8>, bool)>>),
    /// A file in memory.
    File(File),
}

impl Stream {
    /// The stream, and what is to be the program's end of it.
    fn open(name: &'static str, file: bool) -> (Self, Stdio) {
        if file {
            let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).expect("there is memory"));
            let sink = file.try_clone().expect("there is a free descriptor");
            return (Self { name, source: Source::File(file) }, sink.into());
        }
        let (mut pipe, sink) = std::io::pipe().expect("there is a free descriptor");
        let read = Arc::new(Mutex::new((Vec::new(), false)));
        let shared = Arc::clone(&read);
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                let n = pipe.read(&mut buffer).unwrap_or(0);
                let mut read = shared.lock().expect("no thread panics with the lock held");
                read.0.extend(&buffer[..n]);
                if n == 0 {
                    read.1 = true;
                    return;
                }
            }
        });
        (Self { name, source: Source::Pipe(read) }, sink.into())
    }

    /// What was written so far, and whether that is known to be all.
    fn so_far(&self) -> (String, bool) {
        match &self.source {
            Source::Pipe(read) => {
                let read = read.lock().expect("no thread panics with the lock held");
                (String::from_utf8_lossy(&read.0).into_owned(), read.1)
            }
            Source::File(file) => {
                let mut bytes = vec![0; 1 << 20];
                let length = file.read_at(&mut bytes, 0).expect("it is in memory");
                (String::from_utf8_lossy(&bytes[..length]).into_owned(), false)
            }
        }
    }

    /// All that was written, after the program has ended.
    #[track_caller]
    fn wait(&self, line: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (output, ended) = self.so_far();
            if ended || matches!(self.source, Source::File(_)) {
                return output;
            }
            assert!(Instant::now() < deadline, "{line} has ended, but what it started still holds its {}", self.name);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Outcome {
    /// The exit code, or 128 + n for a signal, as a shell has it.
    pub fn code(&self) -> i32 {
        self.status.code().or_else(|| Some(128 + self.status.signal()?)).expect("it has ended")
    }

    /// Fails the test unless it ended well. Returns itself, to go on with.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code(), 0, "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self
    }

    /// Fails the test unless it ended with `code` and one clear line that contains every one of `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code(), code, "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self.fails_with_one_line(words)
    }

    /// The same, where more than one exit code is right.
    #[track_caller]
    pub fn fails_with_one_line(self, words: &[&str]) -> Self {
        let shown = format!("{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        assert_ne!(self.code(), 0, "{shown}");
        assert_eq!(self.stderr.lines().count(), 1, "one line is wanted: {shown}");
        assert!(self.stderr.starts_with("ctr-"), "the line begins with the tool's name: {shown}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is wanted: {shown}");
        }
        self
    }

    /// Standard output as the lines of JSON that it is.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Standard output as the one line of JSON that it is.
    #[track_caller]
    pub fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        lines.remove(0)
    }
}

/// A `PATH` with the tools under test in front.
pub fn path_with_tools() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let dirs = std::iter::once(bin_dir().to_owned()).chain(std::env::split_paths(&path)).chain(system);
    std::env::join_paths(dirs).expect("no directory has a colon in its name")
}
