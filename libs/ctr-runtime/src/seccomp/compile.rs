// SPDX-License-Identifier: Apache-2.0
//! Rules to a program: for each ABI the calls' numbers as ranges that share an answer, the ranges as a
//! binary search.

use libc::sock_filter;
use oci_spec::runtime::Arch;

use super::SeccompError;
use super::abi::{Abi, Machine, X32_BIT};
use super::assembler::{Assembler, If, Label, Word};
use super::profile::Rules;
use super::rule::{Chain, Decision};
use super::table::Call;

// What libseccomp answers to calls of an ABI that the profile does not list.
const FOREIGN: u32 = libc::SECCOMP_RET_KILL_THREAD;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const MAX_INSTRUCTIONS: usize = libc::BPF_MAXINSNS as usize;

/// Makes the program that rules ask for on a machine, with the ABIs that are `listed` beside its own.
pub(super) fn compile(rules: &Rules, listed: &[Arch], machine: &Machine) -> Result<Vec<sock_filter>, SeccompError> {
    let mut sections = Sections { rules, list: Vec::new(), looks: Vec::new() };
    for (i, abi) in machine.abis.iter().enumerate() {
        // The native ABI belongs to every filter. Listed ones that this machine lacks never occur.
        if i == 0 || listed.contains(&abi.arch) {
            sections.add(abi)?;
        }
    }
    let program = sections.assemble(machine.big_endian);
    check_length(program.len())?;
    Ok(program)
}

fn check_length(instructions: usize) -> Result<(), SeccompError> {
    match instructions {
        0..=MAX_INSTRUCTIONS => Ok(()),
        least => Err(SeccompError::TooLong { least, limit: MAX_INSTRUCTIONS }),
    }
}

/// What answers a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// An action.
    Action(u32),
    /// A look at the arguments: the one at this place in the list.
    Look(usize),
}

/// The numbers of one architecture, as the kernel tells architectures apart.
struct Section {
    audit: u32,
    // Where each range begins. It goes on until the next one; the last one has no end.
    ranges: Vec<Range>,
}

struct Sections<'a> {
    rules: &'a Rules,
    list: Vec<Section>,
    // What is asked about arguments, each once: calls and ABIs that ask for the same share it.
    looks: Vec<Vec<Chain>>,
}

impl Sections<'_> {
    fn add(&mut self, abi: &Abi) -> Result<(), SeccompError> {
        let default = Answer::Action(self.rules.default);
        let newest = abi.calls.iter().rfind(|&(_, call)| self.rules.named(call));
        // Where the calls begin that are hidden, if they are.
        let hidden = newest.filter(|_| self.rules.hide_newer).map(|(number, _)| number + 1);

        let mut ranges = Ranges(Vec::with_capacity(128));
        let mut next = abi.offset;
        if abi.unknown_is_zero && hidden.is_some() {
            ranges.push(next, Answer::Action(UNKNOWN));
            next += 1;
        }
        for (number, call) in abi.calls.iter().take_while(|(number, _)| hidden.is_none_or(|end| *number < end)) {
            let number = number + abi.offset;
            if number > next {
                ranges.push(next, default); // numbers that no call has yet
            }
            let answer = self.answer(call, abi)?;
            ranges.push(number, answer);
            next = number + 1;
        }
        ranges.push(next, if hidden.is_some() { Answer::Action(UNKNOWN) } else { default });

        match self.list.iter_mut().find(|section| section.audit == abi.audit) {
            // The upper numbers of x86_64 are x32's.
            Some(section) => {
                section.ranges.retain(|(start, _)| *start < abi.offset);
                section.ranges.extend(ranges.0);
            }
            None => {
                if abi.arch == Arch::ScmpArchX86_64 {
                    ranges.push(X32_BIT, Answer::Action(FOREIGN));
                    // A tracer sets -1 to have a call skipped.
                    ranges.push(u32::MAX, default);
                }
                self.list.push(Section { audit: abi.audit, ranges: ranges.0 });
            }
        }
        Ok(())
    }

    fn answer(&mut self, call: Call, abi: &Abi) -> Result<Answer, SeccompError> {
        let chains = match self.rules.decide(call, abi)? {
            Decision::Always(action) => return Ok(Answer::Action(action)),
            Decision::When(chains) => chains,
        };
        if let Some(known) = self.looks.iter().position(|known| *known == chains) {
            return Ok(Answer::Look(known));
        }
        self.looks.push(chains);
        // Each chain takes an instruction at the least: no work for what cannot be loaded anyway.
        check_length(self.looks.iter().map(Vec::len).sum())?;
        Ok(Answer::Look(self.looks.len() - 1))
    }

    fn assemble(&self, big_endian: bool) -> Vec<sock_filter> {
        let mut program = Assembler::new(big_endian);
        let mut looks: Vec<Option<Label>> = vec![None; self.looks.len()];
        let mut bodies = Vec::with_capacity(self.list.len());
        for section in self.list.iter().rev() {
            for (_, answer) in &section.ranges {
                if let Answer::Look(at) = *answer
                    && looks[at].is_none()
                {
                    let otherwise = program.end(self.rules.default);
                    let first = program.chains(&self.looks[at], otherwise);
                    looks[at] = Some(program.entry(first));
                }
            }
            let body = search(&mut program, &cut(&section.ranges), &looks);
            bodies.push((section.audit, program.entry(body)));
        }
        let mut dispatch = program.end(FOREIGN);
        for (audit, body) in bodies {
            dispatch = program.compare(Word::ARCH, If::Equal, audit, body, dispatch);
        }
        program.finish(dispatch)
    }
}

type Range = (u32, Answer);

// Cuts ranges into pieces for the search to end at: one range with up to two single numbers in it that
// have other answers, as each of these takes one comparison instead of two.
fn cut(ranges: &[Range]) -> Vec<&[Range]> {
    let mut pieces = Vec::with_capacity(ranges.len());
    let mut rest = ranges;
    while let [(_, around), ..] = rest {
        let is_hole = |at: usize| match rest.get(at..at + 2) {
            Some([(hole, _), (end, behind)]) => behind == around && *end == hole + 1,
            _ => false,
        };
        let len = match (is_hole(1), is_hole(3)) {
            (false, _) => 1,
            (true, false) => 3,
            (true, true) => 5,
        };
        let (piece, behind) = rest.split_at(len);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

// Searches for the call's number.
fn search(program: &mut Assembler, pieces: &[&[Range]], looks: &[Option<Label>]) -> Label {
    let place = |program: &mut Assembler, answer: Answer| match answer {
        Answer::Action(action) => program.end(action),
        Answer::Look(at) => looks[at].expect("looks are written before what jumps to them"),
    };
    if let [piece] = *pieces {
        let around = place(program, piece[0].1);
        return piece[1..].iter().step_by(2).fold(around, |next, (number, answer)| {
            let hole = place(program, *answer);
            program.compare(Word::NUMBER, If::Equal, *number, hole, next)
        });
    }
    let (lower, upper) = pieces.split_at(pieces.len() / 2);
    let from = upper[0][0].0;
    let upper = search(program, upper, looks);
    let lower = search(program, lower, looks);
    program.compare(Word::NUMBER, If::AtLeast, from, upper, lower)
}

/// Ranges under construction: neighbours with the same answer become one.
struct Ranges(Vec<Range>);

impl Ranges {
    fn push(&mut self, start: u32, answer: Answer) {
        if self.0.last().is_none_or(|(_, last)| *last != answer) {
            self.0.push((start, answer));
        }
    }
}
