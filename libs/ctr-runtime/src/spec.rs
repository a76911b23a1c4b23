// SPDX-License-Identifier: Apache-2.0
//! config.json read as runc reads it.
//!
//! `oci-spec` is stricter than runc's decoder in a few places; those are put right in the JSON before
//! it sees it. What is unknown is ignored, what is invalid is refused (runtime-spec, "Extensibility").

mod place;
pub(crate) mod resources;
mod usual;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci_spec::runtime::{Mount, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{RuntimeError, capability};

/// The version of the runtime-spec that this runtime follows.
pub const VERSION: &str = "1.3.0";

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
        let (spec, warnings) = parse_spec(text(&bytes, path)?, path)?;
        check_version(&spec)?;
        Ok(Self { spec, bytes, warnings })
    }
}

fn text<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, RuntimeError> {
    std::str::from_utf8(bytes).map_err(|_| RuntimeError::config(path.display().to_string(), "it is not UTF-8 text"))
}

fn parse_spec(text: &str, path: &Path) -> Result<(Spec, Vec<String>), RuntimeError> {
    let put_right = || {
        let mut warnings = Vec::new();
        let spec: Spec = parse(text, path, |value| normalise_spec(value, &mut warnings))?;
        Ok((spec, warnings))
    };
    match usual::decode(text) {
        None => put_right(),
        Some(spec) => {
            // What is ignored there is looked at more closely: a number may be too large.
            debug_assert!(put_right().map_or(true, |(same, warnings)| same == spec && warnings.is_empty()));
            Ok((spec, Vec::new()))
        }
    }
}

/// Reads a `process` object, as `exec --process` is given one.
pub fn load_process(path: &Path) -> Result<(Process, Vec<String>), RuntimeError> {
    let mut warnings = Vec::new();
    let process = parse(text(&read(path)?, path)?, path, |value| {
        value.as_object_mut().map_or(Ok(()), |process| normalise_process(process, &mut warnings))
    })?;
    Ok((process, warnings))
}

/// Reads a list of mounts, be it alone or as a config.json has it.
pub fn load_mounts(path: &Path) -> Result<Vec<Mount>, RuntimeError> {
    let invalid = |source| RuntimeError::Json { path: path.to_owned(), source };
    let mut value: Value = serde_json::from_slice(&read(path)?).map_err(invalid)?;
    if let Some(mounts) = value.get_mut("mounts") {
        value = mounts.take();
    }
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(invalid)
}

/// The same where only the destinations matter, and the rest may be missing or wrong.
pub fn load_destinations(path: &Path) -> Result<Vec<Mount>, RuntimeError> {
    let mut mounts = load_mounts(path)?;
    for mount in &mut mounts {
        let destination = mount.destination().clone();
        *mount = Mount::default();
        mount.set_destination(destination).set_typ(Some("bind".to_owned())).set_source(Some("/".into()));
        mount.set_options(None).set_uid_mappings(None).set_gid_mappings(None);
    }
    Ok(mounts)
}

/// Gives a process to be executed beside a container's first one what it does not say of itself, as runc does.
pub fn complete_process(process: &mut Process, first: &Process) {
    if process.capabilities().is_none() {
        process.set_capabilities(first.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(first.rlimits().clone());
    }
    if process.apparmor_profile().as_ref().is_none_or(String::is_empty) {
        process.set_apparmor_profile(first.apparmor_profile().clone());
    }
    if process.selinux_label().as_ref().is_none_or(String::is_empty) {
        process.set_selinux_label(first.selinux_label().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*first.io_priority());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(first.scheduler().clone());
    }
    if process.user().umask().is_none() {
        process.user_mut().set_umask(first.user().umask());
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RuntimeError> {
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound if path.file_name().is_some_and(|name| name == "config.json") => {
            let bundle = path.parent().unwrap_or(path);
            match bundle.exists() {
                true => RuntimeError::NoConfig(bundle.to_owned()),
                false => RuntimeError::NoBundle(bundle.to_owned()),
            }
        }
        _ => RuntimeError::io("open", path)(error),
    };
    let file = File::open(path).map_err(missing)?;
    // Two reads for nearly all there are.
    let mut bytes = Vec::with_capacity(32 << 10);
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(RuntimeError::io("read", path))?;
    match bytes.len() as u64 > MAX_SIZE {
        true => Err(RuntimeError::config(path.display().to_string(), "larger than 16 MiB")),
        false => {
            // Then the rest is not provided for nothing.
            bytes.shrink_to_fit();
            Ok(bytes)
        }
    }
}

fn parse<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    normalise: impl FnOnce(&mut Value) -> Result<(), RuntimeError>,
) -> Result<T, RuntimeError> {
    let invalid = |source| RuntimeError::Json { path: path.to_owned(), source };
    let mut value: Value = serde_json::from_str(text).map_err(invalid)?;
    if !value.is_object() {
        return Err(RuntimeError::config(path.display().to_string(), "it is not a JSON object"));
    }
    drop_nulls(&mut value);
    normalise(&mut value)?;
    serde_json::from_value(value)
        .map_err(|source| name_the_word(text, &source).unwrap_or_else(|| locate::<T>(text, path, source)))
}

// What was put right has no lines any more; the text itself is decoded once more to find the place.
fn locate<T: DeserializeOwned>(text: &str, path: &Path, source: serde_json::Error) -> RuntimeError {
    let place = |error: &serde_json::Error| format!(" at line {} column {}", error.line(), error.column());
    match serde_json::from_str::<T>(text) {
        Err(error) if error.to_string() == source.to_string() + &place(&error) => {
            let member = place::member_at(text.as_bytes(), error.line(), error.column());
            match member.is_empty() {
                true => RuntimeError::Json { path: path.to_owned(), source: error },
                false => RuntimeError::Member { path: path.to_owned(), member, source: error },
            }
        }
        _ => RuntimeError::Json { path: path.to_owned(), source },
    }
}

// The decoder tells an unknown word but not where it stands.
fn name_the_word(text: &str, error: &serde_json::Error) -> Option<RuntimeError> {
    let message = error.to_string();
    let (word, expected) = message.strip_prefix("unknown variant `")?.split_once("`, ")?;
    let value: Value = serde_json::from_str(text).ok()?;
    let field = find_word(&value, word)?;
    let known = |(_, place): &&(&str, &str)| field.starts_with(place);
    let what = WORDS.iter().find(known).map_or("value", |(what, _)| what);
    Some(RuntimeError::config(field, format!("invalid {what} {word:?}, {expected}")))
}

// What runc's messages call these.
const WORDS: [(&str, &str); 5] = [
    ("memory policy mode", "linux.memoryPolicy.mode"),
    ("memory policy flag", "linux.memoryPolicy.flags"),
    ("personality domain", "linux.personality.domain"),
    ("namespace type", "linux.namespaces"),
    ("rlimit type", "process.rlimits"),
];

// Where a word is the value of something, as `linux.namespaces[1].type`.
fn find_word(value: &Value, word: &str) -> Option<String> {
    let below = |name: String, value: &Value| match value {
        Value::String(text) if text == word => Some(name),
        _ => find_word(value, word).map(|rest| match rest.starts_with('[') {
            true => name + &rest,
            false => name + "." + &rest,
        }),
    };
    match value {
        Value::Object(map) => {
            let is_free_text = |name: &str| ["annotations", "args", "env"].contains(&name);
            let mut members = map.iter().filter(|(name, _)| !is_free_text(name));
            members.find_map(|(name, value)| below(name.clone(), value))
        }
        Value::Array(items) => items.iter().enumerate().find_map(|(i, value)| below(format!("[{i}]"), value)),
        _ => None,
    }
}

fn check_version(spec: &Spec) -> Result<(), RuntimeError> {
    match spec.version().split('.').next() {
        Some("1") => Ok(()),
        _ => Err(RuntimeError::config("ociVersion", format!("{:?} is not a version 1", spec.version()))),
    }
}

fn normalise_spec(value: &mut Value, warnings: &mut Vec<String>) -> Result<(), RuntimeError> {
    if let Some(process) = value.get_mut("process").and_then(Value::as_object_mut) {
        normalise_process(process, warnings)?;
    }
    if let Some(resources) = value.pointer_mut("/linux/resources").and_then(Value::as_object_mut) {
        resources::normalise(resources);
    }
    require(value.pointer("/linux/memoryPolicy"), "mode", "linux.memoryPolicy.mode: invalid memory policy mode")
}

// What oci-spec would choose by itself if it is not there.
fn require(object: Option<&Value>, name: &str, what: &str) -> Result<(), RuntimeError> {
    match object.is_none_or(|object| object.get(name).is_some()) {
        true => Ok(()),
        false => Err(RuntimeError::config(what, "it is missing")),
    }
}

fn normalise_process(process: &mut Map<String, Value>, warnings: &mut Vec<String>) -> Result<(), RuntimeError> {
    process.entry("user").or_insert_with(|| Value::Object(Map::new()));
    require(process.get("ioPriority"), "class", "process.ioPriority.class")?;
    require(process.get("scheduler"), "policy", "process.scheduler.policy")?;
    if let Some(flags) = process.get_mut("scheduler").and_then(|it| it.get_mut("flags")).and_then(Value::as_array_mut) {
        flags.iter_mut().for_each(rename_scheduler_flag);
    }
    // An empty list of CPUs is none to Go.
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        affinity.retain(|_, list| list.as_str() != Some(""));
    }
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        warnings.extend(ambient_in_vain(sets));
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
    Ok(())
}

// What is to be ambient has to be permitted and inheritable first (capabilities(7)).
fn ambient_in_vain(sets: &Map<String, Value>) -> Vec<String> {
    let names = |set: &str| sets.get(set).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let has = |set: &str, name: &str| names(set).any(|other| capability::number(other) == capability::number(name));
    let refused = |name: &&str| !has("permitted", name) || !has("inheritable", name);
    let warning = |name: &str| format!("can't raise ambient capability {name}: it is not permitted and inheritable");
    names("ambient").filter(|name| capability::number(name).is_some()).filter(refused).map(warning).collect()
}

// oci-spec has other names for two of them than the specification.
fn rename_scheduler_flag(flag: &mut Value) {
    match flag.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
        Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
        _ => {}
    }
}

// Go's encoder writes `null` for what is unset.
pub(crate) fn drop_nulls(value: &mut Value) {
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
mod tests;
