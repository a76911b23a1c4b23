// SPDX-License-Identifier: Apache-2.0
//! A seccomp listener: the descriptor through which an agent answers system calls for a container
//! (runtime-spec, config-linux, "Seccomp" and "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use ctr_sys::process::{Child, pidfd_getfd};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, Spec};
use serde::Serialize;
use serde_json::{Value, json};

use crate::RuntimeError;
use crate::seccomp::SeccompError;
use crate::spec::VERSION;

/// crun's name for a `listenerPath` of profiles that have none.
const ANNOTATION: &str = "run.oci.seccomp.receiver";

/// Where a listener goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receiver {
    /// The agent's socket; an abstract one begins with `@`.
    path: PathBuf,
    /// What the agent is told besides.
    metadata: Option<String>,
}

impl Receiver {
    /// Plans where the listener of a profile goes, if it has one.
    pub(crate) fn plan(spec: &Spec, profile: &LinuxSeccomp, rootless: bool) -> Result<Option<Self>, RuntimeError> {
        let mut notifying = profile.syscalls().iter().flatten().filter(|entry| entry.action() == Action::ScmpActNotify);
        let Some(first) = notifying.next() else { return Ok(None) };
        // Without root the listener's descriptor is handed over by that call.
        let mut names = first.names().iter().chain(notifying.flat_map(|entry| entry.names()));
        if rootless && names.any(|name| name == "sendmsg") {
            return Err(SeccompError::NotifySendmsg.into());
        }
        let annotation = || spec.annotations().as_ref()?.get(ANNOTATION).map(PathBuf::from);
        let path = profile.listener_path().clone().filter(|path| !path.as_os_str().is_empty()).or_else(annotation);
        let path = path.ok_or(SeccompError::NoListener)?;
        if !path.is_absolute() && !path.as_os_str().as_encoded_bytes().starts_with(b"@") {
            let reason = format!("{} is neither an absolute path nor an abstract socket", path.display());
            return Err(RuntimeError::config("linux.seccomp.listenerPath", reason));
        }
        Ok(Some(Self { path, metadata: profile.listener_metadata().clone().filter(|text| !text.is_empty()) }))
    }

    /// Sends a listener to the agent: that of the process `child` of the container that `state` is of.
    pub(crate) fn send(&self, listener: BorrowedFd<'_>, child: &Child, state: Value) -> Result<(), RuntimeError> {
        let told = self.container_process_state(child.pid.as_raw(), state).to_string();
        let failed = RuntimeError::io("failed to connect with seccomp agent", &self.path);
        let agent = connect(&self.path).map_err(failed)?;
        ctr_sys::socket::send_fd(agent.as_fd(), told.as_bytes(), listener)
            .map_err(RuntimeError::io("send the seccomp listener to", &self.path))
    }

    fn container_process_state(&self, pid: i32, state: Value) -> Value {
        let mut told = json!({ "ociVersion": VERSION, "fds": ["seccompFd"], "pid": pid, "state": state });
        if let Some(metadata) = &self.metadata {
            told["metadata"] = json!(metadata);
        }
        told
    }
}

fn connect(path: &Path) -> std::io::Result<UnixStream> {
    match path.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
    }
}

/// A listener as the process that has it tells of it.
#[derive(Debug)]
pub(crate) enum Listener {
    /// By its number there, to be copied: sending it takes a call that the profile may put to the agent, who
    /// would have to have the listener first.
    Number(RawFd),
    /// The descriptor, for a parent that may not look into the process.
    Itself(OwnedFd),
}

impl Listener {
    /// Takes it from the process.
    pub(crate) fn take(self, child: &Child) -> Result<OwnedFd, RuntimeError> {
        match self {
            Self::Number(number) => {
                pidfd_getfd(child.pidfd.as_fd(), number).map_err(RuntimeError::call("take the seccomp listener"))
            }
            Self::Itself(listener) => Ok(listener),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(profile: Value, annotations: Value, rootless: bool) -> Result<Option<Receiver>, String> {
        let spec = serde_json::from_value(json!({"ociVersion": "1.3.0", "annotations": annotations})).unwrap();
        Receiver::plan(&spec, &serde_json::from_value(profile).unwrap(), rootless).map_err(|error| error.to_string())
    }

    fn notify(path: Value) -> Value {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "m",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
                         {"names": ["bind", "sendmsg"], "action": "SCMP_ACT_NOTIFY"}]})
    }

    #[test]
    fn a_profile_that_notifies_has_a_receiver() {
        let receiver = |path: &str| Some(Receiver { path: path.into(), metadata: Some("m".into()) });
        let annotated = json!({"run.oci.seccomp.receiver": "/annotated"});
        assert_eq!(plan(notify(json!("/agent")), annotated.clone(), false).unwrap(), receiver("/agent"));
        assert_eq!(plan(notify(json!("@agent")), json!({}), false).unwrap(), receiver("@agent"));
        for unset in [json!(null), json!("")] {
            assert_eq!(plan(notify(unset.clone()), annotated.clone(), false).unwrap(), receiver("/annotated"));
            assert!(plan(notify(unset), json!({}), false).unwrap_err().contains("listenerPath is not set"));
        }
        assert!(plan(notify(json!("agent")), json!({}), false).is_err());
        assert!(plan(notify(json!("/agent")), json!({}), true).unwrap_err().contains("sendmsg"));
        let silent = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "relative"});
        assert_eq!(plan(silent, json!({}), true).unwrap(), None);
    }

    #[test]
    fn the_agent_is_told_of_process_and_container() {
        let mut receiver = Receiver { path: "/a".into(), metadata: Some("x".into()) };
        let state = json!({"id": "c", "pid": 1});
        let told = receiver.container_process_state(7, state.clone());
        let expected =
            json!({"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 7, "metadata": "x", "state": state.clone()});
        assert_eq!(told, expected);
        receiver.metadata = None;
        assert!(receiver.container_process_state(7, state).get("metadata").is_none());
    }
}
