// SPDX-License-Identifier: Apache-2.0
//! socketcall(2) and ipc(2): one call of older ABIs for what newer ones have a call each.
//!
//! A rule for `socket` is a rule for `socketcall` with 1 as its first argument too. The arguments proper
//! lie behind a pointer there, where no filter can look: a condition on the first one is dropped, as
//! libseccomp does.

use super::table::{self, Call};

/// The calls that can be made through a call, each with its number there.
pub(super) fn through(call: Call) -> impl Iterator<Item = (&'static str, u64)> {
    let calls: &[(&str, u64)] = match table::name_of(call) {
        b"socketcall" => &SOCKETCALL,
        b"ipc" => &IPC,
        _ => &[],
    };
    calls.iter().copied()
}

// linux/net.h
const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

// linux/ipc.h
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];
