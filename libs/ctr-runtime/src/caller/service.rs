// SPDX-License-Identifier: Apache-2.0
//! What a service manager gives the runtime for the container: sockets that listen already, and a place to
//! say that the container is ready (sd_listen_fds(3), sd_notify(3)).

use std::ffi::OsString;
use std::path::Path;

use oci_spec::runtime::{Mount, MountBuilder, Spec};

use crate::caller::notify;

/// What this process was given by its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// How many sockets were passed, from descriptor 3 up.
    pub(crate) sockets: u32,
    /// Their names, with colons between them.
    names: Option<String>,
    /// The address that listens for notifications.
    pub(crate) notify: Option<OsString>,
}

impl Service {
    /// Looks what there is for this process.
    pub fn of_this_process() -> Self {
        let text = |name| std::env::var(name).ok();
        let ours = text("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
        let sockets = text("LISTEN_FDS").filter(|_| ours).and_then(|count| count.parse().ok()).unwrap_or(0);
        Self {
            sockets,
            names: text("LISTEN_FDNAMES").filter(|_| sockets > 0),
            notify: std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
        }
    }

    /// What was given for a container that has, or has not, a place for its socket: whoever listened for that.
    pub(crate) fn of_container(notifies: bool) -> Self {
        Self { notify: notifies.then(OsString::new), ..Self::default() }
    }

    /// Adds what of it the container gets to its config. `state` is the container's directory.
    pub(crate) fn amend(&self, spec: &mut Spec, state: &Path) {
        let mut env = Vec::new();
        if self.sockets > 0 {
            env.push(format!("LISTEN_FDS={}", self.sockets));
            env.push("LISTEN_PID=1".to_owned());
            env.extend(self.names.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
        }
        if self.notify.is_some() {
            env.push(format!("NOTIFY_SOCKET={}/{}", notify::INSIDE, notify::SOCKET));
            let mut mounts = spec.mounts().clone().unwrap_or_default();
            mounts.push(mount(state));
            spec.set_mounts(Some(mounts));
        }
        if let Some(process) = spec.process_mut().as_mut().filter(|_| !env.is_empty()) {
            let mut all = process.env().clone().unwrap_or_default();
            all.extend(env);
            process.set_env(Some(all));
        }
    }
}

// A directory, so that the socket in it can be made by who starts the container.
fn mount(state: &Path) -> Mount {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    let mount = MountBuilder::default().destination(notify::INSIDE).source(state.join(notify::DIRECTORY));
    mount.typ("bind").options(options).build().expect("nothing of it is optional")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_told_of_its_sockets() {
        let mut spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["a"], "env": ["A=1"], "user": {"uid": 0, "gid": 0}}
        }))
        .unwrap();
        Service::default().amend(&mut spec, Path::new("/s"));
        assert_eq!(spec.process().as_ref().unwrap().env().as_ref().unwrap(), &["A=1"]);
        let service = Service { sockets: 2, names: Some("a:b".into()), notify: Some("/run/n".into()) };
        service.amend(&mut spec, Path::new("/s"));
        let env = spec.process().as_ref().unwrap().env().as_ref().unwrap();
        let notify = "NOTIFY_SOCKET=/run/notify/notify.sock";
        assert_eq!(env, &["A=1", "LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b", notify]);
        let mount = spec.mounts().as_ref().unwrap().last().unwrap();
        assert_eq!(mount.source().as_deref(), Some(Path::new("/s/notify")));
    }
}
