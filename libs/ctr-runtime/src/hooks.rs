// SPDX-License-Identifier: Apache-2.0
//! Hooks: programs that are told the container's state at fixed points of its life.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Hook;
use serde_json::Value;

use crate::plan::Hooks;
use crate::process::report::{InitFailure, StepResult};
use crate::state::State;
use crate::{RuntimeError, warn};

/// The files that hooks write to, if the config names some; else what they write is told when they fail.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Outputs {
    /// Opens those that the config names.
    pub(crate) fn open(hooks: &Hooks) -> Result<Self, RuntimeError> {
        let open = |path: &Path| {
            let file = File::options().append(true).create(true).mode(0o600).open(path);
            file.map_err(RuntimeError::io("open the hooks' output", path))
        };
        let stdout = hooks.stdout.as_deref().map(open).transpose()?;
        Ok(Self { stdout, stderr: hooks.stderr.as_deref().map(open).transpose()? })
    }

    /// The descriptors that a copy of this process has to keep.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.stdout.iter().chain(&self.stderr).map(AsRawFd::as_raw_fd)
    }
}

/// What hooks of one kind are run with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    /// The kind, as config.json calls it.
    pub(crate) name: &'static str,
    /// Where they are run; nowhere: where this process is.
    pub(crate) dir: Option<&'a Path>,
    /// The environment of those that say nothing of it.
    pub(crate) env: &'a [CString],
    pub(crate) outputs: &'a Outputs,
}

/// Runs hooks in the runtime's namespaces, with the state on their standard input.
pub(crate) fn run(name: &'static str, all: &Hooks, hooks: &[Hook], state: &Value) -> Result<(), RuntimeError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let outputs = Outputs::open(all)?;
    let bundle = state["bundle"].as_str().map(Path::new).filter(|bundle| bundle.is_dir());
    let setting = Setting { name, dir: Some(bundle.unwrap_or(Path::new("/"))), env: &[], outputs: &outputs };
    hooks.iter().enumerate().try_for_each(|(i, hook)| run_one(setting, i, hook, state))
}

/// Runs the hooks that come when a container is gone. Their failure is no reason to keep it (runtime-spec,
/// "Lifecycle", step 13).
pub(crate) fn run_poststop(state: &State) {
    let hooks = &state.hooks;
    let mut told = state.to_oci("stopped");
    if let Some(object) = told.as_object_mut() {
        object.remove("pid");
    }
    for hook in &hooks.poststop {
        if let Err(error) = run("poststop", hooks, std::slice::from_ref(hook), &told) {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            warn(format_args!("{error}{cause}"));
        }
    }
}

/// Runs hooks in the container's process, whose pid is another one there.
pub(crate) fn run_in_container(setting: Setting<'_>, hooks: &[Hook], state: &Value, status: &str) -> StepResult<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut state = state.clone();
    state["pid"] = std::process::id().into();
    state["status"] = status.into();
    let result = hooks.iter().enumerate().try_for_each(|(i, hook)| run_one(setting, i, hook, &state));
    result.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        InitFailure::finding(format!("{error}{cause}"))
    })
}

fn run_one(setting: Setting<'_>, index: usize, hook: &Hook, state: &Value) -> Result<(), RuntimeError> {
    let path = || hook.path().clone();
    let failed = |source| RuntimeError::Hook { hook: setting.name, index, path: path(), source };
    let mut said = in_memory(c"output").map_err(failed)?;
    let status = execute(setting, hook, state, &said).map_err(failed)?;
    let outcome = match status {
        Some(status) if status.success() => return Ok(()),
        Some(status) => match status.signal() {
            Some(libc::SIGSYS) => "was killed: bad system call (the seccomp profile forbids it)".to_owned(),
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("failed with status {}", status.code().unwrap_or(-1)),
        },
        None => format!("did not end within {} s", hook.timeout().unwrap_or(0)),
    };
    let said = last_lines(&mut said).map(|said| format!(": {said}")).unwrap_or_default();
    Err(RuntimeError::HookFailed { hook: setting.name, index, path: path(), outcome: outcome + &said })
}

// `None`: it took too long and was killed.
fn execute(setting: Setting<'_>, hook: &Hook, state: &Value, said: &File) -> io::Result<Option<ExitStatus>> {
    let mut args = hook.args().iter().flatten();
    let mut command = Command::new(hook.path());
    if let Some(zeroth) = args.next() {
        command.arg0(zeroth);
    }
    command.args(args).env_clear();
    let own = hook.env().as_deref().unwrap_or_default();
    let default = if own.is_empty() { setting.env } else { &[] };
    for entry in own.iter().map(String::as_bytes).chain(default.iter().map(|entry| entry.as_bytes())) {
        let end = entry.iter().position(|b| *b == b'=').unwrap_or(entry.len());
        command.env(OsStr::from_bytes(&entry[..end]), OsStr::from_bytes(entry.get(end + 1..).unwrap_or_default()));
    }
    if let Some(dir) = setting.dir {
        command.current_dir(dir);
    }
    let output = |file: &Option<File>| file.as_ref().unwrap_or(said).try_clone();
    command.stdin(state_on_stdin(state)?);
    command.stdout(output(&setting.outputs.stdout)?).stderr(output(&setting.outputs.stderr)?);
    // In the foreground this process reads its signals instead of receiving them.
    let child = ctr_sys::process::unblock_signals_in(&mut command).spawn()?;
    wait(child, hook.timeout())
}

fn in_memory(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?.into())
}

// The end of what a hook has written, as one line.
fn last_lines(said: &mut File) -> Option<String> {
    const LIMIT: u64 = 1024;
    let length = said.seek(SeekFrom::End(0)).ok()?;
    said.seek(SeekFrom::Start(length.saturating_sub(LIMIT))).ok()?;
    let mut bytes = Vec::new();
    said.take(LIMIT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

// A pipe would have to be written while the hook may not read; a file in memory is simply there.
fn state_on_stdin(state: &Value) -> io::Result<Stdio> {
    let mut file = in_memory(c"state")?;
    file.write_all(state.to_string().as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn wait(mut child: Child, timeout: Option<i64>) -> io::Result<Option<ExitStatus>> {
    let Some(seconds) = timeout else { return child.wait().map(Some) };
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let pidfd = ctr_sys::process::pidfd_open(pid)?;
    let milliseconds = i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    let ended = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout)? > 0;
    if ended {
        return child.wait().map(Some);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(script: &str, timeout: Option<i64>) -> Vec<Hook> {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=1"], "timeout": timeout});
        vec![serde_json::from_value(hook).unwrap()]
    }

    fn run_hook(name: &'static str, script: &str, timeout: Option<i64>, state: Value) -> Result<(), RuntimeError> {
        run(name, &Hooks::default(), &hook(script, timeout), &state)
    }

    #[test]
    fn a_hook_gets_the_state_and_only_its_own_environment() {
        // read fails at the end of file without a newline, having set s all the same
        let script = r#"read s; case "$s" in *'"id":"x"'*) ;; *) exit 1;; esac
            test "$A" = 1 && test -z "$HOME" && test "$(pwd)" = /usr"#;
        run_hook("prestart", script, None, json!({"id": "x", "bundle": "/usr"})).unwrap();
    }

    #[test]
    fn a_hook_that_fails_or_hangs_is_named_with_what_it_said() {
        let failed = run_hook("poststart", "echo one; echo two >&2; exit 3", None, json!({})).unwrap_err();
        let expected = "error running poststart hook #0: /bin/sh failed with status 3: one; two";
        assert_eq!(failed.to_string(), expected);
        let hung = run_hook("poststart", "exec sleep 30", Some(1), json!({})).unwrap_err();
        assert_eq!(hung.to_string(), "error running poststart hook #0: /bin/sh did not end within 1 s");
        let long = run_hook("poststart", "yes | head -n 5000; exit 1", None, json!({})).unwrap_err();
        assert!(long.to_string().len() < 2000 + 100);
    }

    #[test]
    fn a_hook_without_an_environment_has_the_one_of_its_setting() {
        let outputs = Outputs::default();
        let env = [c"B=2=3".to_owned()];
        let setting = Setting { name: "startContainer", dir: None, env: &env, outputs: &outputs };
        let mut own = hook("test \"$B\" = 2=3", None);
        run_one(setting, 0, &own[0], &json!({})).unwrap_err();
        own[0].set_env(Some(Vec::new()));
        run_one(setting, 0, &own[0], &json!({})).unwrap();
    }
}
