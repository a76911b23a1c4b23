// SPDX-License-Identifier: Apache-2.0
//! What the default profile promises.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxSeccomp;

use super::*;

const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

// The rules of a profile by call.
fn rules(profile: &Value) -> BTreeMap<String, Vec<Value>> {
    let mut rules: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        for name in rule["names"].as_array().unwrap() {
            rules.entry(name.as_str().unwrap().to_owned()).or_default().push(rule.clone());
        }
    }
    rules
}

// Whether a call is allowed with a first argument.
fn allows(profile: &Value, name: &str, argument: u64) -> bool {
    rules(profile).get(name).into_iter().flatten().any(|rule| {
        let mut conditions = rule["args"].as_array().into_iter().flatten();
        rule["action"] == "SCMP_ACT_ALLOW"
            && conditions.all(|condition| {
                assert_eq!(condition["op"], "SCMP_CMP_MASKED_EQ");
                assert_eq!(condition["index"], 0);
                argument & condition["value"].as_u64().unwrap() == condition["valueTwo"].as_u64().unwrap()
            })
    })
}

#[test]
fn what_is_dangerous_is_refused_without_capabilities() {
    let profile = profile_for(&[], "x86_64");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = rules(&profile);
    for name in names(
        "acct add_key bpf chroot clock_settime create_module delete_module fanotify_init finit_module
         fsconfig fsmount fsopen fspick get_mempolicy init_module io_uring_enter io_uring_register
         io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind
         migrate_pages mount mount_setattr move_mount move_pages open_by_handle_at open_tree open_tree_attr
         perf_event_open pidfd_getfd pivot_root process_madvise quotactl quotactl_fd reboot request_key
         set_mempolicy setdomainname sethostname setns settimeofday stime swapoff swapon syslog umount
         umount2 unshare userfaultfd uselib vhangup vm86 vm86old",
    ) {
        assert!(!rules.contains_key(name), "{name}");
    }
}

#[test]
fn some_calls_are_for_no_capability() {
    let all: Vec<&str> = BY_CAPABILITY.iter().map(|(capability, _)| *capability).collect();
    let rules = rules(&profile_for(&all, "x86_64"));
    for name in names(
        "add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl
         pivot_root request_key swapoff swapon userfaultfd",
    ) {
        assert!(!rules.contains_key(name), "{name}");
    }
}

#[test]
fn ordinary_programs_work() {
    let profile = profile_for(&DEFAULT, "x86_64");
    for name in names(
        "accept4 bind brk chdir chmod chown chroot clock_gettime close_range connect dup3 epoll_wait execve
         execveat exit_group faccessat2 fchmodat2 fork futex getdents64 getrandom ioctl kill
         landlock_create_ruleset lseek mkdir mmap mprotect newfstatat openat2 pidfd_open pipe2 poll prctl
         pread64 prlimit64 ptrace read recvmsg rename rseq rt_sigaction sched_yield seccomp semtimedop
         sendmsg set_robust_list setgroups setuid shmget socketpair statx symlink timerfd_create unlink
         utimensat vfork wait4 waitid write",
    ) {
        assert!(allows(&profile, name, 0), "{name}");
    }
}

#[test]
fn new_namespaces_need_cap_sys_admin() {
    let without = profile_for(&DEFAULT, "x86_64");
    assert!(allows(&without, "clone", 0x3d0f00)); // a thread
    assert!(allows(&without, "clone", 0x11)); // a process
    for bit in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert!(!allows(&without, "clone", bit | 0x11), "{bit:#x}");
    }
    let clone3 = &rules(&without)["clone3"][..];
    assert_eq!(clone3.len(), 1);
    assert_eq!((&clone3[0]["action"], &clone3[0]["errnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(38)));

    let with = profile_for(&["CAP_SYS_ADMIN"], "x86_64");
    assert!(allows(&with, "clone", 0x1000_0011) && allows(&with, "clone3", 0) && allows(&with, "unshare", 0));
}

#[test]
fn clone_takes_its_flags_second_on_s390() {
    let index = |machine| rules(&profile_for(&[], machine))["clone"][0]["args"][0]["index"].clone();
    assert_eq!((index("s390x"), index("aarch64")), (json!(1), json!(0)));
}

#[test]
fn sockets_are_of_all_families_but_two() {
    let profile = profile_for(&[], "x86_64");
    for family in 0..64 {
        assert_eq!(allows(&profile, "socket", family), family != 38 && family != 40, "{family}");
        // The kernel does not see the upper half.
        assert_eq!(allows(&profile, "socket", family | 7 << 32), family != 38 && family != 40, "{family}");
    }
}

#[test]
fn personalities_are_those_of_a_plain_linux() {
    let profile = profile_for(&[], "x86_64");
    for good in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert!(allows(&profile, "personality", good), "{good:#x}");
    }
    for bad in [0x4_0000, 0x40_0000, 0x4_0008] {
        assert!(!allows(&profile, "personality", bad), "{bad:#x}");
    }
}

#[test]
fn each_capability_brings_its_calls() {
    let without = rules(&profile_for(&[], "x86_64"));
    for (capability, list) in BY_CAPABILITY {
        let with = profile_for(&[capability], "x86_64");
        for name in names(list) {
            assert!(allows(&with, name, 0x7e02_0000), "{name} with {capability}");
            assert!(["clone", "clone3"].contains(&name) || !without.contains_key(name), "{name}");
        }
    }
}

#[test]
fn runtimes_can_read_it() {
    for machine in ["x86_64", "x86", "aarch64", "arm", "riscv64", "s390x", "powerpc64", "loongarch64"] {
        let profile: LinuxSeccomp = serde_json::from_value(profile_for(&DEFAULT, machine)).unwrap();
        assert!(!profile.architectures().as_ref().unwrap().is_empty());
    }
    assert_eq!(default_profile(&DEFAULT), profile_for(&DEFAULT, std::env::consts::ARCH));
}

#[test]
fn no_call_is_listed_twice() {
    let mut all: Vec<&str> = ALLOWED.into_iter().flat_map(names).collect();
    all.extend(["socket", "personality", "clone", "clone3"]);
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}
