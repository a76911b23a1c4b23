// SPDX-License-Identifier: Apache-2.0
//! What is taken for a config.json, and what is put right in it.

use ctr_sys::process as sys;
use serde_json::json;

use super::*;

fn normalised(mut value: Value) -> (Spec, Vec<String>) {
    let mut warnings = Vec::new();
    drop_nulls(&mut value);
    normalise_spec(&mut value, &mut warnings).unwrap();
    (serde_json::from_value(value).unwrap(), warnings)
}

#[test]
fn what_gos_decoder_accepts_is_accepted() {
    let (spec, warnings) = normalised(json!({
        "ociVersion": "1.2.0",
        "unknown": {"x": 1},
        "hostname": null,
        "process": {"cwd": "/", "args": ["a"], "capabilities": {"bounding": ["CAP_KILL", "CAP_FUTURE"]}},
        "linux": {"resources": {"pids": {}, "memory": null, "CPU": {"Cpus": "0"}}}
    }));
    assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
    let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    assert!(resources.pids().is_none());
    assert_eq!(resources.cpu().as_ref().unwrap().cpus().as_deref(), Some("0"));
    assert_eq!(warnings, ["process.capabilities.bounding: \"CAP_FUTURE\" is not known and ignored"]);
    let sets = json!({"permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_CHOWN"],
        "ambient": ["CAP_KILL", "CAP_CHOWN"]});
    let (_, warnings) = normalised(json!({"ociVersion": "1.2.0", "process": {"cwd": "/", "capabilities": sets}}));
    assert_eq!(warnings, ["can't raise ambient capability CAP_CHOWN: it is not permitted and inheritable"]);
}

#[test]
fn a_further_process_has_what_the_first_one_has_unless_it_says_otherwise() {
    let process = |value: Value| serde_json::from_value::<Process>(value).unwrap();
    let first = process(json!({"cwd": "/", "user": {"umask": 63}, "capabilities": {"bounding": ["CAP_KILL"]},
        "scheduler": {"policy": "SCHED_BATCH"}, "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1},
        "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}], "apparmorProfile": "a", "selinuxLabel": "b",
        "noNewPrivileges": true, "env": ["A=1"]}));
    let mut silent = process(json!({"cwd": "/tmp", "user": {}, "rlimits": [], "apparmorProfile": ""}));
    complete_process(&mut silent, &first);
    let mut expected = first.clone();
    expected.set_cwd("/tmp".into()).set_env(None).set_no_new_privileges(None);
    assert_eq!(silent, expected);
    let mut own = process(json!({"cwd": "/", "user": {"umask": 0}, "capabilities": {},
        "scheduler": {"policy": "SCHED_IDLE"}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE"},
        "rlimits": [{"type": "RLIMIT_AS", "soft": 1, "hard": 1}], "apparmorProfile": "c", "selinuxLabel": "d"}));
    let before = own.clone();
    complete_process(&mut own, &first);
    assert_eq!(own, before);
}

// Of lists of words only those that oci-spec has in other letters elsewhere, or has had.
#[test]
fn the_words_of_the_specification_are_known() {
    let policies = ["OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"].map(|name| format!("SCHED_{name}"));
    let flags =
        ["RESET_ON_FORK", "RECLAIM", "DL_OVERRUN", "KEEP_POLICY", "KEEP_PARAMS", "UTIL_CLAMP_MIN", "UTIL_CLAMP_MAX"]
            .map(|name| format!("SCHED_FLAG_{name}"));
    let classes = ["RT", "BE", "IDLE"].map(|name| format!("IOPRIO_CLASS_{name}"));
    let limits = sys::RLIMIT_NAMES.map(|name| json!({"type": format!("RLIMIT_{name}"), "soft": 1, "hard": 1}));
    for policy in policies {
        normalised(json!({"ociVersion": "1.3.0", "process": {"cwd": "/", "rlimits": limits,
            "scheduler": {"policy": policy, "flags": flags}}}));
    }
    for class in classes {
        normalised(json!({"ociVersion": "1.3.0", "process": {"cwd": "/", "ioPriority": {"class": class}}}));
    }
    let modes = ["DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL"];
    let flags = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"].map(|name| format!("MPOL_F_{name}"));
    for mode in modes.map(|name| format!("MPOL_{name}")) {
        normalised(json!({"ociVersion": "1.3.0", "linux": {"memoryPolicy": {"mode": mode, "flags": flags}}}));
    }
    let kinds = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];
    let namespaces = kinds.map(|kind| json!({"type": kind}));
    normalised(json!({"ociVersion": "1.3.0", "linux": {"namespaces": namespaces}}));
}

#[test]
fn an_unset_member_is_one_that_is_null() {
    let process = json!({"cwd": "/", "args": null, "user": null, "rlimits": null, "capabilities": {"ambient": null},
        "scheduler": null, "ioPriority": null, "apparmorProfile": null, "noNewPrivileges": null});
    let read = |value: Value| {
        parse::<Process>(&value.to_string(), Path::new("x"), |value| {
            normalise_process(value.as_object_mut().unwrap(), &mut Vec::new())
        })
    };
    assert_eq!(read(process).unwrap().user().gid(), 0);
    for (member, value) in [("scheduler", json!({"nice": 1})), ("ioPriority", json!({"priority": 1}))] {
        let error = read(json!({"cwd": "/", member: value})).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}

#[test]
fn an_unknown_word_is_named_with_its_place() {
    let refused = |linux: Value| {
        let spec = json!({"ociVersion": "1.3.0", "annotations": {"a": "NOPE"}, "linux": linux}).to_string();
        let spec = parse::<Spec>(&spec, Path::new("x"), |value| normalise_spec(value, &mut Vec::new()));
        spec.unwrap_err().to_string()
    };
    for (linux, message) in [
        (
            json!({"namespaces": [{"type": "pid"}, {"type": "NOPE"}]}),
            "linux.namespaces[1].type: invalid namespace type",
        ),
        (json!({"memoryPolicy": {}}), "linux.memoryPolicy.mode: invalid memory policy mode: it is missing"),
        (json!({"memoryPolicy": {"mode": "NOPE"}}), "linux.memoryPolicy.mode: invalid memory policy mode \"NOPE\""),
        (
            json!({"memoryPolicy": {"mode": "MPOL_BIND", "flags": ["NOPE"]}}),
            "linux.memoryPolicy.flags[0]: invalid memory policy flag \"NOPE\"",
        ),
        (json!({"personality": {"domain": "NOPE"}}), "linux.personality.domain: invalid personality domain"),
        (json!({"seccomp": {"defaultAction": "NOPE"}}), "linux.seccomp.defaultAction: invalid value \"NOPE\""),
    ] {
        let error = refused(linux);
        assert!(error.starts_with(message), "{error}");
    }
}
