// SPDX-License-Identifier: Apache-2.0
//! What a profile means, evaluated rule by rule.
//!
//! It knows profiles whose rules for a call have the same action, or no conditions: which of several rules
//! counts is not its business.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall,
};

use super::emulator::Data;
use crate::seccomp::abi::{Abi, Machine, X32_BIT};
use crate::seccomp::{action, multiplex, table};

/// A profile on a machine.
pub(super) struct Model<'a> {
    default: u32,
    rules: HashMap<&'a str, Vec<&'a LinuxSyscall>>,
    abis: Vec<Numbers>,
}

struct Numbers {
    abi: &'static Abi,
    names: HashMap<u32, &'static str>,
    hidden_from: Option<u32>,
}

impl<'a> Model<'a> {
    pub(super) fn of(profile: &'a LinuxSeccomp, machine: &Machine) -> Self {
        let mut rules: HashMap<&str, Vec<&LinuxSyscall>> = HashMap::new();
        for rule in profile.syscalls().iter().flatten() {
            rule.names().iter().for_each(|name| rules.entry(name).or_default().push(rule));
        }
        let lenient = [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace];
        let lenient = lenient.contains(&profile.default_action());
        let listed = profile.architectures().as_deref().unwrap_or_default();
        let mut abis = Vec::new();
        for (i, abi) in machine.abis.iter().enumerate() {
            if i == 0 || listed.contains(&abi.arch) {
                let name = |call| std::str::from_utf8(table::name_of(call)).unwrap();
                let names: HashMap<u32, &str> = abi.calls.iter().map(|(nr, call)| (nr, name(call))).collect();
                let newest = names.iter().filter(|(_, name)| rules.contains_key(**name)).map(|(nr, _)| *nr).max();
                let hidden_from = newest.filter(|_| !lenient).map(|nr| nr + 1);
                abis.push(Numbers { abi, names, hidden_from });
            }
        }
        Self { default: action::value(profile.default_action(), profile.default_errno_ret()).unwrap(), rules, abis }
    }

    /// The answer to a call.
    pub(super) fn answer(&self, data: &Data) -> u32 {
        let x32 = data.arch == 0xc000_003e && data.nr >= X32_BIT;
        let same = |numbers: &&Numbers| numbers.abi.audit == data.arch && (numbers.abi.offset != 0) == x32;
        let Some(Numbers { abi, names, hidden_from }) = self.abis.iter().find(same) else {
            return if x32 && data.nr == u32::MAX { self.default } else { libc::SECCOMP_RET_KILL_THREAD };
        };
        let nr = data.nr - abi.offset;
        if hidden_from.is_some_and(|start| nr >= start || (abi.unknown_is_zero && nr == 0)) {
            return libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        }
        let Some(name) = names.get(&nr) else { return self.default };
        let mut calls = vec![(*name, false)];
        if abi.multiplexed {
            let through = multiplex::through(table::find(name).unwrap());
            calls.extend(through.filter(|(_, n)| *n == arg(abi, data, 0)).map(|(name, _)| (name, true)));
        }
        for (name, multiplexed) in calls {
            for rule in self.rules.get(name).into_iter().flatten() {
                let action = action::value(rule.action(), rule.errno_ret()).unwrap();
                if action != self.default && holds(abi, data, rule.args().as_deref().unwrap_or_default(), multiplexed) {
                    return action;
                }
            }
        }
        self.default
    }
}

fn holds(abi: &Abi, data: &Data, conditions: &[LinuxSeccompArg], multiplexed: bool) -> bool {
    let mut answers = conditions.iter().map(|one| (multiplexed && one.index() == 0) || compare(abi, data, one));
    let mut indices: Vec<usize> = conditions.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    if indices.is_sorted_by(|a, b| a < b) { answers.all(|holds| holds) } else { answers.any(|holds| holds) }
}

fn compare(abi: &Abi, data: &Data, condition: &LinuxSeccompArg) -> bool {
    let width = if abi.wide { u64::MAX } else { 0xffff_ffff };
    let (arg, value) = (arg(abi, data, condition.index()), condition.value() & width);
    match condition.op() {
        Op::ScmpCmpNe => arg != value,
        Op::ScmpCmpLt => arg < value,
        Op::ScmpCmpLe => arg <= value,
        Op::ScmpCmpEq => arg == value,
        Op::ScmpCmpGe => arg >= value,
        Op::ScmpCmpGt => arg > value,
        Op::ScmpCmpMaskedEq => (arg ^ condition.value_two().unwrap_or_default()) & value == 0,
    }
}

fn arg(abi: &Abi, data: &Data, index: usize) -> u64 {
    if abi.wide { data.args[index] } else { data.args[index] & 0xffff_ffff }
}
