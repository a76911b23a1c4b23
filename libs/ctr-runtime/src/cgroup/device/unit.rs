// SPDX-License-Identifier: Apache-2.0
//! A policy as systemd has it: what a unit may use, where nothing is allowed by default.

use super::{DevicePolicy, Kind, Rule};
use crate::dbus::Value;

impl DevicePolicy {
    /// The properties `DevicePolicy` and `DeviceAllow` of a unit, as near to the policy as they can be.
    ///
    /// systemd knows neither what is denied of something allowed nor a minor number of any major one. The
    /// policy itself is put into force after it, in the place of systemd's.
    pub(in crate::cgroup) fn unit_properties(&self) -> Vec<(String, Value)> {
        let (policy, allowed) = match self.exceptions() {
            Ok((false, exceptions)) => ("strict", exceptions.iter().filter_map(allow).collect()),
            Ok((true, _)) => ("auto", Vec::new()),
            // there is no set of exceptions: nothing, until the policy itself is in force
            Err(_) => ("strict", Vec::new()),
        };
        vec![
            ("DevicePolicy".to_owned(), Value::string(policy)),
            ("DeviceAllow".to_owned(), Value::Array("(ss)".to_owned(), allowed)),
        ]
    }
}

fn allow(rule: &Rule) -> Option<Value> {
    let kind = match rule.kind? {
        Kind::Char => "char",
        Kind::Block => "block",
    };
    let node = match (rule.major, rule.minor) {
        (None, None) => format!("{kind}-*"),
        (None, Some(_)) => return None,
        (Some(major), None) => format!("{kind}-{major}"),
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
    };
    Some(Value::Struct(vec![Value::String(node), Value::String(rule.access.to_string())]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn shown(rules: Json) -> Json {
        let rules: Vec<_> = serde_json::from_value(rules).expect("test JSON");
        let properties = DevicePolicy::from_spec(&rules).expect("a policy").unit_properties();
        json!(properties.iter().map(|(_, value)| value).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_allowed_is_listed() {
        let rules = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "access": "r"},
            {"allow": true, "type": "c", "minor": 9, "access": "r"},
        ]);
        let shown = shown(rules);
        assert_eq!(shown[0], "strict");
        let listed = shown[1].as_array().expect("an array");
        for entry in [
            json!(["block-8", "r"]),
            json!(["char-*", "m"]),
            json!(["/dev/char/1:3", "rwm"]),
            json!(["char-136", "rwm"]),
        ] {
            assert!(listed.contains(&entry), "{entry}: {shown}");
        }
        assert_eq!(listed.len(), 12, "{shown}");
    }

    #[test]
    fn what_cannot_be_listed_is_left_to_the_policy_itself() {
        let all = json!({"allow": true, "access": "rwm"});
        let but = json!({"allow": false, "type": "b", "major": 8, "access": "rwm"});
        assert_eq!(shown(json!([all])), json!(["auto", []]));
        assert_eq!(shown(json!([all, but])), json!(["auto", []]));
        let wide = json!({"allow": true, "type": "b", "access": "rw"});
        assert_eq!(shown(json!([wide, but])), json!(["strict", []]));
    }
}
