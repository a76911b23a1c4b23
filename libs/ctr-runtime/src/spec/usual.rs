// SPDX-License-Identifier: Apache-2.0
//! The usual config: one in which nothing has to be put right, and which needs no `Value` on its way.
//!
//! Nearly all are, and this takes a third of the time. Whether one is cannot be told from what was decoded: the
//! text is searched for the members that the decoder reads otherwise than runc does.

use std::collections::BTreeMap;

use oci_spec::runtime::Spec;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::capability;
use crate::spec::resources;

/// Decodes a usual config; `None` leaves it to who puts things right, or says what is wrong.
pub(super) fn decode(text: &str) -> Option<Spec> {
    // The decoder would take a list for an object's members in their order. Without escapes of letters a member's
    // name stands in the text as it is.
    if !text.trim_ascii_start().starts_with('{') || text.contains("\\u") {
        return None;
    }
    let spec = serde_json::from_str(text).ok()?;
    let known = members(text, "\"capabilities\"").all(has_known_capabilities);
    let normal = members(text, "\"resources\"").all(has_normal_resources);
    (known && normal && !has_what_is_completed(&spec)).then_some(spec)
}

fn has_what_is_completed(spec: &Spec) -> bool {
    let of_process = spec.process().as_ref().is_some_and(|process| {
        let ambient = process.capabilities().as_ref().and_then(|sets| sets.ambient().as_ref());
        process.io_priority().is_some()
            || process.scheduler().is_some()
            || process.exec_cpu_affinity().is_some()
            || ambient.is_some_and(|set| !set.is_empty())
    });
    of_process || spec.linux().as_ref().is_some_and(|linux| linux.memory_policy().is_some())
}

/// What follows a name and its colon, wherever they stand.
fn members<'a>(text: &'a str, quoted: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(quoted).filter_map(move |(at, _)| {
        let behind = text[at + quoted.len()..].trim_start_matches([' ', '\t', '\n', '\r']);
        behind.strip_prefix(':')
    })
}

fn first<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::Deserializer::from_str(text).into_iter().next()?.ok()
}

fn has_known_capabilities(text: &str) -> bool {
    let sets: Option<BTreeMap<&str, Vec<&str>>> = first(text);
    sets.is_some_and(|sets| sets.values().flatten().all(|name| capability::number(name).is_some()))
}

fn has_normal_resources(text: &str) -> bool {
    let found: Option<Map<String, Value>> = first(text);
    found.is_some_and(|found| {
        let mut normal = found.clone();
        resources::normalise(&mut normal);
        normal == found
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(process: Value, linux: Value) -> Option<Spec> {
        decode(&json!({"ociVersion": "1.3.0", "process": process, "linux": linux}).to_string())
    }

    #[test]
    fn what_containers_are_usually_made_of_is_decoded() {
        let spec = config(
            json!({"cwd": "/", "args": ["sh", "-c", "echo \"$x\""], "user": {"uid": 5}, "apparmorProfile": null,
                "env": ["\"capabilities\"", "resources="],
                "capabilities": {"bounding": ["CAP_KILL"], "ambient": []}}),
            json!({"resources": {"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 9}, "cpu": {}},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}]}}),
        );
        assert_eq!(spec.unwrap().process().as_ref().unwrap().user().uid(), 5);
    }

    #[test]
    fn what_is_to_be_put_right_is_left() {
        let plain = || json!({"cwd": "/", "user": {}});
        assert!(config(plain(), json!({})).is_some());
        for (member, value) in [
            ("user", json!(null)),
            ("ioPriority", json!({"class": "IOPRIO_CLASS_RT"})),
            ("scheduler", json!({"policy": "SCHED_BATCH"})),
            ("execCPUAffinity", json!({"initial": "0"})),
            ("capabilities", json!({"bounding": ["CAP_FUTURE"]})),
            // The decoder would take it for another.
            ("capabilities", json!({"bounding": ["CAP_CAP_KILL"]})),
            ("capabilities", json!({"ambient": ["CAP_KILL"]})),
        ] {
            let mut process = plain();
            process[member] = value;
            assert!(config(process.clone(), json!({})).is_none(), "{process}");
        }
        for linux in [
            json!({"resources": {"pids": {}}}),
            json!({"resources": {"CPU": {"cpus": "0"}}}),
            json!({"resources": {"cpu": {"Cpus": "0"}}}),
            json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}}),
            json!({"seccomp": {"defaultAction": "NOPE"}}),
        ] {
            assert!(config(plain(), linux.clone()).is_none(), "{linux}");
        }
        for text in [
            r#"{"ociVersion": "1.3.0", "linux": {"\u0072esources": {"pids": {}}}}"#,
            r#"{"ociVersion": "1.3.0", "linux": {"resources" : {"pids": {}}}}"#,
            r#"{"ociVersion": "1.3.0", "linux": {}, "linux": {}}"#,
            r#"{"ociVersion": "1.3.0""#,
            r#"["1.3.0"]"#,
        ] {
            assert!(decode(text).is_none(), "{text}");
        }
    }
}
