// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a container, in the words that runc's callers look for.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ctr_record::{Classify, ErrorKind};

use crate::cgroup::CgroupError;
use crate::process::report::InitFailure;
use crate::seccomp::SeccompError;

/// Tells whoever runs it what is no failure.
pub fn warn(message: impl Display) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "ctr-run: warning: {message}");
}

/// What [`RuntimeError::Call`] was about when the kernel made no process.
pub(crate) const MAKE_PROCESS: &str = "make a process in the container's namespaces";

/// A failure of the runtime.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RuntimeError {
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{action}")]
    Call { action: &'static str, source: io::Error },
    #[error("the bundle {} does not exist", .0.display())]
    NoBundle(PathBuf),
    #[error("no config.json in the bundle {}", .0.display())]
    NoConfig(PathBuf),
    #[error("{} is not a valid config", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{} is not a valid config: {member}", path.display())]
    Member { path: PathBuf, member: String, source: serde_json::Error },
    #[error("{field}: {reason}")]
    Config { field: String, reason: String },
    #[error("{action} network device {name:?}")]
    NetDevice { action: &'static str, name: String, source: io::Error },
    #[error("container id {0:?} is not valid: only letters, digits and _ + . - may occur, and at most 200 of them")]
    InvalidId(String),
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    #[error("container does not exist: {0}")]
    NotFound(String),
    #[error("container not running: {0}")]
    NotRunning(String),
    #[error("cannot exec in a stopped container: {0}")]
    ExecInStopped(String),
    #[error("cannot exec in a paused container (--ignore-paused overrides that): {0}")]
    ExecInPaused(String),
    #[error("{}", in_wrong_state(action, id, status))]
    WrongState { action: &'static str, id: String, status: &'static str },
    #[error("the container's state {} is damaged", path.display())]
    DamagedState { path: PathBuf, source: serde_json::Error },
    #[error("{} is not a container's: it holds {}", path.display(), name.display())]
    Foreign { path: PathBuf, name: OsString },
    #[error("error running {hook} hook #{index}: {}", path.display())]
    Hook { hook: &'static str, index: usize, path: PathBuf, source: io::Error },
    #[error("error running {hook} hook #{index}: {} {outcome}", path.display())]
    HookFailed { hook: &'static str, index: usize, path: PathBuf, outcome: String },
    #[error("the process ended before its program was executed ({0})")]
    Died(String),
    #[error("descriptor {0} is to be preserved, but is not open")]
    NotPreserved(i32),
    #[error("criu is not installed: checkpoint and restore need it (apt-get install criu, or see https://criu.org)")]
    CriuMissing,
    #[error("criu {found} is too old: {what} needs {needed}")]
    CriuTooOld { found: String, needed: String, what: String },
    #[error("criu failed to {action}: {reason}")]
    Criu { action: &'static str, reason: String },
    #[error("{} cannot be among the images of a checkpoint: {reason}", path.display())]
    HostileImage { path: PathBuf, reason: &'static str },
    #[error(transparent)]
    Init(#[from] InitFailure),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

// In the words of runc, as far as it has some.
fn in_wrong_state(action: &str, id: &str, status: &str) -> String {
    match (action, status) {
        ("delete", _) => format!("cannot delete container {id} that is not stopped: {status}"),
        ("start", "stopped") => format!("cannot start a container that has stopped: {id}"),
        ("start", "running") => format!("cannot start an already running container: {id}"),
        ("pause", "paused" | "stopped") => format!("container not running: {id} is {status}"),
        ("resume", _) => format!("container not paused: {id} is {status}"),
        _ => format!("cannot {action} container {id}, which is {status}"),
    }
}

impl RuntimeError {
    /// For `map_err`: an I/O error with what was done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// For `map_err`: an I/O error of a call that has no path.
    pub(crate) fn call(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { action, source }
    }

    /// The same for an error of a `nix` call.
    pub(crate) fn errno(action: &'static str) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |errno| Self::Call { action, source: errno.into() }
    }

    /// A value in config.json that cannot be.
    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { field: field.into(), reason: reason.into() }
    }

    /// 127 when the container's program was not found, 126 when it could not be executed.
    pub fn exec_status(&self) -> Option<u8> {
        match self {
            Self::Init(failure) => failure.exec_status(),
            _ => None,
        }
    }
}

impl Classify for RuntimeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. }
            | Self::Call { source, .. }
            | Self::NetDevice { source, .. }
            | Self::Hook { source, .. } => ErrorKind::of_io(source),
            Self::NoBundle(_) | Self::NoConfig(_) | Self::NotFound(_) => ErrorKind::NotFound,
            Self::Json { .. }
            | Self::Member { .. }
            | Self::Config { .. }
            | Self::InvalidId(_)
            | Self::DamagedState { .. }
            | Self::Foreign { .. }
            | Self::HostileImage { .. } => ErrorKind::Invalid,
            Self::Exists(_)
            | Self::NotRunning(_)
            | Self::ExecInStopped(_)
            | Self::ExecInPaused(_)
            | Self::WrongState { .. } => ErrorKind::Conflict,
            Self::HookFailed { .. }
            | Self::Died(_)
            | Self::NotPreserved(_)
            | Self::CriuMissing
            | Self::CriuTooOld { .. }
            | Self::Criu { .. } => ErrorKind::Failed,
            Self::Init(failure) => failure.kind(),
            Self::Cgroup(error) => error.kind(),
            Self::Seccomp(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Cgroup(error) => error.hint(),
            Self::Call { action: MAKE_PROCESS, source }
                if source.raw_os_error() == Some(libc::EPERM) && !ctr_sys::process::is_root() =>
            {
                Some("without root a container needs a user namespace, as `spec --rootless` writes it".to_owned())
            }
            _ => None,
        }
    }
}
