// SPDX-License-Identifier: Apache-2.0
//! A seccomp filter that is compiled while the process that is to load it is already on its way.
//!
//! A container's first process takes ten times as long to come to where it loads the filter, and this process has
//! little else to do meanwhile; for another process it is about as long as that takes to join the container. The
//! program is one packet, so that no part of it is taken for the whole.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ctr_sys::seccomp::Flags;
use libc::sock_filter;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use crate::RuntimeError;
use crate::plan::Plan;
use crate::process::report::{InitFailure, Step, StepResult};
use crate::seccomp::Profile;

/// Compiles what is owed to a process, and hands it over.
pub(crate) fn deliver(filter: Option<Owed>, plan: &Plan) -> Result<(), RuntimeError> {
    match (filter, &plan.seccomp) {
        (Some(filter), Some(profile)) => filter.deliver(profile),
        _ => Ok(()),
    }
}

/// The bytes of an instruction: its code, where to jump if so and if not, its operand.
const SIZE: usize = 8;

/// A filter, for the process that is to load it.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) flags: Flags,
    pub(crate) notify: bool,
    from: OwnedFd,
}

/// The same for the process that compiles it.
#[derive(Debug)]
pub(crate) struct Owed(OwnedFd);

/// Makes both ends.
pub(crate) fn pair(profile: &Profile) -> io::Result<(Owed, Awaited)> {
    // A pipe would have room for less where its user has many, and this process would wait for the other one.
    let (to, from) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Owed(to), Awaited { flags: profile.flags, notify: profile.notify, from }))
}

impl Owed {
    fn deliver(self, profile: &Profile) -> Result<(), RuntimeError> {
        let program = profile.compile()?;
        let mut packet = Vec::with_capacity(program.len() * SIZE);
        packet.extend(program.iter().flat_map(encode));
        match send(self.0.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL) {
            // It has ended meanwhile, and its last message says how.
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(RuntimeError::call("hand the seccomp filter over")(errno.into())),
        }
    }
}

impl Awaited {
    /// Waits for the program.
    pub(crate) fn receive(self) -> StepResult<Vec<sock_filter>> {
        let take = |packet: &mut [u8], how| recv(self.from.as_raw_fd(), packet, how);
        let take = |packet: &mut [u8], how| take(packet, how).step("receive the seccomp filter");
        let mut packet = vec![0; take(&mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?];
        if packet.is_empty() || packet.len() % SIZE != 0 {
            return Err(InitFailure::finding("the runtime ended before the seccomp filter was compiled"));
        }
        take(&mut packet, MsgFlags::empty())?;
        Ok(packet.chunks_exact(SIZE).map(decode).collect())
    }
}

impl AsRawFd for Awaited {
    fn as_raw_fd(&self) -> RawFd {
        self.from.as_raw_fd()
    }
}

fn encode(instruction: &sock_filter) -> [u8; SIZE] {
    let ([a, b], [e, f, g, h]) = (instruction.code.to_ne_bytes(), instruction.k.to_ne_bytes());
    [a, b, instruction.jt, instruction.jf, e, f, g, h]
}

fn decode(bytes: &[u8]) -> sock_filter {
    let [a, b, jt, jf, e, f, g, h] = *bytes else { unreachable!("of this length") };
    sock_filter { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes([e, f, g, h]) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // Nearly as long as the kernel takes.
    fn profile() -> Profile {
        let equal = |value: usize| json!([{"index": 1, "value": value * 3, "op": "SCMP_CMP_EQ"}]);
        let rule = |value| json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": equal(value)});
        let rules: Vec<_> = (0..3900).map(rule).collect();
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
        Profile::new(&serde_json::from_value(profile).unwrap()).unwrap()
    }

    #[test]
    fn a_program_arrives_as_it_was_compiled() {
        let profile = profile();
        let (owed, awaited) = pair(&profile).unwrap();
        owed.deliver(&profile).unwrap();
        let fields =
            |program: Vec<sock_filter>| -> Vec<_> { program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect() };
        assert!(profile.compile().unwrap().len() > 3900);
        assert_eq!(fields(awaited.receive().unwrap()), fields(profile.compile().unwrap()));
    }

    #[test]
    fn nothing_is_loaded_when_there_is_no_program() {
        let (owed, awaited) = pair(&profile()).unwrap();
        drop(owed);
        assert!(awaited.receive().unwrap_err().to_string().contains("the runtime ended"));
        let (owed, awaited) = pair(&profile()).unwrap();
        drop(awaited);
        owed.deliver(&profile()).unwrap();
    }
}
