// SPDX-License-Identifier: Apache-2.0
//! A container's own network namespace: begun as soon as the config is read, and taken when it is needed.
//!
//! The kernel takes longer to make it than to make everything else of a container's process. It is made beside
//! this process while that plans the container, makes its cgroup and clones its process, which can do without
//! until it mounts what belongs to a network.

pub(crate) mod net_device;
mod netlink;

use std::os::fd::{AsFd, OwnedFd};

use ctr_sys::network::NetworkInMaking;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::RuntimeError;
use crate::plan::{Plan, words};
use crate::process::init::abandoned;
use crate::process::report::{Channel, Message, Step, StepResult};

/// A namespace that is made beside this process, if there is to be one.
#[derive(Debug)]
pub(crate) struct Begun(Option<NetworkInMaking>);

/// Begins to make the namespace that a config asks for. One that belongs to a user namespace has to be made in
/// that; a process that changes its own time namespace must not share its memory meanwhile; and what cannot be begun
/// is left to clone3, whose failure is told as that of any other namespace.
pub(crate) fn begin(spec: &Spec) -> Begun {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    if offsets.is_some_and(|offsets| !offsets.is_empty()) {
        return Begun(None);
    }
    let mut network = false;
    for namespace in spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()) {
        match namespace.typ() {
            LinuxNamespaceType::User => return Begun(None),
            LinuxNamespaceType::Network => {
                network = namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty());
            }
            _ => {}
        }
    }
    Begun(network.then(NetworkInMaking::begin).and_then(Result::ok))
}

impl Begun {
    /// Where the container's process gets its namespace from.
    pub(crate) fn origin(&self, plan: &Plan) -> Network {
        match (&self.0, plan.namespaces.is_new(libc::CLONE_NEWNET)) {
            (Some(_), _) => Network::Awaited,
            (None, true) => Network::Born,
            (None, false) => Network::Settled,
        }
    }

    /// Waits for the namespace, which is to be handed to the container's process.
    pub(crate) fn finish(self) -> Result<Option<OwnedFd>, RuntimeError> {
        let made = self.0.map(NetworkInMaking::finish).transpose();
        made.map_err(RuntimeError::call("make the network namespace"))
    }
}

/// Where a container's process gets its network namespace from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// It keeps or joins one, or is in the one that it is to have.
    Settled,
    /// It is born in a new one.
    Born,
    /// A new one is made beside it, and handed over.
    Awaited,
}

impl Network {
    /// The namespaces that clone3 is to make, of those that are new.
    pub(crate) fn left_to_clone(self, new: u64) -> u64 {
        match self {
            Self::Awaited => new & !(libc::CLONE_NEWNET as u64),
            Self::Born | Self::Settled => new,
        }
    }

    /// In the container's process: enters its new namespace, in which the loopback interface is on, unless that is
    /// done. Nothing else is received over the channel before.
    pub(crate) fn settle(&mut self, channel: &Channel) -> StepResult<()> {
        match std::mem::replace(self, Self::Settled) {
            Self::Settled => Ok(()),
            Self::Born => ctr_sys::socket::bring_loopback_up().step("switch the loopback interface on"),
            Self::Awaited => match channel.receive() {
                Ok(Some(Message::Network(made))) => {
                    let kind = libc::CLONE_NEWNET;
                    ctr_sys::process::join_namespaces(made.as_fd(), kind)
                        .step_with(|| format!("join the {} namespace", words::namespace(kind)))
                }
                _ => Err(abandoned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_namespace_of_this_user_namespace_is_begun() {
        let begun_of = |linux: serde_json::Value| {
            let spec = json!({"ociVersion": "1.3.0", "root": {"path": "x"}, "linux": linux});
            begin(&serde_json::from_value(spec).unwrap()).0.is_some()
        };
        let begun = |namespaces: serde_json::Value| begun_of(json!({"namespaces": namespaces}));
        let offsets = json!({"boottime": {"secs": 1}});
        assert!(!begun_of(json!({"namespaces": [{"type": "network"}, {"type": "time"}], "timeOffsets": offsets})));
        assert!(!begun(json!([{"type": "mount"}])));
        assert!(!begun(json!([{"type": "network", "path": "/proc/1/ns/net"}])));
        assert!(!begun(json!([{"type": "network"}, {"type": "user"}])));
        assert!(begun(json!([{"type": "network", "path": ""}])) || cfg!(not(target_arch = "x86_64")));
    }
}
