// SPDX-License-Identifier: Apache-2.0
//! A policy as the eBPF program that the kernel asks at each use of a device below a v2 cgroup.
//!
//! The kernel verifies it at each start of a container, which takes longer than most else of a start: it is
//! kept short, an instruction for most rules.

use ctr_sys::bpf::Instruction;

use super::{Access, DevicePolicy, Kind, Rule};

const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3; // the bits of access that no rule has spoken of yet
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const DEVICE: u8 = 6; // both numbers in one, as in a dev_t of the kernel

/// How many bits of a device number are the minor one; 32 in all.
const MINOR_BITS: u32 = 20;

pub(super) const LOAD_WORD: u8 = 0x61; // destination = *(u32 *)(source + offset)
pub(super) const MOVE: u8 = 0xb7;
pub(super) const MOVE_REGISTER: u8 = 0xbf;
pub(super) const AND: u8 = 0x57;
pub(super) const OR_REGISTER: u8 = 0x4f;
pub(super) const SHIFT_LEFT: u8 = 0x67;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
pub(super) const JUMP: u8 = 0x05;
// Jumps compare 32 bits: an immediate operand for 64 has its sign extended.
pub(super) const JUMP_IF_EQUAL: u8 = 0x16;
pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x56;
pub(super) const JUMP_IF_ANY_BIT: u8 = 0x46;
pub(super) const EXIT: u8 = 0x95;

impl DevicePolicy {
    /// The program: 1 for a request that the policy allows, 0 for another.
    ///
    /// It goes through the rules from the last to the first, so that the first that speaks of a bit of the
    /// request decides it.
    pub(super) fn program(&self) -> Vec<Instruction> {
        let mut program = Program::begin();
        let rules: Vec<&Rule> = self.rules.iter().rev().filter(|rule| is_possible(rule)).collect();
        for group in rules.chunk_by(|a, b| a.kind == b.kind) {
            program.group(group);
        }
        program.end(self.allow_by_default)
    }
}

/// No device has a number of more bits.
fn is_possible(rule: &Rule) -> bool {
    rule.major.is_none_or(|major| major < 1 << (32 - MINOR_BITS)) && rule.minor.is_none_or(|n| n < 1 << MINOR_BITS)
}

/// A program in the making.
struct Program {
    instructions: Vec<Instruction>,
    /// Which of them jump to a verdict, and to which.
    decisions: Vec<(usize, bool)>,
}

impl Program {
    fn begin() -> Self {
        // struct bpf_cgroup_dev_ctx { u32 access << 16 | kind; u32 major; u32 minor; }
        let instructions = vec![
            instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
            instruction(MOVE_REGISTER, UNDECIDED, KIND, 0, 0),
            instruction(AND, KIND, 0, 0, 0xffff),
            instruction(SHIFT_RIGHT, UNDECIDED, 0, 0, 16),
            instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
            instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
            instruction(MOVE_REGISTER, DEVICE, MAJOR, 0, 0),
            instruction(SHIFT_LEFT, DEVICE, 0, 0, MINOR_BITS.cast_signed()),
            instruction(OR_REGISTER, DEVICE, MINOR, 0, 0),
        ];
        Self { instructions, decisions: Vec::new() }
    }

    /// Rules for the same kind of device: the kind is compared once.
    fn group(&mut self, rules: &[&Rule]) {
        let start = self.instructions.len();
        if let Some(kind) = rules[0].kind {
            let number = match kind {
                Kind::Block => 1,
                Kind::Char => 2,
            };
            self.instructions.push(instruction(JUMP_UNLESS_EQUAL, KIND, 0, 0, number));
        }
        for rule in rules {
            self.rule(rule);
            // It decides all: what followed could not be reached, which the kernel refuses.
            if rule.major.is_none() && rule.minor.is_none() && rule.access == Access::ALL {
                break;
            }
        }
        if rules[0].kind.is_some() {
            self.instructions[start].offset = distance(start, self.instructions.len());
        }
    }

    fn rule(&mut self, rule: &Rule) {
        let numbers = match (rule.major, rule.minor) {
            (Some(major), Some(minor)) => Some((DEVICE, major << MINOR_BITS | minor)),
            (Some(major), None) => Some((MAJOR, major)),
            (None, Some(minor)) => Some((MINOR, minor)),
            (None, None) => None,
        };
        if rule.access == Access::ALL {
            match numbers {
                Some((register, number)) => self.decide(rule.allow, JUMP_IF_EQUAL, register, number.cast_signed()),
                None => self.decide(rule.allow, JUMP, 0, 0),
            }
            return;
        }
        let start = self.instructions.len();
        if let Some((register, number)) = numbers {
            self.instructions.push(instruction(JUMP_UNLESS_EQUAL, register, 0, 0, number.cast_signed()));
        }
        let bits = i32::from(rule.access.0);
        if rule.allow {
            self.instructions.push(instruction(AND, UNDECIDED, 0, 0, !bits));
            self.decide(true, JUMP_IF_EQUAL, UNDECIDED, 0);
        } else {
            self.decide(false, JUMP_IF_ANY_BIT, UNDECIDED, bits);
        }
        if numbers.is_some() {
            self.instructions[start].offset = distance(start, self.instructions.len());
        }
    }

    fn decide(&mut self, allow: bool, opcode: u8, register: u8, value: i32) {
        self.decisions.push((self.instructions.len(), allow));
        self.instructions.push(instruction(opcode, register, 0, 0, value));
    }

    /// Adds the verdicts, the default first; the other only if it is ever reached.
    fn end(mut self, default: bool) -> Vec<Instruction> {
        let by_default = self.instructions.len();
        self.instructions.extend(verdict(default));
        let otherwise = self.instructions.len();
        if self.decisions.iter().any(|(_, allow)| *allow != default) {
            self.instructions.extend(verdict(!default));
        }
        for (at, allow) in self.decisions {
            self.instructions[at].offset = distance(at, if allow == default { by_default } else { otherwise });
        }
        self.instructions
    }
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, VERDICT, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

fn instruction(opcode: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { opcode, registers: source << 4 | destination, offset, immediate }
}

/// The offset of a jump; a policy is bounded so that it fits.
fn distance(from: usize, to: usize) -> i16 {
    i16::try_from(to - from - 1).expect("a policy has no more rules than a program can hold")
}
