// SPDX-License-Identifier: Apache-2.0
//! A policy as cgroup v1 has it: a default, and a set of exceptions to it without an order.

use super::{DevicePolicy, Kind, Rule};
use crate::cgroup::CgroupError;

impl DevicePolicy {
    /// The default and the exceptions to it that come to the same as the rules in their order.
    ///
    /// Fails for a rule that takes something out of a wider exception: the kernel takes away only what it
    /// was given, and would ignore the rest without a word.
    pub(super) fn exceptions(&self) -> Result<(bool, Vec<Rule>), CgroupError> {
        let mut exceptions: Vec<Rule> = Vec::new();
        for rule in self.rules.iter().flat_map(by_kind) {
            if rule.allow != self.allow_by_default {
                match exceptions.iter_mut().find(|known| same_devices(known, &rule)) {
                    Some(known) => known.access.0 |= rule.access.0,
                    None => exceptions.push(rule),
                }
                continue;
            }
            for exception in exceptions.iter_mut().filter(|exception| overlap(exception, &rule)) {
                if !covers(&rule, exception) {
                    return Err(CgroupError::DeviceRule { rule: rule.to_string(), wider: exception.to_string() });
                }
                exception.access = exception.access.without(rule.access);
            }
            exceptions.retain(|exception| !exception.access.is_empty());
        }
        Ok((self.allow_by_default, exceptions))
    }
}

/// The kernel takes type `a` for everything, whatever the numbers beside it.
fn by_kind(rule: &Rule) -> impl Iterator<Item = Rule> + use<> {
    let kinds = match rule.kind {
        None => vec![Kind::Char, Kind::Block],
        Some(kind) => vec![kind],
    };
    let rule = *rule;
    kinds.into_iter().map(move |kind| Rule { kind: Some(kind), ..rule })
}

fn same_devices(a: &Rule, b: &Rule) -> bool {
    (a.kind, a.major, a.minor) == (b.kind, b.major, b.minor)
}

/// Whether some request is decided by both.
fn overlap(a: &Rule, b: &Rule) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    a.kind == b.kind && meet(a.major, b.major) && meet(a.minor, b.minor) && a.access.intersects(b.access)
}

/// Whether every device of the second is one of the first.
fn covers(a: &Rule, b: &Rule) -> bool {
    let within = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
    within(a.major, b.major) && within(a.minor, b.minor)
}
