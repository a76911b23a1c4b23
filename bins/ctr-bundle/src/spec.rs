// SPDX-License-Identifier: Apache-2.0
//! config.json as a JSON value: what modifiers need to reach into it, and the check at the end.
//!
//! It stays a value to the end, so that members that nobody here knows survive (oci-spec's types would
//! drop them). The modifiers only ever see the default spec, whose shape is known; patches come last.

use ctr_record::{Classify, ErrorKind};
use oci_spec::runtime::Spec;
use serde_json::Value;

/// A value that is, or becomes, an array.
pub(crate) fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("made one above")
}

/// Finds the mount with a destination.
pub(crate) fn mount_on<'a>(spec: &'a mut Value, destination: &str) -> Option<&'a mut Value> {
    list(&mut spec["mounts"]).iter_mut().find(|mount| mount["destination"] == destination)
}

/// A config.json that no runtime would take.
#[derive(Debug)]
pub(crate) enum InvalidSpec {
    /// It is not of the runtime specification's shape: what is wrong, and the line that is.
    Shape(serde_json::Error, Option<String>),
    /// It lacks what every container needs, or has it in a wrong form.
    Content(&'static str),
}

impl std::fmt::Display for InvalidSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(error, None) => error.fmt(f),
            Self::Shape(error, Some(line)) => write!(f, "{error}, in {line}"),
            Self::Content(rule) => f.write_str(rule),
        }
    }
}

impl std::error::Error for InvalidSpec {}

impl Classify for InvalidSpec {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(NO_ARGS) => Some("the image names no command: add one after --".to_owned()),
            _ => None,
        }
    }
}

const NO_ARGS: &str = "process.args is empty";

/// Refuses what is no config.json (runtime-spec, config).
pub(crate) fn check(spec: &Value) -> Result<(), InvalidSpec> {
    serde::Deserialize::deserialize(spec)
        .map(|_: Spec| ())
        .map_err(|error| InvalidSpec::Shape(error, bad_line(spec)))?;
    let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let words = spec.pointer("/process/args").and_then(Value::as_array).map_or(0, Vec::len);
    let rules = [
        (text("/ociVersion").starts_with("1."), "ociVersion is not a version 1"),
        (!text("/root/path").is_empty(), "root.path is missing"),
        // Serde takes an array for a struct.
        (spec.get("linux").is_none_or(Value::is_object), "linux is not an object"),
        (words > 0, NO_ARGS),
        (text("/process/cwd").starts_with('/'), "process.cwd is not an absolute path"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(InvalidSpec::Content(rule)),
        None => Ok(()),
    }
}

// Only text has lines that an error can name.
fn bad_line(spec: &Value) -> Option<String> {
    let text = serde_json::to_string_pretty(spec).ok()?;
    let line = serde_json::from_str::<Spec>(&text).err()?.line();
    let line = text.lines().nth(line.checked_sub(1)?)?.trim().trim_end_matches(',');
    (line.len() > 2).then(|| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_spec::default_spec;
    use serde_json::json;

    fn checked(pointer: &str, value: Value) -> Result<(), String> {
        let mut spec = default_spec("default", "x");
        spec["process"]["args"] = json!(["sh"]);
        if !pointer.is_empty() {
            *spec.pointer_mut(pointer).unwrap() = value;
        }
        check(&spec).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_needs_only_arguments() {
        assert_eq!(checked("", Value::Null), Ok(()));
        assert_eq!(checked("/process/args", json!([])).unwrap_err(), "process.args is empty");
    }

    #[test]
    fn nonsense_is_refused() {
        for (pointer, value) in [
            ("/process/args", json!("sh")),
            ("/process/args", json!([1])),
            ("/process/cwd", json!("tmp")),
            ("/process/user/uid", json!(-1)),
            ("/process/capabilities/bounding", json!(["CAP_NONSENSE"])),
            ("/ociVersion", json!("2.0.0")),
            ("/root", json!({})),
            ("/root/path", json!("")),
            ("/mounts", json!({})),
            ("/linux/namespaces", json!([{"type": "nonsense"}])),
            ("/linux", json!([])),
        ] {
            assert!(checked(pointer, value.clone()).is_err(), "{pointer} {value}");
        }
    }
}
