// SPDX-License-Identifier: Apache-2.0
//! Hooks: programs that are told the container's state at fixed points of its life.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Hook;
use serde_json::Value;

use crate::RuntimeError;
use crate::plan::Hooks;
use crate::report::{InitFailure, StepResult};
use crate::state::State;

/// Runs hooks in order, with the state on their standard input; the first that fails ends it.
pub(crate) fn run(name: &'static str, hooks: &[Hook], state: &Value) -> Result<(), RuntimeError> {
    for hook in hooks {
        let path = hook.path();
        let outcome =
            run_one(hook, state).map_err(|source| RuntimeError::Hook { hook: name, path: path.clone(), source })?;
        let outcome = match outcome {
            Some(status) if status.success() => continue,
            Some(status) => match status.signal() {
                Some(signal) => format!("was killed by signal {signal}"),
                None => format!("failed with status {}", status.code().unwrap_or(-1)),
            },
            None => format!("did not end within {} s", hook.timeout().unwrap_or(0)),
        };
        return Err(RuntimeError::HookFailed { hook: name, path: path.clone(), outcome });
    }
    Ok(())
}

/// Runs the hooks that come when a container is gone. Their failure is no reason to keep it (runtime-spec,
/// "Lifecycle", step 13).
pub(crate) fn run_poststop(hooks: &Hooks, state: &State) {
    for hook in &hooks.poststop {
        if let Err(error) = run("poststop", std::slice::from_ref(hook), &state.to_oci("stopped")) {
            eprintln!("{error}");
        }
    }
}

/// Runs hooks in the container's process, whose pid is another one there.
pub(crate) fn run_in_container(name: &'static str, hooks: &[Hook], state: &Value) -> StepResult<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut state = state.clone();
    state["pid"] = std::process::id().into();
    run(name, hooks, &state).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        InitFailure::finding(format!("{error}{cause}"))
    })
}

// `None`: it took too long and was killed.
fn run_one(hook: &Hook, state: &Value) -> io::Result<Option<ExitStatus>> {
    let mut args = hook.args().iter().flatten();
    let mut command = Command::new(hook.path());
    if let Some(zeroth) = args.next() {
        command.arg0(zeroth);
    }
    command.args(args).env_clear();
    for entry in hook.env().iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(name, value);
    }
    command.stdin(state_on_stdin(state)?).current_dir(Path::new("/"));
    // In the foreground this process reads its signals instead of receiving them.
    let child = ctr_sys::process::unblock_signals_in(&mut command).spawn()?;
    wait(child, hook.timeout())
}

// A pipe would have to be written while the hook may not read; a file in memory is simply there.
fn state_on_stdin(state: &Value) -> io::Result<Stdio> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let mut file = File::from(nix::sys::memfd::memfd_create(c"state", flags)?);
    file.write_all(state.to_string().as_bytes())?;
    io::Seek::rewind(&mut file)?;
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

    #[test]
    fn a_hook_gets_the_state_and_only_its_own_environment() {
        let state = json!({"id": "x"});
        // read fails at the end of file without a newline, having set s all the same
        let script = r#"read s; test "$s" = '{"id":"x"}' && test "$A" = 1 && test -z "$HOME""#;
        run("prestart", &hook(script, None), &state).unwrap();
    }

    #[test]
    fn a_hook_that_fails_or_hangs_is_named() {
        let state = json!({});
        let failed = run("poststart", &hook("exit 3", None), &state).unwrap_err();
        assert_eq!(failed.to_string(), "poststart hook /bin/sh failed with status 3");
        let hung = run("poststart", &hook("exec sleep 30", Some(1)), &state).unwrap_err();
        assert_eq!(hung.to_string(), "poststart hook /bin/sh did not end within 1 s");
    }
}
