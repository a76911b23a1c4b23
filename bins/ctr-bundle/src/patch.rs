// SPDX-License-Identifier: Apache-2.0
//! Changes to config.json as data: JSON Merge Patch (RFC 7386) and JSON Patch (RFC 6902).

use std::path::{Path, PathBuf};

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use ctr_store::read_bounded;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest patch; config.json itself is not larger.
const MAX_PATCH: u64 = 16 << 20;

/// A patch and where it came from.
#[derive(Debug)]
pub(crate) struct Patch {
    path: PathBuf,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Merge(Map<String, Value>),
    Operations(Vec<Operation>),
}

/// One operation of a JSON patch; members that an operation does not use are ignored (RFC 6902, 4).
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}

impl Patch {
    /// Reads a patch: an object is a merge patch, an array a JSON patch.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = read_bounded(path, MAX_PATCH).unable_to(|| "read the patch")?;
        let change = Self::parse(&text).map_err(|cause| {
            Error::new(ErrorKind::Invalid, format!("the patch {} is no patch: {cause}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), change })
    }

    fn parse(text: &[u8]) -> Result<Change, String> {
        match serde_json::from_slice(text).map_err(|error| error.to_string())? {
            Value::Object(merge) => Ok(Change::Merge(merge)),
            operations @ Value::Array(_) => {
                serde_json::from_value(operations).map(Change::Operations).map_err(|error| error.to_string())
            }
            _ => Err("it is neither an object (merge patch) nor an array (JSON patch)".to_owned()),
        }
    }

    /// Applies the patch; on failure the document is in between and of no use.
    pub(crate) fn apply(&self, document: &mut Value) -> Result<(), Error> {
        match &self.change {
            Change::Merge(merge) => merge_object(document, merge),
            Change::Operations(operations) => {
                for (index, operation) in operations.iter().enumerate() {
                    operation.apply(document).map_err(|cause| {
                        let path = self.path.display();
                        let message = format!("the patch {path} does not apply: operation {}: {cause}", index + 1);
                        Error::new(ErrorKind::Invalid, message)
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => merge_object(target, patch),
        other => *target = other.clone(),
    }
}

fn merge_object(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().expect("made one above");
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.shift_remove(name)),
            value => merge(members.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

impl Operation {
    fn apply(&self, document: &mut Value) -> Result<(), String> {
        match self {
            Self::Add { path, value } => add(document, path, value.clone()),
            Self::Remove { path } => remove(document, path).map(drop),
            Self::Replace { path, value } => {
                *find_mut(document, path)? = value.clone();
                Ok(())
            }
            Self::Move { from, path } => {
                if path.strip_prefix(from.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                    return Err(format!("{from:?} cannot be moved into itself"));
                }
                let value = remove(document, from)?;
                add(document, path, value)
            }
            Self::Copy { from, path } => {
                let value = find_mut(document, from)?.clone();
                add(document, path, value)
            }
            Self::Test { path, value } => match equal(find_mut(document, path)?, value) {
                true => Ok(()),
                false => Err(format!("{path:?} is not {value}")),
            },
        }
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let Some((parent, last)) = split(path)? else {
        *document = value;
        return Ok(());
    };
    match find_mut(document, parent)? {
        Value::Object(members) => {
            members.insert(last, value);
            Ok(())
        }
        Value::Array(items) => {
            let at = if last == "-" { Some(items.len()) } else { index(&last).filter(|at| *at <= items.len()) };
            items.insert(at.ok_or_else(|| format!("{path:?} is not inside the array"))?, value);
            Ok(())
        }
        _ => Err(format!("{parent:?} is neither object nor array")),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("there is no {path:?}");
    let Some((parent, last)) = split(path)? else { return Ok(std::mem::take(document)) };
    match find_mut(document, parent)? {
        Value::Object(members) => members.shift_remove(&last).ok_or_else(missing),
        Value::Array(items) => match index(&last) {
            Some(at) if at < items.len() => Ok(items.remove(at)),
            _ => Err(missing()),
        },
        _ => Err(missing()),
    }
}

// Walks a JSON pointer (RFC 6901).
fn find_mut<'a>(document: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    let mut value = document;
    for token in tokens(path)? {
        let next = match value {
            Value::Object(members) => members.get_mut(&token),
            Value::Array(items) => index(&token).and_then(|at| items.get_mut(at)),
            _ => None,
        };
        value = next.ok_or_else(|| format!("there is no {path:?}"))?;
    }
    Ok(value)
}

fn split(path: &str) -> Result<Option<(&str, String)>, String> {
    let Some(last) = tokens(path)?.pop() else { return Ok(None) };
    let (parent, _) = path.rsplit_once('/').expect("a pointer with tokens has a slash");
    Ok(Some((parent, last)))
}

fn tokens(path: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("{path:?} is not a JSON pointer");
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let tokens = path.strip_prefix('/').ok_or_else(invalid)?.split('/');
    tokens.map(|token| unescape(token).ok_or_else(invalid)).collect()
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.split_at_checked(1)? {
            ("0", rest) => ('~', rest),
            ("1", rest) => ('/', rest),
            _ => return None,
        };
        text.push(character);
        text.push_str(rest);
    }
    Some(text)
}

// Digits without a leading zero.
fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|b| b.is_ascii_digit());
    match digits && (token == "0" || !token.starts_with('0')) {
        true => token.parse().ok(),
        false => None,
    }
}

// Numbers are equal when they are numerically (RFC 6902, 4.6): 1 is 1.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests;
