// SPDX-License-Identifier: Apache-2.0
//! `linux.resources` as JSON: read as runc reads it, and brought up to date by an update.

use serde_json::{Map, Value};

/// The members of `linux.resources` at every depth, but for those that are named by the user.
const MEMBERS: [&str; 47] = [
    "devices",
    "allow",
    "type",
    "access",
    "memory",
    "limit",
    "reservation",
    "swap",
    "kernel",
    "kernelTCP",
    "swappiness",
    "disableOOMKiller",
    "useHierarchy",
    "checkBeforeUpdate",
    "cpu",
    "shares",
    "quota",
    "burst",
    "period",
    "realtimeRuntime",
    "realtimePeriod",
    "cpus",
    "mems",
    "idle",
    "pids",
    "blockIO",
    "weight",
    "leafWeight",
    "weightDevice",
    "major",
    "minor",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
    "rate",
    "hugepageLimits",
    "pageSize",
    "network",
    "classID",
    "priorities",
    "name",
    "priority",
    "rdma",
    "hcaHandles",
    "hcaObjects",
    "unified",
];

/// Brings resources into the form that is parsed: members are found whatever the case of their letters, as Go's
/// decoder finds them, and `"pids": {}` asks for no limit.
pub(crate) fn normalise(resources: &mut Map<String, Value>) {
    fold_names(resources);
    if resources.get("pids").is_some_and(|pids| pids.get("limit").is_none()) {
        resources.remove("pids");
    }
}

fn fold_names(object: &mut Map<String, Value>) {
    if object.keys().any(|key| !MEMBERS.contains(&key.as_str())) {
        let entries = std::mem::take(object).into_iter();
        object.extend(entries.map(|(key, value)| {
            let member = MEMBERS.iter().find(|member| member.eq_ignore_ascii_case(&key));
            (member.map_or(key, |member| (*member).to_owned()), value)
        }));
    }
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("unified", _) => {}
            // the names of devices come first
            ("rdma", Value::Object(devices)) => {
                devices.values_mut().filter_map(Value::as_object_mut).for_each(fold_names);
            }
            (_, Value::Object(inner)) => fold_names(inner),
            (_, Value::Array(items)) => items.iter_mut().filter_map(Value::as_object_mut).for_each(fold_names),
            _ => {}
        }
    }
}

/// Brings recorded resources up to date: what an update does not mention stays as it was. Devices stay.
///
/// Both are in normal form.
pub(crate) fn merge(recorded: &mut Map<String, Value>, update: &Map<String, Value>) {
    // no limit of memory is none of memory plus swap, unless the update says otherwise
    if let Some(memory) = update.get("memory")
        && memory.get("limit").and_then(Value::as_i64) == Some(-1)
        && memory.get("swap").is_none()
        && let Some(Value::Object(recorded)) = recorded.get_mut("memory")
    {
        recorded.remove("swap");
    }
    merge_object(recorded, update.iter().filter(|(key, _)| *key != "devices"));
}

fn merge_object<'a>(old: &mut Map<String, Value>, new: impl Iterator<Item = (&'a String, &'a Value)>) {
    for (key, value) in new {
        match (old.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge_object(old, new.iter()),
            (Some(Value::Array(old)), Value::Array(new)) => merge_list(old, new),
            _ => {
                old.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A list is one of devices, page sizes or interfaces: an entry of the same replaces the old one.
fn merge_list(old: &mut Vec<Value>, new: &[Value]) {
    const IDENTITY: [&str; 4] = ["major", "minor", "pageSize", "name"];
    for entry in new {
        let is_same = |other: &&mut Value| IDENTITY.iter().all(|key| other.get(key) == entry.get(key));
        // Of those that are given twice the last is in force.
        match (old.iter_mut().rfind(is_same), entry) {
            (Some(Value::Object(old)), Value::Object(new)) => merge_object(old, new.iter()),
            _ => old.push(entry.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("test JSON") };
        object
    }

    #[test]
    fn members_are_found_whatever_their_case() {
        let mut resources = object(json!({
            "CPU": {"Cpus": "1"}, "blockio": {"throttlereadiopsdevice": [{"Major": 8}]},
            "hugepageLimits": [{"pagesize": "2MB"}], "rdma": {"MEMORY": {"hcahandles": 3}},
            "unified": {"CPU.max": "max"}, "other": {"X": 1}
        }));
        normalise(&mut resources);
        let expected = json!({
            "cpu": {"cpus": "1"}, "blockIO": {"throttleReadIOPSDevice": [{"major": 8}]},
            "hugepageLimits": [{"pageSize": "2MB"}], "rdma": {"MEMORY": {"hcaHandles": 3}},
            "unified": {"CPU.max": "max"}, "other": {"X": 1}
        });
        assert_eq!(Value::Object(resources), expected);
    }

    #[test]
    fn no_pids_limit_is_not_a_limit_of_0() {
        let mut resources = object(json!({"pids": {}, "memory": {}}));
        normalise(&mut resources);
        assert_eq!(Value::Object(resources), json!({"memory": {}}));
    }

    #[track_caller]
    fn expect(recorded: Value, update: Value, merged: Value) {
        let mut resources = object(recorded);
        merge(&mut resources, &object(update));
        assert_eq!(Value::Object(resources), merged);
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        expect(
            json!({"memory": {"limit": 5, "swap": 7}, "devices": [{"allow": false}], "own": 1}),
            json!({"memory": {"limit": 6}, "pids": {"limit": 3}, "devices": []}),
            json!({"memory": {"limit": 6, "swap": 7}, "devices": [{"allow": false}], "own": 1, "pids": {"limit": 3}}),
        );
        expect(
            json!({"unified": {"a.b": "1"}}),
            json!({"unified": {"c.d": "2"}}),
            json!({"unified": {"a.b": "1", "c.d": "2"}}),
        );
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap() {
        expect(
            json!({"memory": {"limit": 5, "swap": 7}}),
            json!({"memory": {"limit": -1}}),
            json!({"memory": {"limit": -1}}),
        );
        expect(
            json!({"memory": {"limit": 5, "swap": 7}}),
            json!({"memory": {"limit": -1, "swap": 9}}),
            json!({"memory": {"limit": -1, "swap": 9}}),
        );
    }

    #[test]
    fn entries_of_the_same_device_are_replaced() {
        let device = |minor: u64, rate: u64| json!({"major": 8, "minor": minor, "rate": rate});
        expect(
            json!({"blockIO": {"throttleReadBpsDevice": [device(0, 1), device(16, 5), device(16, 2)]}}),
            json!({"blockIO": {"throttleReadBpsDevice": [device(16, 3), device(32, 4)]}}),
            json!({"blockIO": {"throttleReadBpsDevice": [device(0, 1), device(16, 5), device(16, 3), device(32, 4)]}}),
        );
        expect(
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2}, {"pageSize": "1GB", "limit": 3}]}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2}, {"pageSize": "1GB", "limit": 3}]}),
        );
    }
}
