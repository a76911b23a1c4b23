// SPDX-License-Identifier: Apache-2.0
//! Network devices of the host that a container gets (runtime-spec, config-linux, "Network Devices").

use oci_spec::runtime::Linux;
use serde::Serialize;

use crate::RuntimeError;
use crate::plan::NamespacePlan;

/// A device to be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container; one with `%d` is made unique by the kernel.
    pub inside: String,
}

impl NetDevice {
    /// Plans `linux.netDevices`, in the order of the names.
    pub fn plan(linux: &Linux, namespaces: &NamespacePlan, rootless: bool) -> Result<Vec<Self>, RuntimeError> {
        let refuse = |reason: &str| Err(RuntimeError::config("linux.netDevices", reason));
        let mut devices = Vec::new();
        for (name, device) in linux.net_devices().iter().flatten() {
            let inside = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(name);
            if let Some(bad) = [name, inside].into_iter().find(|name| !is_valid(name)) {
                return refuse(&format!("invalid network device name {bad:?}"));
            }
            devices.push(Self { name: name.clone(), inside: inside.clone() });
        }
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        if !devices.is_empty() && !namespaces.is_private(libc::CLONE_NEWNET) {
            return refuse("unable to move network devices without a NET namespace");
        }
        if !devices.is_empty() && rootless {
            return refuse("network devices are not supported for rootless containers");
        }
        Ok(devices)
    }

    /// Whether the kernel is to choose a number for its name in the container.
    pub fn is_template(&self) -> bool {
        self.inside.contains("%d")
    }
}

// The kernel's own rule (dev_valid_name).
fn is_valid(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace();
    !matches!(name, "" | "." | "..") && name.len() < libc::IFNAMSIZ && !name.contains(forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(namespaces: Value, devices: Value, rootless: bool) -> Result<Vec<NetDevice>, String> {
        let linux: Linux = serde_json::from_value(json!({"namespaces": namespaces, "netDevices": devices})).unwrap();
        NetDevice::plan(&linux, &NamespacePlan::new(&linux).unwrap(), rootless).map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_keeps_its_name_unless_it_gets_another() {
        let namespaces = json!([{"type": "mount"}, {"type": "network"}]);
        let devices = json!({"eth1": {"name": "net%d"}, "eth0": {}, "eth2": {"name": ""}});
        let planned = plan(namespaces, devices, false).unwrap();
        let device = |name: &str, inside: &str| NetDevice { name: name.into(), inside: inside.into() };
        assert_eq!(planned, [device("eth0", "eth0"), device("eth1", "net%d"), device("eth2", "eth2")]);
        assert!(planned[1].is_template() && !planned[0].is_template());
    }

    #[test]
    fn refuses_what_cannot_be() {
        let own = json!([{"type": "mount"}, {"type": "network"}]);
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteencharacter"] {
            assert!(plan(own.clone(), json!({bad: {}}), false).unwrap_err().contains("invalid network device name"));
            let renamed = plan(own.clone(), json!({"eth0": {"name": bad}}), false);
            assert_eq!(renamed.is_err(), !bad.is_empty(), "{bad}");
        }
        let hosts = plan(json!([{"type": "mount"}]), json!({"eth0": {}}), false);
        assert!(hosts.unwrap_err().contains("without a NET namespace"));
        assert!(plan(own, json!({"eth0": {}}), true).unwrap_err().contains("rootless"));
    }
}
