// SPDX-License-Identifier: Apache-2.0
//! The image config, and what of it becomes annotations (image-spec, conversion).

use std::collections::BTreeMap;

use ctr_cli::{Context, Error};
use ctr_record::{Descriptor, ErrorKind};
use ctr_store::StateDir;
use ctr_store::content::{ContentError, ContentStore};
use serde::Deserialize;
use serde_json::Value;

/// The largest image config; real ones have some ten thousand bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// Annotations that some runtime acts on, by their beginnings: hooks that write to files of the host,
/// properties of systemd units, handlers. An image has no say in those (CVE-2026-53488).
const INTERPRETED: [&str; 15] = [
    "cdi.k8s.io/",
    "com.docker.",
    "com.github.containers.",
    "ctr.",
    "dev.gvisor.",
    "io.containerd.",
    "io.katacontainers.",
    "io.kubernetes.",
    "io.podman.",
    "krun.",
    "module.wasm.image/",
    "org.criu.",
    "org.opencontainers.runc.",
    "org.systemd.",
    "run.oci.",
];

/// What an image says about the container (image-spec, config); `null` is the same as nothing.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ImageConfig {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    #[serde(rename = "os.features")]
    os_features: Option<Vec<String>>,
    author: Option<String>,
    created: Option<String>,
    #[serde(default, rename = "config", deserialize_with = "or_default")]
    pub(crate) run: RunConfig,
}

/// The part of it that is about running the image.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    #[serde(deserialize_with = "or_default")]
    pub(crate) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) volumes: BTreeMap<String, Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) exposed_ports: BTreeMap<String, Value>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) stop_signal: String,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// Reads an image's config from the content store; its digest is verified.
    pub(crate) fn read(state: &StateDir, config: &Descriptor) -> Result<Self, Error> {
        let store = ContentStore::open(state)?;
        let blob = store.read_blob(&config.digest, MAX_CONFIG).unable_to(|| "read the image config")?;
        let absent = || ContentError::Absent { digest: config.digest.clone() };
        let blob = blob.ok_or_else(absent).unable_to(|| "read the image config")?;
        Self::parse(&blob)
    }

    /// Reads an image config.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        let invalid = |cause: String| Error::new(ErrorKind::Invalid, format!("the image config is malformed: {cause}"));
        let config: Self = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        match config.os.as_deref() {
            None | Some("" | "linux") => Ok(config),
            Some(os) => Err(Error::new(ErrorKind::Invalid, format!("the image is for {os:?}, not for linux"))),
        }
    }

    /// The annotations that stand for the config's members, labels included, and the names of the labels
    /// that are left out because a runtime would act on them.
    pub(crate) fn annotations(&self) -> (BTreeMap<String, String>, Vec<&str>) {
        let join = |list: Option<&Vec<String>>| list.map(|list| list.join(",")).unwrap_or_default();
        let ports: Vec<&str> = self.run.exposed_ports.keys().map(String::as_str).collect();
        let mut annotations: BTreeMap<String, String> = [
            ("os", self.os.clone().unwrap_or_default()),
            ("architecture", self.architecture.clone().unwrap_or_default()),
            ("variant", self.variant.clone().unwrap_or_default()),
            ("os.version", self.os_version.clone().unwrap_or_default()),
            ("os.features", join(self.os_features.as_ref())),
            ("author", self.author.clone().unwrap_or_default()),
            ("created", self.created.clone().unwrap_or_default()),
            ("stopSignal", self.run.stop_signal.clone()),
            ("exposedPorts", ports.join(",")),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value))
        .collect();
        let mut left_out = Vec::new();
        for (name, value) in &self.run.labels {
            // Labels win over what was made of other members; an empty name is no annotation.
            match name.is_empty() || is_interpreted(name) {
                true => left_out.push(name.as_str()),
                false => drop(annotations.insert(name.clone(), value.clone())),
            }
        }
        (annotations, left_out)
    }
}

fn is_interpreted(name: &str) -> bool {
    // runc's `bundle` says where the bundle is, in the state that hooks are given.
    name == "bundle" || INTERPRETED.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn annotations(config: Value) -> (Value, Vec<String>) {
        let config = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
        let (annotations, left_out) = config.annotations();
        (json!(annotations), left_out.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn members_become_annotations() {
        let (annotations, left_out) = annotations(json!({
            "architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1", "os.features": ["a", "b"],
            "author": "me", "created": "2020-01-01T00:00:00Z",
            "config": {
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
                "StopSignal": "SIGQUIT",
                "Labels": {"maintainer": "you", "org.opencontainers.image.author": "them"},
            },
        }));
        assert!(left_out.is_empty());
        assert_eq!(
            annotations,
            json!({
                "maintainer": "you",
                "org.opencontainers.image.architecture": "arm",
                "org.opencontainers.image.author": "them",
                "org.opencontainers.image.created": "2020-01-01T00:00:00Z",
                "org.opencontainers.image.exposedPorts": "443/tcp,80/tcp",
                "org.opencontainers.image.os": "linux",
                "org.opencontainers.image.os.features": "a,b",
                "org.opencontainers.image.os.version": "1",
                "org.opencontainers.image.stopSignal": "SIGQUIT",
                "org.opencontainers.image.variant": "v7",
            })
        );
    }

    // CVE-2026-53488: a label must not become an order to a runtime or to a tool of ours.
    #[test]
    fn labels_that_a_runtime_acts_on_are_left_out() {
        let (annotations, left_out) = annotations(json!({"config": {"Labels": {
            "": "x",
            "bundle": "/",
            "bundle.version": "1",
            "ctr.label.x": "y",
            "org.criu.config": "/etc/criu",
            "org.systemd.property.DeviceAllow": "['/dev/sda rw']",
            "run.oci.hooks.stdout": "/etc/passwd",
            "run.ocimage": "x",
        }}}));
        assert_eq!(annotations, json!({"bundle.version": "1", "run.ocimage": "x"}));
        assert_eq!(left_out.len(), 6);
    }

    #[test]
    fn null_is_nothing() {
        let config =
            json!({"os": null, "config": {"Env": null, "Cmd": null, "User": null, "Volumes": null, "Labels": null}});
        assert_eq!(annotations(config).0, json!({}));
        assert_eq!(annotations(json!({"config": null})).0, json!({}));
        assert_eq!(annotations(json!({})).0, json!({}));
    }

    #[test]
    fn what_is_no_linux_image_is_refused() {
        for bad in [r#"{"os":"windows"}"#, "[]", r#"{"config":{"Env":"A=1"}}"#, r#"{"config":{"Cmd":[1]}}"#] {
            assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
