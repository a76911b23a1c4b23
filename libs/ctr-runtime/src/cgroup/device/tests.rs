// SPDX-License-Identifier: Apache-2.0
//! One meaning in three forms: the rules as config.json states them, v1's exceptions, v2's program.

use ctr_sys::bpf::Instruction;
use serde_json::{Value, json};

use super::*;

fn policy(rules: Value) -> DevicePolicy {
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(rules).expect("test JSON");
    DevicePolicy::from_spec(&rules).expect("valid rules")
}

/// A request, in the words of a device program.
#[derive(Clone, Copy, Debug)]
struct Request {
    kind: Kind,
    major: u32,
    minor: u32,
    access: u8,
}

/// The definition: each bit is decided by the last rule that matches the device and speaks of it.
fn by_rules(policy: &DevicePolicy, request: Request) -> bool {
    let any = |rule: Option<u32>, value| rule.is_none_or(|number| number == value);
    [1, 2, 4].iter().filter(|bit| request.access & **bit != 0).all(|bit| {
        let speaks = |rule: &&Rule| {
            rule.kind.is_none_or(|kind| kind == request.kind)
                && any(rule.major, request.major)
                && any(rule.minor, request.minor)
                && rule.access.0 & bit != 0
        };
        policy.rules.iter().rev().find(speaks).map_or(policy.allow_by_default, |rule| rule.allow)
    })
}

/// What the v1 kernel does: an allowing exception must cover a request, a denying one need only touch it.
fn by_exceptions(allow_by_default: bool, exceptions: &[Rule], request: Request) -> bool {
    let any = |rule: Option<u32>, value| rule.is_none_or(|number| number == value);
    let mut matching = exceptions.iter().filter(|rule| {
        rule.kind == Some(request.kind) && any(rule.major, request.major) && any(rule.minor, request.minor)
    });
    if allow_by_default {
        !matching.any(|rule| rule.access.0 & request.access != 0)
    } else {
        matching.any(|rule| request.access & !rule.access.0 == 0)
    }
}

/// An interpreter of the instructions that the generator knows.
fn by_program(program: &[Instruction], request: Request) -> bool {
    let kind = match request.kind {
        Kind::Block => 1,
        Kind::Char => 2,
    };
    let context = [u32::from(request.access) << 16 | kind, request.major, request.minor];
    let mut registers = [None; 10];
    registers[1] = Some(0xc0de); // the context's address: only loads may use it
    let mut at = 0;
    for _ in 0..program.len() {
        let Instruction { opcode, registers: r, offset, immediate } = program[at];
        let (destination, source) = (usize::from(r & 15), usize::from(r >> 4));
        let operand = i64::from(immediate).cast_unsigned();
        let value = || registers[destination].expect("a register is written before it is read");
        let mut jump = 0;
        match opcode {
            program::LOAD_WORD => {
                assert_eq!(registers[source], Some(0xc0de));
                registers[destination] = Some(context[usize::try_from(offset / 4).expect("within the context")].into());
            }
            program::MOVE => registers[destination] = Some(operand),
            program::MOVE_REGISTER => registers[destination] = registers[source],
            program::AND => registers[destination] = Some(value() & operand),
            program::OR_REGISTER => registers[destination] = Some(value() | registers[source].expect("written")),
            program::SHIFT_LEFT => registers[destination] = Some(value() << operand),
            program::SHIFT_RIGHT => registers[destination] = Some(value() >> operand),
            program::JUMP => jump = offset,
            program::JUMP_IF_ANY_BIT if value() & operand != 0 => jump = offset,
            program::JUMP_IF_EQUAL if value() as u32 == immediate.cast_unsigned() => jump = offset,
            program::JUMP_UNLESS_EQUAL if value() as u32 != immediate.cast_unsigned() => jump = offset,
            program::JUMP_IF_ANY_BIT | program::JUMP_IF_EQUAL | program::JUMP_UNLESS_EQUAL => {}
            program::EXIT => return registers[0].expect("a verdict") == 1,
            other => panic!("unknown instruction {other:#x}"),
        }
        assert!(jump >= 0, "no loops");
        at += 1 + usize::try_from(jump).expect("checked");
    }
    panic!("the program has no end");
}

fn requests() -> impl Iterator<Item = Request> {
    let devices =
        [(1, 3), (1, 4), (1, 9), (5, 0), (5, 1), (8, 0), (8, 16), (10, 200), (136, 7), (4095, 1_048_575), (8, 3)];
    devices.into_iter().flat_map(|(major, minor)| {
        [Kind::Char, Kind::Block].into_iter().flat_map(move |kind| {
            // what the kernel asks: to make a node, or to read and write, never both at once
            [1, 2, 4, 6].map(|access| Request { kind, major, minor, access })
        })
    })
}

fn allowed(policy: &DevicePolicy, line: &str) -> bool {
    let mut words = line.split([' ', ':']);
    let kind = if words.next() == Some("c") { Kind::Char } else { Kind::Block };
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    let (major, minor) = (number(), number());
    let access = Access::parse(words.next().expect("access")).expect("access").0;
    by_program(&policy.program(), Request { kind, major, minor, access })
}

#[test]
fn a_container_has_the_default_devices_and_no_other() {
    for policy in [policy(json!([])), policy(json!([{"allow": false, "access": "rwm"}]))] {
        for yes in [
            "c 1:3 rw",
            "c 1:5 rw",
            "c 1:9 r",
            "c 5:0 rw",
            "c 5:2 rw",
            "c 136:4 rw",
            "c 10:200 rw",
            "c 10:229 m",
            "b 8:0 m",
        ] {
            assert!(allowed(&policy, yes), "{yes}");
        }
        for no in ["b 8:0 r", "b 8:0 w", "c 10:229 rw", "c 5:1 r", "c 1:1 r", "c 1:4 r", "b 1:3 r"] {
            assert!(!allowed(&policy, no), "{no}");
        }
    }
}

#[test]
fn the_last_rule_decides_each_bit() {
    let policy = policy(json!([
        {"allow": true, "type": "a", "access": "rwm"},
        {"allow": false, "type": "a", "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "access": "rw"},
        {"allow": false, "type": "b", "major": 8, "minor": 16, "access": "w"},
        {"allow": true, "type": "c", "major": 10, "minor": 229},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwa"},
    ]));
    for yes in ["b 8:0 rw", "b 8:16 r", "c 10:229 rw", "c 1:11 rw"] {
        assert!(allowed(&policy, yes), "{yes}");
    }
    for no in ["b 8:16 w", "b 8:16 rw", "b 9:0 r", "c 10:201 r"] {
        assert!(!allowed(&policy, no), "{no}");
    }
}

#[test]
fn everything_may_be_allowed_but_for_some() {
    let everything = policy(json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "a", "access": "rwm"}]));
    assert!(everything.is_unrestricted());
    let but_one =
        policy(json!([{"allow": true, "type": "a"}, {"allow": false, "type": "b", "major": 8, "access": "w"}]));
    assert!(!but_one.is_unrestricted());
    assert!(allowed(&but_one, "b 8:0 r") && allowed(&but_one, "c 9:9 rw") && !allowed(&but_one, "b 8:0 rw"));
}

/// Some rules, others for each seed, of a few kinds, numbers and accesses.
fn made_up(mut seed: usize) -> Vec<Rule> {
    let mut pick = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    (0..pick(5))
        .map(|_| Rule {
            allow: pick(2) == 0,
            kind: [None, Some(Kind::Char), Some(Kind::Block)][pick(3)],
            major: [None, Some(1), Some(8), Some(4095), Some(4096)][pick(5)],
            minor: [None, Some(3), Some(16), Some(0), Some(1_048_575)][pick(5)],
            access: Access(1 + pick(7) as u8),
        })
        // a rule about everything is the default of a policy
        .filter(|rule| !rule.is_total())
        .collect()
}

#[test]
fn all_forms_decide_alike() {
    let mut expressible = 0;
    for seed in 0..4000 {
        let mut rules = made_up(seed);
        let allow_by_default = seed % 3 == 0;
        if seed % 2 == 0 {
            rules.extend(ALWAYS_ALLOWED);
        }
        let policy = DevicePolicy { allow_by_default, rules };
        let program = policy.program();
        let exceptions = policy.exceptions();
        expressible += usize::from(exceptions.is_ok());
        for request in requests() {
            let expected = by_rules(&policy, request);
            assert_eq!(by_program(&program, request), expected, "{policy:?} {request:?}");
            if let Ok((default, exceptions)) = &exceptions {
                let v1 = by_exceptions(*default, exceptions, request);
                // v1 wants one exception that covers reading and writing; two that share the work do not do
                assert!(v1 == expected || (!v1 && request.access == 6), "{policy:?} {request:?}");
            }
        }
    }
    assert!(expressible > 1000, "{expressible}");
}

/// Instructions that no path leads to are refused by the kernel, as are jumps out of the program.
#[test]
fn every_instruction_can_be_reached() {
    for seed in 0..4000 {
        let policy = DevicePolicy { allow_by_default: seed % 3 == 0, rules: made_up(seed) };
        let program = policy.program();
        let mut reached = vec![false; program.len()];
        reached[0] = true;
        for (at, instruction) in program.iter().enumerate() {
            assert!(reached[at], "{policy:?} {at}");
            let jumps = matches!(
                instruction.opcode,
                program::JUMP | program::JUMP_IF_ANY_BIT | program::JUMP_IF_EQUAL | program::JUMP_UNLESS_EQUAL
            );
            if jumps {
                reached[at + 1 + usize::try_from(instruction.offset).expect("forward")] = true;
            }
            if !matches!(instruction.opcode, program::JUMP | program::EXIT) {
                reached[at + 1] = true;
            }
        }
    }
}

#[test]
fn v1_refuses_what_it_would_ignore() {
    let hole = policy(json!([
        {"allow": true, "type": "b", "access": "r"},
        {"allow": false, "type": "b", "major": 8, "minor": 0, "access": "r"},
    ]));
    let error = hole.exceptions().expect_err("a hole in a wider rule").to_string();
    assert!(error.contains("b 8:0 r") && error.contains("b *:* r"), "{error}");

    let (default, exceptions) = policy(json!([
        {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "rw"},
        {"allow": false, "type": "b", "major": 8, "minor": 0, "access": "w"},
        {"allow": true, "major": 7, "minor": 1, "access": "r"},
    ]))
    .exceptions()
    .expect("expressible");
    let lines: Vec<String> = exceptions.iter().map(Rule::to_string).collect();
    assert!(!default);
    assert_eq!(lines[..3], ["b 8:0 r", "c 7:1 r", "b 7:1 r"]);
}

#[test]
fn refuses_rules_that_are_none() {
    for (rule, part) in [
        (json!({"allow": true, "type": "c", "access": "rx"}), "rx"),
        (json!({"allow": true, "type": "p"}), "type p"),
        (json!({"allow": true, "type": "u"}), "type u"),
        (json!({"allow": true, "type": "c", "major": -2}), "-2"),
        (json!({"allow": true, "type": "c", "minor": 4294967296_i64}), "4294967296"),
    ] {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(json!([rule])).expect("test JSON");
        let error = DevicePolicy::from_spec(&rules).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn is_written_as_rules_that_people_know() {
    let json = serde_json::to_value(policy(json!([{"allow": true, "type": "c", "major": 10, "minor": 200}])));
    let json = json.expect("serialisable");
    assert_eq!((&json[0], &json[1]), (&json!("deny a *:* rwm"), &json!("allow c 10:200 rwm")));
}
