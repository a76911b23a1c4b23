// SPDX-License-Identifier: Apache-2.0
//! Which devices a container may use: the rules of config.json as a policy, a value to compute with.
//!
//! A request names a device and asks to make its node, to read, to write. Each of these is decided by the
//! last rule that matches the device and speaks of it; what no rule speaks of is denied. `exceptions` puts
//! a policy into the kernel's words of cgroup v1, `program` into those of v2, and `restrict` applies them.

mod exceptions;
mod program;
mod restrict;
mod unit;

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Serialize, Serializer};

use super::CgroupError;

/// Whether a device is a character or a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Char,
    Block,
}

/// What may be done with a device; the bits are those that a device program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access(u8);

impl Access {
    pub(super) const MAKE: Self = Self(1);
    pub(super) const ALL: Self = Self(7);
    const LETTERS: [(u8, char); 3] = [(2, 'r'), (4, 'w'), (1, 'm')];

    /// The letter `a`, as in a rule of v1 for all devices, says nothing here; runc takes it.
    fn parse(text: &str) -> Option<Self> {
        text.chars().filter(|c| *c != 'a').try_fold(Self(0), |access, c| {
            let (bit, _) = Self::LETTERS.iter().find(|(_, letter)| *letter == c)?;
            Some(Self(access.0 | bit))
        })
    }

    fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// One rule; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: Access,
}

impl Rule {
    const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        Self { allow: true, kind: Some(kind), major, minor, access }
    }

    fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == Access::ALL
    }

    fn from_spec(rule: &LinuxDeviceCgroup) -> Result<Self, CgroupError> {
        const FIELD: &str = "linux.resources.devices";
        let invalid = |value: String, rule| Err(CgroupError::Invalid { field: FIELD, value, rule });
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => match u32::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(value),
            },
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C => Some(Kind::Char),
            LinuxDeviceType::U => return invalid("type u".to_owned(), "a type is a, b or c"),
            LinuxDeviceType::P => return invalid("type p".to_owned(), "a type is a, b or c"),
        };
        let (major, minor) = match (number(rule.major()), number(rule.minor())) {
            (Ok(major), Ok(minor)) => (major, minor),
            (Err(value), _) | (_, Err(value)) => {
                return invalid(value.to_string(), "a device number is -1 (any) or not negative");
            }
        };
        let access = match rule.access().as_deref() {
            None | Some("") => Access::ALL,
            Some(text) => match Access::parse(text) {
                Some(access) => access,
                None => return invalid(format!("access {text:?}"), "access is made of r, w and m"),
            },
        };
        Ok(Self { allow: rule.allow(), kind, major, minor, access })
    }
}

/// As in `devices.list` of cgroup v1.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            None => "a ",
            Some(Kind::Char) => "c ",
            Some(Kind::Block) => "b ",
        })?;
        for (number, end) in [(self.major, ":"), (self.minor, " ")] {
            match number {
                None => write!(f, "*{end}")?,
                Some(number) => write!(f, "{number}{end}")?,
            }
        }
        self.access.fmt(f)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::LETTERS.iter().filter(|(bit, _)| self.0 & bit != 0).try_for_each(|(_, c)| write!(f, "{c}"))
    }
}

/// The default devices of a container, and making a node of any other (which is of no use by itself).
const ALWAYS_ALLOWED: [Rule; 11] = [
    Rule::allow(Kind::Char, None, None, Access::MAKE),
    Rule::allow(Kind::Block, None, None, Access::MAKE),
    Rule::allow(Kind::Char, Some(1), Some(3), Access::ALL), // null
    Rule::allow(Kind::Char, Some(1), Some(5), Access::ALL), // zero
    Rule::allow(Kind::Char, Some(1), Some(7), Access::ALL), // full
    Rule::allow(Kind::Char, Some(1), Some(8), Access::ALL), // random
    Rule::allow(Kind::Char, Some(1), Some(9), Access::ALL), // urandom
    Rule::allow(Kind::Char, Some(5), Some(0), Access::ALL), // tty
    Rule::allow(Kind::Char, Some(5), Some(2), Access::ALL), // ptmx
    Rule::allow(Kind::Char, Some(136), None, Access::ALL),  // pts/*, and /dev/console, which is one of them
    Rule::allow(Kind::Char, Some(10), Some(200), Access::ALL), // net/tun
];

/// With up to four instructions each they fit a program of the kernel's, and its jumps' distances.
const MOST_RULES: usize = 4096;

/// What a container may do with devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePolicy {
    allow_by_default: bool,
    rules: Vec<Rule>,
}

impl DevicePolicy {
    /// Reads `linux.resources.devices`; what no rule speaks of is denied, but for the devices that every
    /// container has.
    pub fn from_spec(rules: &[LinuxDeviceCgroup]) -> Result<Self, CgroupError> {
        if rules.len() > MOST_RULES {
            let (field, value) = ("linux.resources.devices", format!("{} rules", rules.len()));
            return Err(CgroupError::Invalid { field, value, rule: "no kernel takes so many" });
        }
        let mut rules = rules.iter().map(Rule::from_spec).collect::<Result<Vec<_>, _>>()?;
        // what comes before a rule about everything has no say
        let mut allow_by_default = false;
        if let Some(last) = rules.iter().rposition(Rule::is_total) {
            allow_by_default = rules[last].allow;
            rules.drain(..=last);
        }
        if !allow_by_default || rules.iter().any(|rule| !rule.allow) {
            rules.extend(ALWAYS_ALLOWED);
        }
        Ok(Self { allow_by_default, rules })
    }

    /// Whether everything is allowed.
    pub fn is_unrestricted(&self) -> bool {
        self.allow_by_default && self.rules.iter().all(|rule| rule.allow)
    }
}

/// The rules in force, in order, each as `allow` or `deny` and a line of `devices.list`.
impl Serialize for DevicePolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let verb = |allow: bool| if allow { "allow" } else { "deny" };
        let default = format!("{} a *:* rwm", verb(self.allow_by_default));
        let rules = self.rules.iter().map(|rule| format!("{} {rule}", verb(rule.allow)));
        serializer.collect_seq(std::iter::once(default).chain(rules))
    }
}

#[cfg(test)]
mod tests;
