// SPDX-License-Identifier: Apache-2.0
//! A seccomp profile (runtime-spec, config-linux, "Seccomp") to the program that the kernel runs on
//! every system call of the container.
//!
//! The compiler is a pure function; loading what it makes is `ctr_sys::seccomp`'s, and handing a
//! listener on is the caller's. Where the specification is silent it does what runc with libseccomp
//! does, which its tests compare it with.

mod abi;
mod action;
mod assembler;
mod compile;
mod multiplex;
mod profile;
mod rule;
mod table;
pub mod vocabulary;

#[cfg(test)]
mod tests;

use ctr_record::{Classify, ErrorKind};
use ctr_sys::seccomp::Flags;
use libc::sock_filter;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag};

use self::abi::Machine;
use self::profile::Rules;

/// A profile that is understood.
///
/// To compile it takes longer than everything else of a plan, and can be done beside the process that is to load it.
/// What is wrong with a single rule is known before; what only several are together is not.
#[derive(Debug)]
pub struct Profile {
    rules: Rules,
    // This one.
    machine: &'static Machine,
    // Those of which it has a say.
    architectures: Vec<Arch>,
    /// The flags to load its program with, not counting the one for a listener.
    pub flags: Flags,
    /// Whether some calls are put to a listener (`SCMP_ACT_NOTIFY`): the program must be loaded with one,
    /// and its descriptor handed on.
    pub notify: bool,
}

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// This program was built for an architecture whose system calls are not in the table.
    #[error("the system calls of {0} are not known")]
    Architecture(&'static str),
    /// An errno for an action that returns none.
    #[error("seccomp: an errno is of no use to {action}")]
    ErrnoWithout {
        /// The action.
        action: Action,
    },
    /// An errno that is none.
    #[error("seccomp: {errno} is not an errno")]
    Errno {
        /// The number.
        errno: u32,
    },
    /// A condition on an argument that no system call has.
    #[error("seccomp: system calls have no argument {index}")]
    Argument {
        /// The argument's index.
        index: usize,
    },
    /// A rule for a system call without a name.
    #[error("seccomp: a system call's name is empty")]
    EmptyName,
    /// Two rules with the same conditions and different actions.
    #[error("seccomp: rules for {syscall} contradict one another")]
    Conflict {
        /// The system call.
        syscall: String,
    },
    /// Every call would wait for a listener that cannot have been set up yet.
    #[error(
        "seccomp: SCMP_ACT_NOTIFY cannot be used as default action: the runtime's own calls, before there is a listener, would wait for it forever"
    )]
    NotifyDefault,
    /// The call that tells the listener's descriptor would wait for the listener.
    #[error(
        "seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall: with it the runtime tells of the listener, and would wait for that forever"
    )]
    NotifyWrite,
    /// The call that hands the listener's descriptor over would wait for the listener.
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for the sendmsg syscall by a runtime without root")]
    NotifySendmsg,
    /// Nobody to put calls to.
    #[error("seccomp: SCMP_ACT_NOTIFY is used, but listenerPath is not set")]
    NoListener,
    /// A flag about waiting for a listener, and no listener.
    #[error("seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is of no use without SCMP_ACT_NOTIFY")]
    NothingToWaitFor,
    /// The program would be longer than the kernel allows.
    #[error("seccomp: the profile takes {least} instructions or more, and the kernel allows {limit}")]
    TooLong {
        /// How many it would have at the least.
        least: usize,
        /// How many it may have.
        limit: usize,
    },
}

impl Classify for SeccompError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Architecture(_) => ErrorKind::Failed,
            _ => ErrorKind::Invalid,
        }
    }
}

impl Profile {
    /// Understands the profile of a config.
    pub fn new(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        let notify = check_notify(profile)?;
        let flags = flags(profile);
        if flags.contains(Flags::WAIT_KILLABLE_RECV) && !notify {
            return Err(SeccompError::NothingToWaitFor);
        }
        let machine = abi::native().ok_or(SeccompError::Architecture(std::env::consts::ARCH))?;
        let architectures = profile.architectures().clone().unwrap_or_default();
        Ok(Self { rules: Rules::of(profile)?, machine, architectures, flags, notify })
    }

    /// Compiles it for this machine, to at most 4096 instructions.
    pub fn compile(&self) -> Result<Vec<sock_filter>, SeccompError> {
        compile::compile(&self.rules, &self.architectures, self.machine)
    }
}

// Whether the profile needs a listener, and could work with one.
fn check_notify(profile: &LinuxSeccomp) -> Result<bool, SeccompError> {
    if profile.default_action() == Action::ScmpActNotify {
        return Err(SeccompError::NotifyDefault);
    }
    let mut notifying =
        profile.syscalls().iter().flatten().filter(|entry| entry.action() == Action::ScmpActNotify).peekable();
    if notifying.peek().is_none() {
        return Ok(false);
    }
    match notifying.any(|entry| entry.names().iter().any(|name| name == "write")) {
        true => Err(SeccompError::NotifyWrite),
        false => Ok(true),
    }
}

// As runc has them: without the member (an empty one is not that) speculation is left as it is, and TSYNC
// asks for nothing, as the thread that loads the program is the only one.
fn flags(profile: &LinuxSeccomp) -> Flags {
    let Some(flags) = profile.flags() else { return Flags::SPEC_ALLOW };
    flags.iter().fold(Flags::NONE, |all, flag| {
        all | match flag {
            Flag::SeccompFilterFlagTsync => Flags::NONE,
            Flag::SeccompFilterFlagLog => Flags::LOG,
            Flag::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv => Flags::WAIT_KILLABLE_RECV,
        }
    })
}
