// SPDX-License-Identifier: Apache-2.0
//! A profile's rules, gathered by system call. Here is all that rules for one call mean together; what a
//! call's number is, and what becomes of calls without rules, is for the sections.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};

use super::SeccompError;
use super::abi::Abi;
use super::rule::{Decision, Rule, Verdict, decide};
use super::table::{self, CALLS, Call};
use super::{action, multiplex};

/// The rules of a profile by call. They are the same for every ABI.
#[derive(Debug)]
pub(super) struct Rules {
    /// The action for calls that have no rule.
    pub(super) default: u32,
    /// Whether calls that are newer than any the profile names are answered with ENOSYS, as kernels older
    /// than they would: a program then falls back to what the profile's author knew (runc's rule).
    pub(super) hide_newer: bool,
    by_call: Vec<Entry>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    // The profile names it, though perhaps to no effect.
    named: bool,
    verdict: Option<Verdict>,
}

impl Rules {
    /// Gathers the rules of a profile.
    pub(super) fn of(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        let default = action::value(profile.default_action(), profile.default_errno_ret())?;
        let mut by_call = vec![Entry::default(); CALLS];
        for entry in profile.syscalls().iter().flatten() {
            let action = action::value(entry.action(), entry.errno_ret())?;
            let rules = Rule::of(entry.args().as_deref().unwrap_or_default(), action)
                .map_err(|index| SeccompError::Argument { index })?;
            for name in entry.names() {
                if name.is_empty() {
                    return Err(SeccompError::EmptyName);
                }
                // A name of another architecture, or of a newer kernel, is no mistake.
                let Some(call) = table::find(name) else { continue };
                let known = &mut by_call[usize::from(call)];
                known.named = true;
                if action != default {
                    rules.iter().for_each(|rule| Verdict::add(&mut known.verdict, rule));
                }
            }
        }
        let lenient = [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace];
        Ok(Self { default, hide_newer: !lenient.contains(&profile.default_action()), by_call })
    }

    /// Whether the profile names a call.
    pub(super) fn named(&self, call: Call) -> bool {
        self.by_call[usize::from(call)].named
    }

    /// What becomes of a call that is made by an ABI.
    pub(super) fn decide(&self, call: Call, abi: &Abi) -> Result<Decision, SeccompError> {
        match self.verdict(call) {
            Some(Verdict::Always(action)) => Ok(Decision::Always(*action)),
            None if !abi.multiplexed => Ok(Decision::Always(self.default)),
            own => self.decide_by_arguments(call, own.clone(), abi),
        }
    }

    fn decide_by_arguments(
        &self,
        call: Call,
        mut verdict: Option<Verdict>,
        abi: &Abi,
    ) -> Result<Decision, SeccompError> {
        if abi.multiplexed {
            for (name, number) in multiplex::through(call) {
                let through = table::find(name).and_then(|call| self.verdict(call).as_ref());
                for rule in through.map(Verdict::rules).unwrap_or_default() {
                    Verdict::add(&mut verdict, &rule.through_multiplexer(number));
                }
            }
        }
        match verdict {
            None => Ok(Decision::Always(self.default)),
            Some(Verdict::Always(action)) => Ok(Decision::Always(action)),
            Some(Verdict::When(rules)) => decide(rules, abi.wide).map_err(|_| SeccompError::Conflict {
                syscall: String::from_utf8_lossy(table::name_of(call)).into_owned(),
            }),
        }
    }

    fn verdict(&self, call: Call) -> &Option<Verdict> {
        &self.by_call[usize::from(call)].verdict
    }
}
