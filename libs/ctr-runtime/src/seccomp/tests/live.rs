// SPDX-License-Identifier: Apache-2.0
//! Programs loaded into the kernel. A filter belongs to the thread that loads it, so that each test has one
//! of its own.

use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{getpgid, getsid};
use serde_json::{Value, json};

use super::profile;
use crate::seccomp::Profile;

fn of(value: Value) -> (Vec<libc::sock_filter>, Profile) {
    let profile = Profile::new(&profile(value)).unwrap();
    (profile.compile().unwrap(), profile)
}

fn in_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        set_no_new_privs().unwrap(); // what an unprivileged thread needs to load a filter
        run()
    });
    thread.join().unwrap()
}

fn stream_of(family: AddressFamily) -> Result<(), Errno> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map(drop)
}

#[test]
fn the_kernel_answers_as_the_profile_says() {
    let (program, profile) = of(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": libc::AF_INET, "op": "SCMP_CMP_EQ"},
                      {"index": 1, "value": libc::SOCK_STREAM, "valueTwo": libc::SOCK_STREAM, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }));
    in_a_thread(move || {
        assert!(getsid(None).is_ok());
        ctr_sys::seccomp::load(&program, profile.flags).unwrap();
        assert_eq!(getsid(None), Err(Errno::ENETDOWN));
        assert!(getpgid(None).is_ok());
        assert_eq!(stream_of(AddressFamily::Inet), Err(Errno::EPERM));
        assert_eq!(stream_of(AddressFamily::Unix), Ok(()));
    });
    assert!(getsid(None).is_ok());
}

#[test]
fn the_kernel_takes_a_long_program() {
    let rules: Vec<Value> = (0..1000)
        .map(|i| {
            json!({"names": ["getpgid", "getsid"], "action": "SCMP_ACT_ERRNO",
                   "args": [{"index": 0, "value": i * 7 + 1_000_000_000_u64, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let (program, profile) = of(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    assert!(program.len() > 1000);
    in_a_thread(move || {
        ctr_sys::seccomp::load(&program, profile.flags).unwrap();
        let pgid_of = |pid| getpgid(Some(nix::unistd::Pid::from_raw(pid)));
        assert_eq!(pgid_of(1_000_000_007), Err(Errno::EPERM));
        assert_eq!(pgid_of(1_000_006_993), Err(Errno::EPERM));
        assert_eq!(pgid_of(1_000_000_008), Err(Errno::ESRCH));
    });
}

#[test]
fn a_forbidden_call_kills_a_program() {
    let (program, profile) = of(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }));
    let status = in_a_thread(move || {
        ctr_sys::seccomp::load(&program, profile.flags).unwrap();
        Command::new("mkdir").arg("/proc/cannot-be").status().unwrap()
    });
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

#[test]
fn calls_are_put_to_the_listener() {
    let (program, profile) = of(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["getsid"], "action": "SCMP_ACT_NOTIFY"}],
    }));
    assert!(profile.notify);
    let (sender, receiver) = mpsc::channel();
    let caller = thread::spawn(move || {
        set_no_new_privs().unwrap();
        let listener = ctr_sys::seccomp::load_with_listener(&program, profile.flags).unwrap();
        sender.send(listener).unwrap();
        getsid(None)
    });
    let listener = receiver.recv().unwrap();
    let flags = fcntl(&listener, FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
    let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    assert_eq!(link.to_str(), Some("anon_inode:seccomp notify"));
    // Nobody will answer any more: the kernel does, in the listener's stead.
    drop(listener);
    assert_eq!(caller.join().unwrap(), Err(Errno::ENOSYS));
}
