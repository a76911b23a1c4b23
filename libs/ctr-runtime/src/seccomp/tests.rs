// SPDX-License-Identifier: Apache-2.0
//! Profiles compiled, and their programs run in an emulator.

mod emulator;
mod live;
mod model;
mod oracle;
mod random;
mod refusals;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::abi::{MACHINES, Machine};
use super::profile::Rules;
use super::vocabulary::ACTIONS;
use emulator::{Data, run};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const LOG: u32 = libc::SECCOMP_RET_LOG;
const KILL: u32 = libc::SECCOMP_RET_KILL_THREAD;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// The program of a profile for a machine.
fn compile(profile: &LinuxSeccomp, machine: &Machine) -> Vec<libc::sock_filter> {
    let listed = profile.architectures().as_deref().unwrap_or_default();
    super::compile::compile(&Rules::of(profile).unwrap(), listed, machine).unwrap()
}

fn machine(name: &str) -> &'static Machine {
    MACHINES.iter().find(|machine| machine.name == name).unwrap()
}

/// A program for x86_64 that can be asked what it answers.
struct Subject(Vec<libc::sock_filter>);

impl Subject {
    fn of(value: Value) -> Self {
        Self(compile(&profile(value), machine("x86_64")))
    }

    /// One that allows what `syscalls` say and refuses the rest.
    fn allowing(syscalls: Value) -> Self {
        Self::of(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": syscalls,
        }))
    }

    fn call(&self, nr: u32, args: &[u64]) -> u32 {
        self.call_as(X86_64, nr, args)
    }

    fn call_as(&self, arch: u32, nr: u32, args: &[u64]) -> u32 {
        let mut data = Data { nr, arch, args: [0; 6] };
        data.args[..args.len()].copy_from_slice(args);
        run(&self.0, &data, false)
    }
}

#[test]
fn every_action_has_its_value() {
    let actions = [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", 0x0005_0001),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ];
    assert!(ACTIONS.iter().all(|listed| actions.iter().any(|(action, _)| action == listed)));
    for (action, value) in actions {
        let subject = Subject::of(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": action}],
        }));
        assert_eq!(subject.call(0, &[]), value, "{action}");
        assert_eq!(subject.call(1, &[]), ALLOW);
    }
}

#[test]
fn an_errno_is_the_one_asked_for() {
    let subject = Subject::of(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 6,
        "syscalls": [
            {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100},
            {"names": ["getuid"], "action": "SCMP_ACT_TRACE", "errnoRet": 77},
            {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"},
        ],
    }));
    assert_eq!(subject.call(39, &[]), errno(100));
    assert_eq!(subject.call(102, &[]), libc::SECCOMP_RET_TRACE | 77);
    assert_eq!(subject.call(0, &[]), errno(libc::ENXIO));
}

#[test]
fn operators_compare_all_64_bits() {
    let at = 0x5_0000_0005_u64;
    type Holds = fn(u64, u64) -> bool;
    let cases: [(&str, Holds); 6] = [
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_GE", |a, b| a >= b),
        ("SCMP_CMP_GT", |a, b| a > b),
    ];
    for (op, holds) in cases {
        let subject = Subject::allowing(json!([
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 3, "value": at, "op": op}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"},
        ]));
        for high in 4..=6_u64 {
            for low in 4..=6_u64 {
                let value = high << 32 | low;
                let expected = if holds(value, at) { ALLOW } else { errno(libc::EPERM) };
                assert_eq!(subject.call(16, &[0, 0, 0, value]), expected, "{value:#x} {op}");
            }
        }
    }
}

#[test]
fn a_mask_hides_the_other_bits() {
    for (mask, value, good, bad) in [
        (0xff_u64, 3_u64, 0xff03, 0xff04),
        (0xffff_ffff, 7, 0x9_0000_0007, 8),
        (0xf_0000_0000, 0x3_0000_0000, 0x3_0000_0007, 0x4_0000_0007),
        (0xf_0000_000f, 0x3_0000_0001, 0xf3_0000_00f1, 0xf3_0000_00f0),
        (0x1000, 0x1000, 0x1001, 0x2001),
        (0x7e02_0000, 0, 0x11, 0x1000_0011),
        (0xf0, 0xff, 0xf0, 0x0f), // bits of the value outside the mask count for nothing
    ] {
        let subject = Subject::allowing(json!([
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"},
        ]));
        assert_eq!(subject.call(56, &[good]), ALLOW, "{mask:#x}");
        assert_eq!(subject.call(56, &[bad]), errno(libc::EPERM), "{mask:#x}");
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let subject = Subject::allowing(json!([
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 9, "op": "SCMP_CMP_LT"}]},
        {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"},
    ]));
    assert_eq!(subject.call(16, &[8, 5]), ALLOW);
    assert_eq!(subject.call(16, &[9, 5]), errno(libc::EPERM));
    assert_eq!(subject.call(16, &[8, 6]), errno(libc::EPERM));
}

#[test]
fn conditions_on_the_same_argument_are_alternatives() {
    let subject = Subject::allowing(json!([
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 3, "op": "SCMP_CMP_EQ"},
            {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
        {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"},
    ]));
    for (args, expected) in [([1, 0], ALLOW), ([3, 0], ALLOW), ([2, 7], ALLOW), ([2, 0], errno(libc::EPERM))] {
        assert_eq!(subject.call(16, &args), expected, "{args:?}");
    }
}

#[test]
fn a_rule_without_conditions_decides_alone() {
    let conditional =
        json!({"names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]});
    let plain = json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"});
    for rules in [json!([conditional, plain]), json!([plain, conditional])] {
        assert_eq!(Subject::allowing(rules).call(16, &[1]), ALLOW);
    }
    let first_wins = json!([plain, {"names": ["ioctl"], "action": "SCMP_ACT_LOG"}]);
    assert_eq!(Subject::allowing(first_wins).call(16, &[1]), ALLOW);
}

#[test]
fn the_tighter_of_two_conditions_is_tried_first() {
    let rule = |action: &str, value: u32, op: &str| json!({"names": ["ioctl"], "action": action, "args": [{"index": 0, "value": value, "op": op}]});
    for rules in [
        json!([rule("SCMP_ACT_ALLOW", 10, "SCMP_CMP_LE"), rule("SCMP_ACT_LOG", 5, "SCMP_CMP_LE")]),
        json!([rule("SCMP_ACT_LOG", 5, "SCMP_CMP_EQ"), rule("SCMP_ACT_ALLOW", 3, "SCMP_CMP_GE")]),
    ] {
        assert_eq!(Subject::allowing(rules.clone()).call(16, &[5]), LOG, "{rules}");
        assert_eq!(Subject::allowing(rules).call(16, &[6]), ALLOW);
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let rules = json!([{"names": ["read", "clone3"], "action": "SCMP_ACT_ALLOW"}]);
    let subject = Subject::allowing(rules.clone());
    assert_eq!(subject.call(435, &[]), ALLOW);
    assert_eq!(subject.call(434, &[]), errno(libc::EPERM)); // pidfd_open: known and not allowed
    assert_eq!(subject.call(436, &[]), errno(libc::ENOSYS));
    assert_eq!(subject.call(9999, &[]), errno(libc::ENOSYS));
    assert_eq!(subject.call_as(X86, 436, &[]), errno(libc::ENOSYS));
    assert_eq!(subject.call(0x4000_0000 + 436, &[]), errno(libc::ENOSYS));

    let permissive = Subject::of(json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": rules}));
    assert_eq!(permissive.call(9999, &[]), LOG);
}

#[test]
fn a_rule_that_repeats_the_default_still_names_its_call() {
    let subject = Subject::allowing(json!([
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO"}]));
    assert_eq!(subject.call(435, &[]), errno(libc::EPERM));
    assert_eq!(subject.call(436, &[]), errno(libc::ENOSYS));
}

#[test]
fn architectures_that_are_not_listed_kill() {
    let subject = Subject::of(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "clone3"], "action": "SCMP_ACT_ALLOW"}],
    }));
    assert_eq!(subject.call(0, &[]), ALLOW);
    assert_eq!(subject.call_as(X86, 3, &[]), KILL);
    assert_eq!(subject.call(0x4000_0000, &[]), KILL);
    assert_eq!(subject.call_as(0xc000_00b7, 63, &[]), KILL);
    // What a tracer leaves behind for a call that it has skipped.
    assert_eq!(subject.call(u32::MAX, &[]), errno(libc::EPERM));
}

#[test]
fn each_architecture_has_its_own_numbers() {
    let subject = Subject::allowing(json!([{"names": ["rt_sigaction", "clone3"], "action": "SCMP_ACT_ALLOW"}]));
    assert_eq!(subject.call(13, &[]), ALLOW);
    assert_eq!(subject.call_as(X86, 174, &[]), ALLOW);
    assert_eq!(subject.call_as(X86, 13, &[]), errno(libc::EPERM));
    assert_eq!(subject.call(0x4000_0000 + 512, &[]), ALLOW);
    assert_eq!(subject.call(0x4000_0000 + 13, &[]), errno(libc::EPERM));
    assert_eq!(subject.call(512, &[]), errno(libc::ENOSYS));
}

#[test]
fn a_call_through_a_multiplexer_is_the_same_call() {
    let subject = Subject::allowing(json!([
        {"names": ["bind", "semget", "clone3"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
    ]));
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    for (call, number, expected) in [
        (SOCKETCALL, 1, ALLOW),
        (SOCKETCALL, 2, ALLOW),
        (SOCKETCALL, 3, errno(libc::EPERM)),
        (IPC, 2, ALLOW),
        (IPC, 1, errno(libc::EPERM)),
    ] {
        assert_eq!(subject.call_as(X86, call, &[number]), expected, "{call} {number}");
    }
    assert_eq!(subject.call_as(X86, 361, &[]), ALLOW); // bind itself
}

#[test]
fn a_program_that_jumps_far_is_right() {
    // Each call has many rules of its own, so that no jump from the search reaches all of them.
    const CALLS: [(&str, u32); 5] = [("read", 0), ("write", 1), ("ioctl", 16), ("fcntl", 72), ("prctl", 157)];
    let mut rules: Vec<Value> = vec![json!({"names": ["clone3"], "action": "SCMP_ACT_ALLOW"})];
    for (index, (name, _)) in CALLS.iter().enumerate() {
        rules.extend((0..300).map(|i| {
            json!({"names": [name], "action": "SCMP_ACT_ALLOW",
                   "args": [{"index": index, "value": i * 3, "op": "SCMP_CMP_EQ"}]})
        }));
    }
    let subject = Subject::allowing(rules.into());
    assert!(subject.0.len() > 2000);
    for (index, (name, nr)) in CALLS.iter().enumerate() {
        for value in 0..=900 {
            let mut args = [1; 6];
            args[index] = value;
            let expected = if value % 3 == 0 && value < 900 { ALLOW } else { errno(libc::EPERM) };
            assert_eq!(subject.call(*nr, &args), expected, "{name} {value}");
        }
    }
    assert_eq!(subject.call(435, &[]), ALLOW);
    assert_eq!(subject.call(2, &[]), errno(libc::EPERM));
}

#[test]
fn unknown_names_are_skipped() {
    let subject = Subject::allowing(json!([{"names": ["frobnicate", "clone3"], "action": "SCMP_ACT_ALLOW"}]));
    assert_eq!(subject.call(435, &[]), ALLOW);
}
