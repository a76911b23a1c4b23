// SPDX-License-Identifier: Apache-2.0
//! config.json read as runc reads it.
//!
//! `oci-spec` is stricter than runc's decoder in a few places; those are put right in the JSON before
//! it sees it. What is unknown is ignored, what is invalid is refused (runtime-spec, "Extensibility").

use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::RuntimeError;
use crate::capability;

/// The largest config.json: real ones have some ten thousand bytes.
const MAX_SIZE: u64 = 16 << 20;

/// A config.json, and the bytes it was read from.
#[derive(Debug)]
pub struct Config {
    /// What it says.
    pub spec: Spec,
    /// The file as it was: later edits of it do not concern the container.
    pub bytes: Vec<u8>,
    /// What was ignored, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads a bundle's config.json.
pub fn load(path: &Path) -> Result<Config, RuntimeError> {
    Config::parse(read(path)?, path)
}

impl Config {
    /// Understands the content of a config.json; `path` is what errors name.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, RuntimeError> {
        let mut warnings = Vec::new();
        let spec: Spec = parse(&bytes, path, |value| normalise_spec(value, &mut warnings))?;
        check_version(&spec)?;
        Ok(Self { spec, bytes, warnings })
    }
}

/// Reads a `process` object, as `exec --process` is given one.
pub fn load_process(path: &Path) -> Result<(Process, Vec<String>), RuntimeError> {
    let mut warnings = Vec::new();
    let process = parse(&read(path)?, path, |value| {
        if let Some(process) = value.as_object_mut() {
            normalise_process(process, &mut warnings);
        }
    })?;
    Ok((process, warnings))
}

fn read(path: &Path) -> Result<Vec<u8>, RuntimeError> {
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound if path.file_name().is_some_and(|name| name == "config.json") => {
            RuntimeError::NoBundle(path.parent().unwrap_or(path).to_owned())
        }
        _ => RuntimeError::io("open", path)(error),
    };
    let file = File::open(path).map_err(missing)?;
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(RuntimeError::io("read", path))?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(RuntimeError::config(path.display().to_string(), "larger than 16 MiB")),
        false => Ok(bytes),
    }
}

fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    normalise: impl FnOnce(&mut Value),
) -> Result<T, RuntimeError> {
    let invalid = |source| RuntimeError::Json { path: path.to_owned(), source };
    let mut value: Value = serde_json::from_slice(bytes).map_err(invalid)?;
    normalise(&mut value);
    serde_json::from_value(value).map_err(invalid)
}

fn check_version(spec: &Spec) -> Result<(), RuntimeError> {
    match spec.version().split('.').next() {
        Some("1") => Ok(()),
        _ => Err(RuntimeError::config("ociVersion", format!("{:?} is not a version 1", spec.version()))),
    }
}

fn normalise_spec(value: &mut Value, warnings: &mut Vec<String>) {
    drop_nulls(value);
    if let Some(process) = value.get_mut("process").and_then(Value::as_object_mut) {
        normalise_process(process, warnings);
    }
    // `"pids": {}` asks for no limit, and oci-spec would read a limit of 0.
    if let Some(resources) = value.pointer_mut("/linux/resources").and_then(Value::as_object_mut)
        && resources.get("pids").is_some_and(|pids| pids.get("limit").is_none())
    {
        resources.remove("pids");
    }
}

fn normalise_process(process: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    process.entry("user").or_insert_with(|| Value::Object(Map::new()));
    // An empty list of CPUs is none to Go.
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        affinity.retain(|_, list| list.as_str() != Some(""));
    }
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for (set, names) in sets.iter_mut() {
            let Some(names) = names.as_array_mut() else { continue };
            names.retain(|name| {
                let known = name.as_str().is_some_and(|name| capability::number(name).is_some());
                if !known {
                    warnings.push(format!("process.capabilities.{set}: {name} is not known and ignored"));
                }
                known
            });
        }
    }
}

// Go's encoder writes `null` for what is unset.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn normalised(mut value: Value) -> (Spec, Vec<String>) {
        let mut warnings = Vec::new();
        normalise_spec(&mut value, &mut warnings);
        (serde_json::from_value(value).unwrap(), warnings)
    }

    #[test]
    fn what_gos_decoder_accepts_is_accepted() {
        let (spec, warnings) = normalised(json!({
            "ociVersion": "1.2.0",
            "unknown": {"x": 1},
            "hostname": null,
            "process": {"cwd": "/", "args": ["a"], "capabilities": {"bounding": ["CAP_KILL", "CAP_FUTURE"]}},
            "linux": {"resources": {"pids": {}, "memory": null}}
        }));
        assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
        assert!(spec.linux().as_ref().unwrap().resources().as_ref().unwrap().pids().is_none());
        assert_eq!(warnings, ["process.capabilities.bounding: \"CAP_FUTURE\" is not known and ignored"]);
    }
}
