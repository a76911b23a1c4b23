// SPDX-License-Identifier: Apache-2.0
//! Profiles made up at random, and the answers of their programs to every number of every architecture.

use std::collections::HashSet;

use libseccomp::ScmpSyscall;
use oci_spec::runtime::{Arch, LinuxSeccomp};
use serde_json::{Value, json};

use super::emulator::{Data, run};
use super::model::Model;
use super::oracle::{self, Oracle};
use super::{compile, machine, profile};
use crate::seccomp::abi::{MACHINES, Machine};
use crate::seccomp::multiplex;
use crate::seccomp::table::{self, CALLS, Call};

/// Numbers that look random and are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    fn value(&mut self) -> u64 {
        let small = self.roll(4) as u64;
        match self.roll(4) {
            0 => small,
            1 => (self.roll(3) as u64) << 32 | small,
            2 => self.pick(&[0xffff_ffff, u64::MAX, 0x8000_0000, 0x7e02_0000, 0x1_0000_0000]),
            _ => self.roll(40) as u64,
        }
    }

    fn condition(&mut self, index: usize, operators: &[&str]) -> Value {
        let op = format!("SCMP_CMP_{}", self.pick(operators));
        json!({"index": index, "value": self.value(), "valueTwo": self.value(), "op": op})
    }
}

const EQUALITIES: [&str; 2] = ["EQ", "MASKED_EQ"];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const LITTLE: [&str; 4] = ["x86_64", "aarch64", "riscv64", "powerpc64"];

const ACTIONS: [(&str, Option<u32>); 8] = [
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_LOG", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_PROCESS", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_TRACE", Some(7)),
];

const MULTIPLEXED: usize = 0;

/// The action that all rules for a call have. Calls that are made through one multiplexer share it.
fn action_for(call: Call) -> usize {
    let name = name_of(call);
    let multiplexers = ["socketcall", "ipc"];
    let through = multiplexers.iter().flat_map(|name| multiplex::through(table::find(name).unwrap()));
    if multiplexers.contains(&name) || through.map(|(name, _)| name).any(|through| through == name) {
        MULTIPLEXED
    } else {
        1 + usize::from(call) % (ACTIONS.len() - 1)
    }
}

fn name_of(call: Call) -> &'static str {
    std::str::from_utf8(table::name_of(call)).unwrap()
}

fn rule(call: Call, action: usize, args: Vec<Value>) -> Value {
    let (action, errno) = ACTIONS[action];
    json!({"names": [name_of(call)], "action": action, "errnoRet": errno, "args": args})
}

fn with_rules(default: usize, mut rules: Vec<Value>) -> LinuxSeccomp {
    let (action, errno) = ACTIONS[default];
    // Something new, so that few numbers are newer than the profile.
    let clone3 = table::find("clone3").unwrap();
    rules.push(rule(clone3, action_for(clone3), Vec::new()));
    profile(json!({
        "defaultAction": action, "defaultErrnoRet": errno, "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_S390"],
    }))
}

/// Calls worth making: every number, and calls that have conditions with many arguments.
fn calls(profile: &LinuxSeccomp, machine: &Machine, dice: &mut Dice) -> Vec<Data> {
    let rules = || profile.syscalls().iter().flatten();
    let given = rules().flat_map(|rule| rule.args().iter().flatten());
    let mut values: Vec<u64> = given
        .flat_map(|arg| [arg.value(), arg.value_two().unwrap_or_default()])
        .chain([0])
        .flat_map(|v| [v, v.wrapping_add(1), v.wrapping_sub(1), v ^ 1 << 32, v & 0xffff_ffff, v << 32, !v])
        .collect();
    values.sort_unstable();
    values.dedup();
    let conditional: HashSet<Call> = rules()
        .filter(|rule| rule.args().as_ref().is_some_and(|args| !args.is_empty()))
        .flat_map(|rule| rule.names().iter().filter_map(|name| table::find(name)))
        .chain(["socketcall", "ipc"].into_iter().filter_map(table::find))
        .collect();

    let mut calls = Vec::new();
    for abi in machine.abis {
        let numbers = (0..620).chain(0xf0000..0xf0008).chain([0x3fff_ffff]).map(|nr| nr + abi.offset);
        calls.extend(numbers.chain([u32::MAX]).map(|nr| Data { nr, arch: abi.audit, args: [0; 6] }));
        for (nr, _) in abi.calls.iter().filter(|(_, call)| conditional.contains(call)) {
            calls.extend((0..100).map(|_| {
                let args = std::array::from_fn(|_| dice.pick(&values));
                Data { nr: nr + abi.offset, arch: abi.audit, args }
            }));
        }
    }
    calls.extend([0, 0x4000_0003, 0xc000_003e, 0xc000_00b7].map(|arch| Data { nr: 5, arch, args: [0; 6] }));
    calls
}

fn compare(profile: &LinuxSeccomp, machine: &Machine, dice: &mut Dice, expected: impl Fn(&Data) -> u32) {
    let program = compile(profile, machine);
    for call in calls(profile, machine, dice) {
        let (ours, theirs) = (run(&program, &call, machine.big_endian), expected(&call));
        let Data { nr, arch, args } = call;
        assert!(
            ours == theirs,
            "{ours:#x} is not {theirs:#x} for {nr:#x} of {arch:#x} with {args:x?} under {}",
            serde_json::to_string(profile).unwrap(),
        );
    }
}

#[test]
fn random_profiles_mean_what_they_say() {
    let mut dice = Dice(1);
    for machine in MACHINES.iter().cycle().take(64) {
        let rules = (0..dice.roll(80)).map(|_| {
            let call = dice.roll(CALLS) as Call;
            let args = (0..dice.roll(4))
                .map(|_| {
                    let index = dice.roll(3);
                    dice.condition(index, &OPERATORS)
                })
                .collect();
            rule(call, action_for(call), args)
        });
        let rules = rules.collect();
        let profile = with_rules(dice.roll(ACTIONS.len()), rules);
        let model = Model::of(&profile, machine);
        compare(&profile, machine, &mut dice, |call| model.answer(call));
    }
}

/// Calls whose numbers libseccomp and the table agree on: an older one lacks some.
fn known_to_libseccomp(machine: &Machine) -> Vec<Call> {
    let agrees = |call: &Call| {
        ScmpSyscall::from_name(name_of(*call)).is_ok()
            && machine.abis.iter().all(|abi| {
                let ours = abi.calls.iter().find(|(_, other)| other == call).map(|(nr, _)| nr + abi.offset);
                oracle::number(name_of(*call), abi) == ours
            })
    };
    // It takes one for the other on all but their own architecture.
    let confused = ["switch_endian", "sys_debug_setcontext"];
    (0..CALLS as Call).filter(|call| agrees(call) && !confused.contains(&name_of(*call))).collect()
}

#[test]
fn libseccomp_agrees_on_numbers() {
    for machine in &MACHINES {
        for abi in machine.abis.iter().filter(|abi| abi.arch != Arch::ScmpArchLoongarch64) {
            for call in 0..CALLS as Call {
                let ours = abi.calls.iter().find(|(_, other)| *other == call).map(|(nr, _)| nr + abi.offset);
                let theirs = oracle::number(name_of(call), abi);
                assert!(theirs.is_none() || theirs == ours, "{} of {}", name_of(call), abi.arch);
            }
        }
    }
}

#[test]
fn libseccomp_agrees_on_random_profiles() {
    let mut dice = Dice(2);
    for _ in 0..40 {
        let machine = machine(dice.pick(&LITTLE));
        let known = known_to_libseccomp(machine);
        let mut rules = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..dice.roll(60) {
            let call = dice.pick(&known);
            if !seen.insert(call) {
                continue;
            }
            if dice.roll(2) == 0 {
                let args = (0..3).filter(|_| dice.0 & 0x100 == 0).collect::<Vec<usize>>();
                let args = args.into_iter().map(|index| dice.condition(index, &OPERATORS)).collect();
                rules.push(rule(call, action_for(call), args));
            } else {
                // libseccomp loses some of several bounds on one argument; of equalities it loses none.
                for _ in 0..dice.roll(5) {
                    let args = vec![dice.condition(0, &EQUALITIES)];
                    rules.push(rule(call, action_for(call), args));
                }
            }
        }
        let profile = with_rules(dice.roll(ACTIONS.len()), rules);
        let oracle = Oracle::of(&profile, machine).unwrap();
        compare(&profile, machine, &mut dice, |call| oracle.answer(call));
    }
}

#[test]
fn libseccomp_agrees_on_rules_that_contradict_one_another() {
    let mut dice = Dice(3);
    let mut compared = 0;
    while compared < 30 {
        let machine = machine(dice.pick(&LITTLE));
        let known = known_to_libseccomp(machine);
        let mut rules = Vec::new();
        for _ in 0..10 {
            let call = dice.pick(&known);
            // Through a multiplexer, conditions on the first argument become equal.
            if action_for(call) == MULTIPLEXED {
                continue;
            }
            for _ in 0..dice.roll(4) {
                let args = if dice.roll(5) == 0 { Vec::new() } else { vec![dice.condition(0, &["EQ"])] };
                rules.push(rule(call, dice.roll(ACTIONS.len()), args));
            }
        }
        let profile = with_rules(dice.roll(ACTIONS.len()), rules);
        // It refuses some that a rule without conditions settles; whatever we refuse, it does too.
        match Oracle::of(&profile, machine) {
            Ok(oracle) => compare(&profile, machine, &mut dice, |call| oracle.answer(call)),
            Err(_) => continue,
        }
        compared += 1;
    }
}

// A profile such as containers have: nearly everything is allowed, and some of it conditionally.
fn container_profile(refused: &[&str], machine: &Machine) -> LinuxSeccomp {
    let conditional = ["socket", "personality", "clone", "clone3"];
    let known = known_to_libseccomp(machine).into_iter().map(name_of);
    let allowed = known.filter(|name| !refused.contains(name) && !conditional.contains(name));
    let allow_if = |name: &str, mask: u64, value: u64| {
        let args = json!([{"index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]);
        json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args})
    };
    let mut rules = vec![
        json!({"names": allowed.collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}),
        allow_if("clone", 0x7e02_0000, 0),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
    ];
    let families = [(!31, 0), (!3, 32), (!1, 36), (!0, 39), (!0, 41), (!1, 42), (!3, 44)];
    rules.extend(families.map(|(mask, family): (u32, u64)| allow_if("socket", mask.into(), family)));
    rules.extend([0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].map(|persona| allow_if("personality", 0xffff_ffff, persona)));
    profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"],
    }))
}

#[test]
fn libseccomp_agrees_on_profiles_such_as_containers_have() {
    let refused: [&[&str]; 3] = [
        &["bpf", "io_uring_setup", "kexec_load", "keyctl", "mount", "reboot", "setns", "unshare", "userfaultfd"],
        &["acct", "add_key", "chroot", "init_module", "open_by_handle_at", "perf_event_open", "pivot_root", "swapon"],
        &["socketcall", "ipc", "ptrace", "syslog"],
    ];
    let mut dice = Dice(4);
    for machine in LITTLE.map(machine) {
        for refused in refused {
            let profile = container_profile(refused, machine);
            let oracle = Oracle::of(&profile, machine).unwrap();
            compare(&profile, machine, &mut dice, |call| oracle.answer(call));
        }
    }
}
