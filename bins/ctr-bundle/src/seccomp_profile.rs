// SPDX-License-Identifier: Apache-2.0
//! The default seccomp profile: what the program in a container may ask of the kernel.
//!
//! It lists what is allowed, by purpose; everything else fails with EPERM. Left out unless a capability
//! asks for it ([`BY_CAPABILITY`]):
//! - what changes the machine for everybody: `reboot`, kernel modules, `acct`, `quotactl`, the clock, I/O
//!   ports, `syslog`;
//! - `mount` and its kin, `setns`, `unshare`, and new namespaces by `clone`: a user namespace hands out
//!   capabilities over kernel code that was not written for strangers;
//! - `bpf` and `perf_event_open`, which look into the kernel;
//! - `open_by_handle_at`, which opens files that no path in the container leads to ("shocker");
//! - what reaches farther into other processes than a debugger needs (`kcmp`, `pidfd_getfd`,
//!   `process_madvise`), and what places memory on NUMA nodes (`mbind`, `set_mempolicy`).
//!
//! Left out whatever a container may do otherwise, as nothing in a container needs it:
//! - io_uring: what is asked through its rings passes no filter;
//! - `userfaultfd`: it stops the kernel in the middle of a copy for as long as an exploit likes;
//! - keys (`add_key`, `keyctl`, `request_key`): keyrings belong to users, not to namespaces;
//! - `kexec_load`, `swapon`, `pivot_root`, `migrate_pages`, `move_pages`;
//! - what is only there for old times' sake: `uselib`, `ustat`, `sysfs`, `_sysctl`, `vm86`.
//!
//! `ptrace` is allowed: since Linux 4.8, long before anything this toolkit runs on, a tracer cannot change
//! a call after the filter has seen it.

use serde_json::{Value, json};

/// The default profile (`linux.seccomp`) for a container with a bounding set of capabilities, on this
/// machine.
pub(crate) fn default_profile(capabilities: &[&str]) -> Value {
    profile_for(capabilities, std::env::consts::ARCH)
}

fn profile_for(capabilities: &[&str], machine: &str) -> Value {
    let mut rules: Vec<Value> = ALLOWED.into_iter().map(allow).collect();
    rules.extend(SOCKET_FAMILIES.iter().map(|(mask, family)| allow_if("socket", 0, *mask, *family)));
    rules.extend(PERSONALITIES.iter().map(|persona| allow_if("personality", 0, LOW_HALF, *persona)));

    let held = BY_CAPABILITY.iter().filter(|(capability, _)| capabilities.contains(capability));
    rules.extend(held.map(|(_, list)| allow(list)));
    if !capabilities.contains(&"CAP_SYS_ADMIN") {
        // s390 takes the flags second.
        let flags = if machine == "s390x" { 1 } else { 0 };
        rules.push(allow_if("clone", flags, NEW_NAMESPACES, 0));
        // Its flags lie behind a pointer. Programs that hear that it does not exist fall back to clone.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures(machine), "syscalls": rules})
}

fn allow(list: &str) -> Value {
    json!({"names": names(list).collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"})
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split_whitespace()
}

fn allow_if(name: &str, index: u32, mask: u32, value: u32) -> Value {
    let condition = json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"});
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]})
}

// A machine's own calls, and those of the programs for smaller ones that it runs.
fn architectures(machine: &str) -> &'static [&'static str] {
    match machine {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "x86" => &["SCMP_ARCH_X86"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "arm" => &["SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        "powerpc64" => &["SCMP_ARCH_PPC64LE"],
        "loongarch64" => &["SCMP_ARCH_LOONGARCH64"],
        _ => &[],
    }
}

// The kernel looks at the lower half of these arguments only. A comparison of all 64 bits would let
// 0x1_0000_0026 pass for a family other than 0x26.
const LOW_HALF: u32 = 0xffff_ffff;

// All address families below 64 but two, as (bits that count, their value): AF_ALG (38) has the kernel's
// crypto code parse what strangers send, and AF_VSOCK (40) knows no network namespaces, so that it reaches
// the hypervisor from every container. (32-bit programs on x86 have another way, socketcall, whose
// arguments no filter sees, and which their libc uses.)
const SOCKET_FAMILIES: [(u32, u32); 8] = [
    (!31, 0), // 0 to 31
    (!3, 32), // 32 to 35
    (!1, 36), // 36 and 37
    (!0, 39),
    (!0, 41),
    (!1, 42),  // 42 and 43
    (!3, 44),  // 44 to 47
    (!15, 48), // 48 to 63
];

// Linux and Linux32, each also as of uname 2.6, and the question which one it is. Flags such as
// ADDR_NO_RANDOMIZE are not for a container to set: they outlive exec.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, LOW_HALF];

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. (NEWTIME is none of clone's.)
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// What every container may do, by purpose. A name that an architecture lacks means nothing there.
const ALLOWED: [&str; 18] = [
    // Descriptors.
    "close close_range creat dup dup2 dup3 fcntl fcntl64 flock ioctl memfd_create open openat openat2 pipe pipe2",
    // Contents of files.
    "_llseek cachestat copy_file_range fadvise64 fadvise64_64 arm_fadvise64_64 fallocate fdatasync fsync
     ftruncate ftruncate64 getdents getdents64 lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
     readahead readv sendfile sendfile64 splice sync_file_range arm_sync_file_range sync_file_range2 tee
     truncate truncate64 vmsplice write writev",
    // The same in the kernel's older way of not waiting for it, which can ask for reads and writes only.
    "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit",
    // Names. Which devices may be made is for the device cgroup to say.
    "chdir fchdir getcwd link linkat mkdir mkdirat mknod mknodat name_to_handle_at readlink readlinkat rename
     renameat renameat2 rmdir symlink symlinkat unlink unlinkat",
    // Attributes.
    "access chmod chown chown32 faccessat faccessat2 fchmod fchmodat fchmodat2 fchown fchown32 fchownat
     fgetxattr flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64 futimesat getxattr getxattrat lchown
     lchown32 lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr lstat lstat64 newfstatat
     removexattr removexattrat setxattr setxattrat stat stat64 statx umask utime utimensat utimensat_time64
     utimes",
    // File systems. What is mounted may be looked at: it is that of the container's own mount namespace.
    "fstatfs fstatfs64 listmount statfs statfs64 statmount sync syncfs",
    // Memory.
    "brk madvise map_shadow_stack memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal
     msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    // Processes.
    "execve execveat exit exit_group fork get_thread_area getpgid getpgrp getpid getppid getsid gettid
     pidfd_open prctl process_mrelease process_vm_readv process_vm_writev ptrace set_thread_area set_tid_address
     setpgid setsid vfork wait4 waitid waitpid",
    // What single architectures need for threads, for code that writes code, for devices and probes.
    "arch_prctl breakpoint cacheflush modify_ldt riscv_flush_icache riscv_hwprobe s390_pci_mmio_read
     s390_pci_mmio_write s390_runtime_instr set_tls swapcontext uretprobe",
    // Users, groups, capabilities: who one is, and how to give some of it up.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
     getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
     setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
     setuid setuid32",
    // Giving up more: sandboxes inside the container.
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules
     lsm_set_self_attr seccomp",
    // Signals.
    "kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd
     signalfd4 sigprocmask sigreturn tgkill tkill",
    // Time. The two calls that can adjust the clock too ask for CAP_SYS_TIME themselves.
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
     clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create
     timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
     timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times",
    // Limits, scheduling, and what machine this is.
    "getcpu getpriority getrandom getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max
     sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
     sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
     sched_setscheduler sched_yield setpriority setrlimit sysinfo ugetrlimit uname",
    // Threads that wait for one another.
    "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list membarrier rseq
     set_robust_list",
    // Waiting for several things at once, and being told of changes.
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
     fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll ppoll_time64
     pselect6 pselect6_time64 select",
    // Sockets, but for making them: SOCKET_FAMILIES.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
     recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    // Queues, semaphores and shared memory, which belong to the container's IPC namespace.
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
     mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt
     shmget",
];

/// What a container may do besides if a capability is in its bounding set: the calls that this capability
/// is there for.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr
         move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname
         setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

#[cfg(test)]
mod tests;
