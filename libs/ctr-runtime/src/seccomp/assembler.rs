// SPDX-License-Identifier: Apache-2.0
//! A classic BPF program, written from its end to its beginning.
//!
//! Jumps only go forward, so that everything an instruction can jump to is there already when it is
//! written, and its distance is known. A conditional jump reaches 255 instructions; what is farther away
//! gets a stepping stone.

use libc::sock_filter;

use super::rule::{Chain, Kind, Test};

/// A place in the program to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    // The instruction's place, counted from the program's end.
    at: usize,
    // The word of seccomp_data that has to be in the accumulator there.
    needs: Option<Word>,
}

/// A word of `struct seccomp_data`: its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u32);

impl Word {
    /// The call's number.
    pub(super) const NUMBER: Self = Self(0);
    /// The architecture (`AUDIT_ARCH_*`).
    pub(super) const ARCH: Self = Self(4);
}

/// A program under construction.
pub(super) struct Assembler {
    // Backwards.
    code: Vec<sock_filter>,
    // The latest return instruction for each action.
    returns: Vec<(u32, Label)>,
    // Where a place's word is loaded on the way to it, for places that have been jumped to so.
    entries: Vec<(Label, Label)>,
    // Whether an argument's upper half comes first.
    big_endian: bool,
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;

/// The comparisons of the accumulator that a conditional jump can make.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum If {
    Equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
    Above = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K,
    AtLeast = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
    AnyBit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
}

impl Assembler {
    /// Begins a program for a machine of a byte order.
    pub(super) fn new(big_endian: bool) -> Self {
        Self { code: Vec::with_capacity(512), returns: Vec::new(), entries: Vec::new(), big_endian }
    }

    /// The program, the right way round, as it begins at a place.
    pub(super) fn finish(mut self, start: Label) -> Vec<sock_filter> {
        let start = self.entry(start);
        if start.at + 1 != self.code.len() {
            self.jump(start);
        }
        self.code.reverse();
        self.code
    }

    /// A place that ends the program with an action.
    pub(super) fn end(&mut self, action: u32) -> Label {
        if let Some((_, label)) = self.returns.iter().find(|(known, _)| *known == action)
            && self.reaches(*label)
        {
            return *label;
        }
        let label = self.push(RETURN, action, 0, 0);
        self.returns.retain(|(known, _)| *known != action);
        self.returns.push((action, label));
        label
    }

    /// A place that loads what a place needs and goes on there.
    pub(super) fn entry(&mut self, to: Label) -> Label {
        let Some(Word(word)) = to.needs else { return to };
        if let Some((_, entry)) = self.entries.iter().find(|(known, _)| *known == to) {
            return *entry;
        }
        if to.at + 1 != self.code.len() {
            self.jump(to);
        }
        let entry = self.push(LOAD, word, 0, 0);
        self.entries.push((to, entry));
        entry
    }

    /// Compares a word with a constant, and goes on at one place or another.
    pub(super) fn compare(&mut self, word: Word, test: If, k: u32, yes: Label, no: Label) -> Label {
        let jump = self.branch(test, k, self.having(word, yes), self.having(word, no));
        Label { needs: Some(word), ..jump }
    }

    /// Tries chains in order: the action of the first one that holds, or `otherwise`.
    pub(super) fn chains(&mut self, chains: &[Chain], otherwise: Label) -> Label {
        self.chains_from(chains, 0, otherwise)
    }

    // Chains that begin with the same `depth` tests, which have been made. Neighbours that share the next
    // test too share its instructions.
    fn chains_from(&mut self, chains: &[Chain], depth: usize, otherwise: Label) -> Label {
        let mut next = otherwise;
        let mut rest = chains;
        while let Some(last) = rest.last() {
            let test = last.tests.get(depth);
            let alike = rest.iter().rev().take_while(|chain| chain.tests.get(depth) == test).count();
            let (before, group) = rest.split_at(rest.len() - alike);
            next = match test {
                Some(test) => {
                    let inside = self.chains_from(group, depth + 1, next);
                    self.test(*test, inside, next)
                }
                None => self.end(group[0].action),
            };
            rest = before;
        }
        next
    }

    fn test(&mut self, test: Test, yes: Label, no: Label) -> Label {
        let (yes, no) = if test.negated { (no, yes) } else { (yes, no) };
        let (high, low) = self.halves(test.arg);
        let (high_value, low_value) = ((test.value >> 32) as u32, test.value as u32);
        let (comparison, wide) = match test.kind {
            Kind::High(mask) => return self.equal(high, mask, high_value, yes, no),
            Kind::Low(mask) => return self.equal(low, mask, low_value, yes, no),
            Kind::Whole => {
                let lower = self.compare(low, If::Equal, low_value, yes, no);
                return self.compare(high, If::Equal, high_value, lower, no);
            }
            Kind::Above { wide } => (If::Above, wide),
            Kind::AtLeast { wide } => (If::AtLeast, wide),
        };
        let lower = self.compare(low, comparison, low_value, yes, no);
        if !wide {
            return lower;
        }
        let same = self.compare(high, If::Equal, high_value, lower, no);
        self.compare(high, If::Above, high_value, yes, same)
    }

    // Whether a word has the value's bits under the mask.
    fn equal(&mut self, word: Word, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        let value = value & mask;
        if mask == u32::MAX {
            self.compare(word, If::Equal, value, yes, no)
        } else if value == 0 {
            self.compare(word, If::AnyBit, mask, no, yes)
        } else if mask.is_power_of_two() {
            self.compare(word, If::AnyBit, mask, yes, no)
        } else {
            self.branch(If::Equal, value, yes, no);
            Label { needs: Some(word), ..self.push(AND, mask, 0, 0) }
        }
    }

    fn branch(&mut self, test: If, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.entry(yes), self.entry(no));
        let yes = self.within_reach(yes);
        let no = self.within_reach(no);
        let here = self.code.len();
        let distance = |to: Label| u8::try_from(here - to.at - 1).expect("made to be within reach");
        let (yes, no) = (distance(yes), distance(no));
        self.push(test as u32, k, yes, no)
    }

    // A place for who comes with a word in the accumulator.
    fn having(&self, word: Word, to: Label) -> Label {
        if to.needs == Some(word) { Label { needs: None, ..to } } else { to }
    }

    fn jump(&mut self, to: Label) -> Label {
        let distance = self.code.len() - to.at - 1;
        self.push(JUMP, u32::try_from(distance).expect("programs are short"), 0, 0)
    }

    // Up to two instructions may come in between: the other side's stepping stone, and the jump itself.
    fn reaches(&self, label: Label) -> bool {
        self.code.len() - label.at <= 253
    }

    fn within_reach(&mut self, label: Label) -> Label {
        let target = self.code[label.at];
        if self.reaches(label) {
            label
        } else if u32::from(target.code) == RETURN {
            self.end(target.k)
        } else {
            self.jump(label)
        }
    }

    // The words that are the upper and the lower half of an argument.
    fn halves(&self, arg: u8) -> (Word, Word) {
        let first = 16 + 8 * u32::from(arg);
        let (first, second) = (Word(first), Word(first + 4));
        if self.big_endian { (first, second) } else { (second, first) }
    }

    fn push(&mut self, code: u32, k: u32, jt: u8, jf: u8) -> Label {
        self.code.push(sock_filter { code: code as u16, jt, jf, k });
        Label { at: self.code.len() - 1, needs: None }
    }
}
