// SPDX-License-Identifier: Apache-2.0
//! What a profile says about one system call, and how a program of 32-bit comparisons asks for it.

use std::cmp::Ordering;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op};

/// A comparison of one argument, as the profile has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    arg: u8,
    op: Op,
    mask: u64,
    value: u64,
}

/// An action, and the conditions that must all hold for it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    action: u32,
    // In ascending order of the arguments, each of which occurs once.
    conditions: Vec<Condition>,
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// The same whatever its arguments are.
    Always(u32),
    /// What the first rule says that holds; the default action if none does.
    When(Vec<Rule>),
}

impl Verdict {
    /// Adds a rule to what earlier ones say. As in libseccomp, the first rule without conditions decides
    /// alone, whatever comes before or after it.
    pub(super) fn add(verdict: &mut Option<Self>, rule: &Rule) {
        match verdict {
            Some(Self::Always(_)) => {}
            _ if rule.conditions.is_empty() => *verdict = Some(Self::Always(rule.action)),
            Some(Self::When(rules)) => rules.push(rule.clone()),
            None => *verdict = Some(Self::When(vec![rule.clone()])),
        }
    }

    /// The rules that say this.
    pub(super) fn rules(&self) -> Vec<Rule> {
        match self {
            Self::Always(action) => vec![Rule { action: *action, conditions: Vec::new() }],
            Self::When(rules) => rules.clone(),
        }
    }
}

impl Rule {
    /// The rules that one entry of a profile makes: one, or one for every condition where several are on
    /// the same argument. Such conditions were alternatives before rules could have more than one
    /// condition, and profiles rely on it.
    ///
    /// Fails with the index of an argument that no call has.
    pub(super) fn of(args: &[LinuxSeccompArg], action: u32) -> Result<Vec<Self>, usize> {
        let mut conditions = args.iter().map(Condition::of).collect::<Result<Vec<_>, _>>()?;
        conditions.sort_by_key(|condition| condition.arg);
        if conditions.windows(2).any(|pair| pair[0].arg == pair[1].arg) {
            return Ok(conditions.into_iter().map(|one| Self { action, conditions: vec![one] }).collect());
        }
        Ok(vec![Self { action, conditions }])
    }

    /// This rule for a call that is made through a multiplexer: the first argument is then the call's
    /// number there, and a condition on it cannot be asked for any more.
    pub(super) fn through_multiplexer(mut self, number: u64) -> Self {
        self.conditions.retain(|condition| condition.arg != 0);
        self.conditions.insert(0, Condition { arg: 0, op: Op::ScmpCmpEq, mask: u64::MAX, value: number });
        self
    }
}

impl Condition {
    fn of(arg: &LinuxSeccompArg) -> Result<Self, usize> {
        if arg.index() > 5 {
            return Err(arg.index());
        }
        let (mask, value) = match arg.op() {
            Op::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or_default() & arg.value()),
            _ => (u64::MAX, arg.value()),
        };
        Ok(Self { arg: arg.index() as u8, op: arg.op(), mask, value })
    }

    // libseccomp's order of conditions: later arguments first; equality before upper bounds before lower
    // bounds; the tighter bound first.
    fn rank(&self, wide: bool) -> (u8, u8, u64) {
        let value = if wide { self.value } else { self.value & LOW };
        let (class, value) = match self.op {
            Op::ScmpCmpEq | Op::ScmpCmpMaskedEq | Op::ScmpCmpNe => (0, !value),
            Op::ScmpCmpLe | Op::ScmpCmpLt => (1, value),
            Op::ScmpCmpGe | Op::ScmpCmpGt => (2, !value),
        };
        (5 - self.arg, class, value)
    }

    fn append_tests(&self, wide: bool, tests: &mut Vec<Test>) {
        let (high, low) = ((self.mask >> 32) as u32, self.mask as u32);
        // A half's test has that half's value only, so that rules can share it.
        let value = |kind| match kind {
            Kind::High(_) => self.value & !LOW,
            Kind::Low(_) | Kind::Above { wide: false } | Kind::AtLeast { wide: false } => self.value & LOW,
            Kind::Whole | Kind::Above { .. } | Kind::AtLeast { .. } => self.value,
        };
        let mut push = |kind, negated| tests.push(Test { arg: self.arg, kind, value: value(kind), negated });
        match self.op {
            Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => {
                // Halves of a mask that are zero ask for nothing.
                if wide && high != 0 {
                    push(Kind::High(high), false);
                }
                if low != 0 {
                    push(Kind::Low(low), false);
                }
            }
            Op::ScmpCmpNe if wide => push(Kind::Whole, true),
            Op::ScmpCmpNe => push(Kind::Low(low), true),
            Op::ScmpCmpGt => push(Kind::Above { wide }, false),
            Op::ScmpCmpLe => push(Kind::Above { wide }, true),
            Op::ScmpCmpGe => push(Kind::AtLeast { wide }, false),
            Op::ScmpCmpLt => push(Kind::AtLeast { wide }, true),
        }
    }
}

const LOW: u64 = 0xffff_ffff;

/// A question about one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) arg: u8,
    pub(super) kind: Kind,
    pub(super) value: u64,
    /// Whether the answer counts the other way round.
    pub(super) negated: bool,
}

/// How a test compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The upper half is the value's upper half in the bits of the mask.
    High(u32),
    /// The lower half, likewise.
    Low(u32),
    /// All of it is the value.
    Whole,
    /// It, or its lower half, is greater than the value.
    Above { wide: bool },
    /// It, or its lower half, is not less than the value.
    AtLeast { wide: bool },
}

/// A rule as tests to be made in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) action: u32,
    pub(super) tests: Vec<Test>,
}

/// What becomes of a call of one ABI.
#[derive(Debug)]
pub(super) enum Decision {
    /// See [`Verdict::Always`].
    Always(u32),
    /// The first chain that holds counts.
    When(Vec<Chain>),
}

/// Two rules with the same conditions ask for different actions.
#[derive(Debug)]
pub(super) struct Conflict;

/// Puts rules in the order in which they are tried, as tests for arguments of the given width.
pub(super) fn decide(mut rules: Vec<Rule>, wide: bool) -> Result<Decision, Conflict> {
    rules.sort_by(|a, b| order(a, b, wide));
    let mut chains: Vec<Chain> = Vec::with_capacity(rules.len());
    for rule in &rules {
        let mut tests = Vec::with_capacity(rule.conditions.len() * 2);
        rule.conditions.iter().for_each(|condition| condition.append_tests(wide, &mut tests));
        if tests.is_empty() {
            return Ok(Decision::Always(rule.action));
        }
        match chains.last() {
            Some(last) if last.tests == tests && last.action != rule.action => return Err(Conflict),
            // Whatever passes these tests has been decided by fewer of them.
            Some(last) if tests.starts_with(&last.tests) => {}
            _ => chains.push(Chain { action: rule.action, tests }),
        }
    }
    Ok(Decision::When(chains))
}

fn order(a: &Rule, b: &Rule, wide: bool) -> Ordering {
    let rank = |condition: &Condition| condition.rank(wide);
    a.conditions.iter().map(rank).cmp(b.conditions.iter().map(rank))
}
