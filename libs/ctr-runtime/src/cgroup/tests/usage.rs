// SPDX-License-Identifier: Apache-2.0
//! What a real cgroup's processes use, and how it is told that they use too much.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

#[test]
fn statistics_count_a_process() {
    let Some(hierarchies) = skip("statistics_count_a_process", |_| None) else { return };
    let scratch = create(&hierarchies, "stats");
    let idle = scratch.0.stats().expect("readable");
    assert_eq!((idle.pids.current, idle.pids.limit), (0, None));
    let mut command = Command::new("sh");
    command.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000"]);
    let mut shell = Sleeper(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell"));
    scratch.0.add_process(shell.pid()).expect("it lives");
    shell.0.stdout.as_mut().expect("piped").read_exact(&mut [0; 5]).expect("it gets done");
    let busy = scratch.0.stats().expect("readable");
    assert_eq!(busy.pids.current, 1);
    assert!(busy.cpu.usage.total > idle.cpu.usage.total, "{busy:?}");
    if scratch.has("memory", "memory") {
        scratch.apply(json!({"memory": {"limit": 100 << 20}})).expect("limits");
        assert!(scratch.fill_memory("stats", 4));
        let full = scratch.0.stats().expect("readable").memory;
        fs::remove_file("/dev/shm/ctr-test-stats").expect("it was made");
        assert_eq!(full.usage.limit, 100 << 20);
        assert!(full.usage.usage >= 4 << 20 && full.cache >= 4 << 20, "{full:?}");
        assert!(full.raw.len() > 10);
    }
}

#[test]
fn the_kernel_tells_when_memory_runs_out() {
    let Some(hierarchies) = skip("the_kernel_tells_when_memory_runs_out", |_| None) else { return };
    let scratch = create(&hierarchies, "oom");
    if !scratch.has("memory", "memory") {
        return eprintln!("SKIP the_kernel_tells_when_memory_runs_out: no memory controller");
    }
    // without swap, where there is any
    let swap = scratch.apply(json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    swap.or_else(|_| scratch.apply(json!({"memory": {"limit": 16 << 20}}))).expect("limits");
    let mut watch = scratch.0.watch_oom().expect("it can be watched").expect("there is a controller");
    assert!(!watch.take().expect("readable"));
    assert!(!scratch.fill_memory("oom", 64));
    let _ = fs::remove_file("/dev/shm/ctr-test-oom");
    // The first change that is told may be one of the count of failures.
    while !watch.take().expect("readable") {
        let ready = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000_u16));
        assert_eq!(ready, Ok(1), "nothing is told");
    }
    assert!(scratch.0.oom_kills().expect("readable").is_none_or(|kills| kills > 0));
    while watch.take().expect("readable") {}
    scratch.0.delete().expect("it is empty");
    assert!(!watch.take().expect("the end is no shortage of memory"));
}

#[test]
fn a_cgroup_without_memory_controller_cannot_be_watched() {
    assert!(Cgroup::none().watch_oom().expect("nothing to open").is_none());
}
