// SPDX-License-Identifier: Apache-2.0
//! What runc makes of a profile: libseccomp's program, and in front of it the answer ENOSYS to calls that
//! are newer than the profile.

use std::fs::File;
use std::io::{Read, Seek};

use libc::sock_filter;
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Op, LinuxSyscall,
};

use super::emulator::{Data, run};
use crate::seccomp::abi::{Abi, Machine};

/// A program of libseccomp's, and what runc adds.
pub(super) struct Oracle {
    program: Vec<sock_filter>,
    // The newest call that the profile names, for each ABI of the profile.
    newest: Vec<(&'static Abi, u32)>,
}

impl Oracle {
    /// Compiles a profile for a machine. Fails as libseccomp does.
    pub(super) fn of(profile: &LinuxSeccomp, machine: &Machine) -> Result<Self, String> {
        let text = |error: SeccompError| error.to_string();
        let default = action(profile.default_action(), profile.default_errno_ret());
        let mut filter = ScmpFilterContext::new(default).map_err(text)?;
        let listed = profile.architectures().as_deref().unwrap_or_default();
        let abis: Vec<&'static Abi> = machine
            .abis
            .iter()
            .enumerate()
            .filter(|(i, abi)| *i == 0 || listed.contains(&abi.arch))
            .map(|(_, abi)| abi)
            .collect();
        filter.remove_arch(ScmpArch::Native).map_err(text)?;
        for abi in &abis {
            filter.add_arch(arch(abi.arch)).map_err(text)?;
        }
        let mut newest: Vec<(&Abi, u32)> = Vec::new();
        for (rule, name) in
            profile.syscalls().iter().flatten().flat_map(|rule| rule.names().iter().map(move |name| (rule, name)))
        {
            add(&mut filter, rule, name, default).map_err(text)?;
            for abi in &abis {
                match (number(name, abi), newest.iter_mut().find(|(known, _)| known.arch == abi.arch)) {
                    (Some(number), Some((_, newest))) => *newest = number.max(*newest),
                    (Some(number), None) => newest.push((abi, number)),
                    (None, _) => {}
                }
            }
        }
        if [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace].contains(&profile.default_action()) {
            newest.clear();
        }
        Ok(Self { program: export(&filter), newest })
    }

    /// The answer to a call.
    pub(super) fn answer(&self, data: &Data) -> u32 {
        let x32 = data.nr & 0x4000_0000 != 0;
        for (abi, newest) in &self.newest {
            let here = abi.audit == data.arch && (abi.audit != 0xc000_003e || x32 == (abi.offset != 0));
            if here && (data.nr > *newest || (abi.unknown_is_zero && data.nr == 0)) {
                return libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
            }
        }
        run(&self.program, data, false)
    }
}

/// A call's number, as libseccomp has it: none for what may go through a multiplexer.
pub(super) fn number(name: &str, abi: &Abi) -> Option<u32> {
    let call = ScmpSyscall::from_name_by_arch(name, arch(abi.arch)).ok()?;
    u32::try_from(call.as_raw_syscall()).ok()
}

fn add(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    name: &str,
    default: ScmpAction,
) -> Result<(), SeccompError> {
    let action = action(rule.action(), rule.errno_ret());
    let Ok(call) = ScmpSyscall::from_name(name) else { return Ok(()) };
    if action == default {
        return Ok(());
    }
    let args = rule.args().as_deref().unwrap_or_default();
    let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    let conditions: Vec<ScmpArgCompare> = args.iter().map(condition).collect();
    if repeated {
        for condition in conditions {
            filter.add_rule_conditional(action, call, &[condition])?;
        }
    } else {
        filter.add_rule_conditional(action, call, &conditions)?;
    }
    Ok(())
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let (op, value) = match arg.op() {
        Op::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        Op::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        Op::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        Op::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        Op::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        Op::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        Op::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or_default()),
    };
    ScmpArgCompare::new(arg.index() as u32, op, value)
}

fn action(action: Action, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(errno as i32),
        Action::ScmpActNotify => ScmpAction::Notify,
        Action::ScmpActTrace => ScmpAction::Trace(errno as u16),
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
    }
}

fn arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchS390 => ScmpArch::S390,
        other => panic!("{other} is not tested"),
    }
}

fn export(filter: &ScmpFilterContext) -> Vec<sock_filter> {
    let fd = nix::sys::memfd::memfd_create(c"bpf", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    filter.export_bpf(&fd).unwrap();
    let mut file = File::from(fd);
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let instruction = |bytes: &[u8]| sock_filter {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    bytes.chunks_exact(8).map(instruction).collect()
}
