// SPDX-License-Identifier: Apache-2.0
//! The OCI runtime as a program: how it is called, and what it says when it fails.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ctr_cli::Error;
use ctr_record::{ErrorKind, Timestamp};
use ctr_store::sched::PLACE_VARIABLE;
use ctr_store::task::{Decoder, LogFile, Stream, TaskFile};
use ctr_sys::process::{Clone3, reset_signals, spawn};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use serde::Deserialize;
use serde_json::json;

/// Messages in the log beyond this are not looked at.
const MAX_LOG: u64 = 1 << 20;

/// More than this is output and not a message.
const MAX_WORDS: usize = 1024;

/// A runtime that works on one container.
pub(crate) struct Runtime {
    program: PathBuf,
    root: PathBuf,
    log: PathBuf,
    id: String,
}

impl Runtime {
    /// The runtime of a task, with its messages in the task's directory.
    pub(crate) fn of(file: &TaskFile, directory: &Path) -> Self {
        Self {
            program: file.runtime.clone(),
            root: file.runtime_root.clone(),
            log: directory.join("runtime.log"),
            id: file.id.clone(),
        }
    }

    /// Whether the runtime has a container of this name, which is then another one.
    pub(crate) fn knows_id(&self) -> bool {
        self.root.join(&self.id).symlink_metadata().is_ok()
    }

    /// Begins to create and start the container; the output is the container's too.
    pub(crate) fn run(
        &self,
        bundle: &Path,
        pid_file: &Path,
        console: Option<PathBuf>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> io::Result<Pid> {
        let mut command = self.command();
        command.args(["run", "--detach", "--bundle"]).arg(bundle).arg("--pid-file").arg(pid_file);
        if let Some(socket) = console {
            command.arg("--console-socket").arg(socket);
        }
        command.arg(&self.id).stdout(stdio(stdout)).stderr(stdio(stderr));
        self.spawn(command)
    }

    /// Begins to remove whatever there is of the container.
    pub(crate) fn delete(&self) -> io::Result<Pid> {
        let mut command = self.command();
        command.args(["delete", "--force", &self.id]).stdout(Stdio::null()).stderr(Stdio::null());
        self.spawn(command)
    }

    /// The last failure that the runtime reported.
    pub(crate) fn complaint(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Message {
            level: String,
            msg: String,
        }
        let text = ctr_store::read_bounded(&self.log, MAX_LOG).ok()?;
        let mut messages = text.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice::<Message>(line).ok());
        let last = messages.rfind(|message| matches!(message.level.to_lowercase().as_str(), "error" | "fatal"));
        last.map(|message| message.msg)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(&self.log).args(["--log-format", "json"]);
        // Neither is the container's business.
        command.env_remove(PLACE_VARIABLE).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        command
    }

    // A runtime whose supervisor is killed is killed too: what it would make, nobody would know of.
    fn spawn(&self, mut command: Command) -> io::Result<Pid> {
        let supervisor = Pid::this();
        let child = spawn(Clone3::default(), move || {
            if set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != supervisor {
                return 1;
            }
            // What the caller ignores is not the container's business either.
            reset_signals();
            let error = command.exec();
            let message = format!("unable to run {}: {error}", self.program.display());
            let line = json!({ "level": "error", "msg": message, "time": Timestamp::now() });
            let log = OpenOptions::new().append(true).create(true).open(&self.log);
            let _ = log.and_then(|mut log| log.write_all(format!("{line}\n").as_bytes()));
            1
        })?;
        Ok(child.pid)
    }
}

fn stdio(fd: Option<OwnedFd>) -> Stdio {
    fd.map_or_else(Stdio::null, Stdio::from)
}

/// Reads a pid file, which holds a decimal number with or without a newline.
pub(crate) fn read_pid_file(path: &Path) -> io::Result<Pid> {
    let text = fs::read_to_string(path)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no pid", path.display()));
    text.trim().parse().ok().filter(|&pid| pid > 1).map(Pid::from_raw).ok_or_else(invalid)
}

/// The last line on a runtime's standard error, which went to the container's log.
fn last_words(log: &LogFile) -> Option<String> {
    let text = ctr_store::read_bounded(&log.path, MAX_LOG).ok()?;
    let decoder = Decoder::new(log.format);
    let lines = text.split_inclusive(|&b| b == b'\n').rev();
    let mut words = lines.filter_map(|line| decoder.decode(line)).filter(|entry| entry.stream != Some(Stream::Stdout));
    let words =
        words.find_map(|entry| Some(String::from_utf8_lossy(&entry.text).trim().to_owned()).filter(|w| !w.is_empty()));
    words.filter(|words| words.len() < MAX_WORDS)
}

/// A runtime's failure as an error of ours. Runtimes say what went wrong in words only.
pub(crate) fn failure(file: &TaskFile, complaint: Option<String>, status: u8) -> Error {
    let message = complaint.unwrap_or_else(|| {
        let words = last_words(&file.log).map_or_else(String::new, |words| format!(": {words}"));
        format!("{} failed with status {status}{words}", file.runtime.display())
    });
    Error::new(kind_of(&message), message)
}

fn kind_of(message: &str) -> ErrorKind {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match () {
        () if says(&["already exists", "container id already in use"]) => ErrorKind::Conflict,
        () if says(&["executable file not found", "no such file or directory", "executable not found"]) => {
            ErrorKind::NotFound
        }
        () if says(&["permission denied", "operation not permitted"]) => ErrorKind::Denied,
        () if says(&["no space left on device"]) => ErrorKind::Temporary,
        () => ErrorKind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_has_the_kind_that_its_words_have() {
        assert_eq!(kind_of("exec: \"nosuch\": executable file not found in $PATH"), ErrorKind::NotFound);
        assert_eq!(kind_of("container with given ID already exists"), ErrorKind::Conflict);
        assert_eq!(kind_of("exec /bin: Permission denied"), ErrorKind::Denied);
        assert_eq!(kind_of("seccomp is not happy"), ErrorKind::Failed);
    }

    #[test]
    fn only_the_last_error_of_the_log_counts() {
        let log = std::env::temp_dir().join(format!("ctr-shim-runtime-log-{}", std::process::id()));
        let lines = r#"{"level":"error","msg":"first"}
{"level":"error","msg":"second","time":"x"}
{"level":"warning","msg":"third"}
not json
"#;
        fs::write(&log, lines).unwrap();
        let runtime = Runtime { program: "x".into(), root: "/".into(), log: log.clone(), id: "a".into() };
        assert_eq!(runtime.complaint().unwrap(), "second");
        fs::remove_file(&log).unwrap();
        assert!(runtime.complaint().is_none());
    }
}
