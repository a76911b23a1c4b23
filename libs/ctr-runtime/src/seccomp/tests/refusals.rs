// SPDX-License-Identifier: Apache-2.0
//! Profiles that make no sense, and what goes with the program of one that does.

use ctr_sys::seccomp::Flags;
use serde_json::{Value, json};

use super::profile;
use crate::seccomp::{Profile, SeccompError};

fn failure(value: Value) -> SeccompError {
    Profile::new(&profile(value)).and_then(|profile| profile.compile()).unwrap_err()
}

#[test]
fn refuses_what_makes_no_sense() {
    let with = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let cases = [
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), "of no use to SCMP_ACT_ALLOW"),
        (with(json!({"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1})), "of no use to SCMP_ACT_KILL"),
        (with(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65537})), "65537 is not an errno"),
        (with(json!({"names": [""], "action": "SCMP_ACT_ERRNO"})), "empty"),
        (
            with(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]})),
            "no argument 6",
        ),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (with(json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"})), "cannot be used for the write syscall"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
            ]}),
            "rules for read contradict",
        ),
    ];
    for (value, message) in cases {
        let text = failure(value.clone()).to_string();
        assert!(text.contains(message), "{text:?} for {value}");
    }
}

#[test]
fn refuses_a_program_that_the_kernel_would_not_take() {
    for rules in [2500, 20_000] {
        let rules: Vec<Value> = (0..rules)
            .map(|i| {
                json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                       "args": [{"index": 0, "value": i * 2, "op": "SCMP_CMP_NE"}]})
            })
            .collect();
        let error = failure(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
        assert!(matches!(error, SeccompError::TooLong { limit: 4096, .. }), "{error}");
    }
}

#[test]
fn flags_are_those_of_the_profile() {
    let compiled = |action: &str, flags: Value| {
        let rules = json!([{"names": ["getsid"], "action": action}]);
        let mut value = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "syscalls": rules});
        if !flags.is_null() {
            value["flags"] = flags;
        }
        Profile::new(&profile(value)).map(|profile| profile.flags)
    };
    let waiting = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    for (action, given, expected) in [
        ("SCMP_ACT_ERRNO", Value::Null, Flags::SPEC_ALLOW),
        ("SCMP_ACT_ERRNO", json!([]), Flags::NONE),
        ("SCMP_ACT_ERRNO", json!(["SECCOMP_FILTER_FLAG_TSYNC"]), Flags::NONE),
        ("SCMP_ACT_NOTIFY", waiting.clone(), Flags::LOG | Flags::WAIT_KILLABLE_RECV),
    ] {
        assert_eq!(compiled(action, given).unwrap(), expected);
    }
    assert!(matches!(compiled("SCMP_ACT_ERRNO", waiting), Err(SeccompError::NothingToWaitFor)));
}
