// SPDX-License-Identifier: Apache-2.0
//! What a process in a container sees, may do, and may not.

use std::fs;
use std::path::PathBuf;

use ctr_tests::{Need, Outcome, World, need};
use serde_json::json;

/// Runs a shell script in a busybox container.
fn run(world: &World, flags: &[&str], script: &str) -> Outcome {
    let record = world.bundle(&world.busybox(None), &world.id("t"), flags, &["sh", "-c", script]);
    world.tool("ctr-run").stdin(record).run()
}

fn prints(flags: &[&str], script: &str, expected: &str) {
    let world = World::create();
    let ran = run(&world, flags, script);
    assert_eq!(ran.stdout, expected, "{flags:?}: {}", ran.stderr);
}

#[test]
fn it_is_alone_in_its_namespaces() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let kinds = ["pid", "mnt", "uts", "ipc", "net", "cgroup"];
    let script = kinds.map(|kind| format!("readlink /proc/self/ns/{kind};")).concat();
    let inside = run(&world, &[], &format!("/bin/busybox sh -c '{}'", script.replace("readlink", "busybox readlink")));
    let inside = inside.success().stdout;
    assert_eq!(inside.lines().count(), kinds.len());
    for (kind, link) in kinds.iter().zip(inside.lines()) {
        assert_ne!(fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap(), link);
    }
}

#[test]
fn it_is_process_one_with_the_name_it_was_given() {
    need!(Need::Root, Need::Busybox);
    prints(&["--hostname", "web"], "echo $$; hostname; ps > /ps; wc -l < /ps", "1\nweb\n3\n");
}

#[test]
fn namespaces_can_be_the_hosts() {
    need!(Need::Root, Need::Busybox);
    let link = |kind: &str| format!("{}\n", fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display());
    for kind in ["net", "ipc", "uts", "pid"] {
        let flags = [&format!("--{kind}"), "host"];
        prints(&flags, &format!("busybox readlink /proc/self/ns/{kind}"), &link(kind));
    }
}

#[test]
fn the_default_file_systems_and_devices_are_there() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let mounts = run(&world, &[], "cat /proc/mounts").success().stdout;
    for mount in [
        " /proc proc ",
        " /dev tmpfs ",
        " /dev/pts devpts ",
        " /dev/shm tmpfs ",
        " /dev/mqueue mqueue ",
        " /sys sysfs ",
    ] {
        assert!(mounts.contains(mount), "{mount}: {mounts}");
    }
    let script = "for n in null zero full random urandom tty; do busybox stat -c '%n %t,%T %a' /dev/$n; done
        for n in fd stdin stdout stderr ptmx; do busybox readlink /dev/$n; done
        head -c 3 /dev/zero | wc -c; echo x > /dev/null; cat /dev/null | wc -c";
    prints(
        &[],
        script,
        "/dev/null 1,3 666\n/dev/zero 1,5 666\n/dev/full 1,7 666\n/dev/random 1,8 666\n/dev/urandom 1,9 666\n\
         /dev/tty 5,0 666\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n3\n0\n",
    );
}

#[test]
fn privileges_are_few_and_not_to_be_gained() {
    need!(Need::Root, Need::Busybox);
    let script = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";
    // containerd's default: 14 capabilities.
    let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
        CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    prints(&[], script, expected);
    let none = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    prints(&["--cap-drop", "ALL"], script, none);
    let world = World::create();
    let privileged =
        run(&world, &["--privileged"], "grep ^Seccomp: /proc/self/status; ls /dev | wc -l").success().stdout;
    assert!(privileged.starts_with("Seccomp:\t0\n"), "{privileged}");
}

#[test]
fn seccomp_refuses_what_containers_have_no_business_with() {
    need!(Need::Root, Need::Busybox);
    // Even with the capability that the kernel asks for.
    let mount = "mount -t tmpfs x /tmp 2> /dev/null; echo $?";
    let world = World::create();
    assert_ne!(run(&world, &["--cap-add", "SYS_MODULE"], "busybox rmmod -f dummy").code(), 0);
    prints(&[], mount, "1\n");
    prints(&["--cap-add", "SYS_ADMIN"], mount, "0\n");
    prints(&["--cap-add", "SYS_ADMIN", "--seccomp", "unconfined"], mount, "0\n");
}

#[test]
fn what_is_masked_or_read_only_is_so() {
    need!(Need::Root, Need::Busybox);
    let script = "cat /proc/kcore /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l
        echo 1 2> /dev/null > /proc/sys/kernel/panic || echo refused
        touch /sys/x 2> /dev/null || echo refused";
    prints(&[], script, "0\n0\nrefused\nrefused\n");
    let script =
        "cat /etc/motd; ls /usr | wc -l; touch /root/x 2>/dev/null || echo refused; touch /tmp/x && echo written";
    let flags = ["--masked-path", "/etc/motd", "--masked-path", "/usr", "--readonly-path", "/root"];
    prints(&flags, script, "0\nrefused\nwritten\n");
}

#[test]
fn a_read_only_root_refuses_writes() {
    need!(Need::Root, Need::Busybox);
    let script = "touch /x 2> /dev/null || echo refused; touch /scratch/x && touch /dev/shm/x && echo written";
    prints(&["--read-only", "--tmpfs", "/scratch"], script, "refused\nwritten\n");
}

#[test]
fn the_process_is_as_the_flags_say() {
    need!(Need::Root, Need::Busybox);
    prints(
        &["--user", "app", "--cwd", "/usr/bin", "--env", "A=b c", "--rlimit", "nofile=33:44"],
        "id; pwd; echo $A; ulimit -n; ulimit -H -n; grep ^CapEff /proc/self/status",
        "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n/usr/bin\nb c\n33\n44\nCapEff:\t0000000000000000\n",
    );
}

#[test]
fn volumes_show_the_hosts_files() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    for name in ["rw", "ro"] {
        fs::create_dir(world.dir().join(name)).unwrap();
        fs::write(world.dir().join(name).join("host"), name).unwrap();
    }
    let volume = |name: &str, options: &str| format!("{}:/mnt/{name}{options}", world.dir().join(name).display());
    let flags = ["--volume", &volume("rw", ""), "--volume", &volume("ro", ":ro")];
    let script = "cat /mnt/*/host; echo; echo new > /mnt/rw/new; echo new 2>/dev/null > /mnt/ro/new || echo refused";
    assert_eq!(run(&world, &flags, script).stdout, "rorw\nrefused\n");
    assert_eq!(fs::read_to_string(world.dir().join("rw/new")).unwrap(), "new\n");
    assert!(!world.dir().join("ro/new").exists());
}

/// The values of a file in every cgroup of the world's container; v1 has one cgroup per controller.
fn cgroup_values(world: &World, file: &str) -> Vec<String> {
    let leaks = ctr_tests::leak::Leaks::find(world.dir(), &world.id("t"));
    leaks.cgroups.iter().filter_map(|dir: &PathBuf| fs::read_to_string(dir.join(file)).ok()).collect()
}

#[test]
fn limits_are_written_to_the_cgroup() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let flags = ["--memory", "64M", "--cpus", "0.5", "--pids-limit", "77"];
    let script = "echo ready; sleep 1000";
    let record = world.bundle(&world.busybox(None), &world.id("t"), &flags, &["sh", "-c", script]);
    let running = world.tool("ctr-run").stdin(record).spawn();
    running.wait_for_output("ready");
    for (v1, v2, on_v1, on_v2) in [
        ("memory.limit_in_bytes", "memory.max", "67108864\n", "67108864\n"),
        ("pids.max", "pids.max", "77\n", "77\n"),
        ("cpu.cfs_quota_us", "cpu.max", "50000\n", "50000 100000\n"),
    ] {
        let (v1, v2) = (cgroup_values(&world, v1), cgroup_values(&world, v2));
        let found = v1.iter().any(|value| value == on_v1) || v2.iter().any(|value| value == on_v2);
        assert!(found, "{v1:?} {v2:?}");
    }
    world.tool("ctr-run").args(["kill", &world.id("t"), "KILL"]).run().success();
    assert_eq!(running.wait().code(), 128 + 9);
}

#[test]
fn a_process_limit_holds() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let script = "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done 2>&1; echo survived";
    let ran = run(&world, &["--pids-limit", "5"], script);
    assert!(!ran.stdout.contains("survived") || ran.stdout.contains("fork"), "{} {}", ran.stdout, ran.stderr);
}

#[test]
fn devices_that_were_not_given_cannot_be_opened() {
    need!(Need::Root, Need::Busybox);
    // /dev/mem by number: mknod is allowed, opening is not.
    let script = "busybox mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>&1 | grep -c 'not permitted'";
    prints(&[], script, "1\n");
    prints(&["--device", "/dev/zero:/dev/given:r"], "head -c 2 /dev/given | wc -c", "2\n");
}

#[test]
fn kernel_parameters_of_its_own_namespaces_can_be_set() {
    need!(Need::Root, Need::Busybox);
    prints(&["--sysctl", "kernel.msgmax=4321"], "cat /proc/sys/kernel/msgmax", "4321\n");
    assert_ne!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), "4321\n");
}

#[test]
fn a_time_namespace_has_its_own_clock() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let patch = json!([
        { "op": "add", "path": "/linux/namespaces/-", "value": { "type": "time" } },
        { "op": "add", "path": "/linux/timeOffsets", "value": { "boottime": { "secs": 1_000_000_000 } } },
    ]);
    fs::write(world.dir().join("patch"), patch.to_string()).unwrap();
    let uptime = run(&world, &["--patch", "patch"], "cat /proc/uptime").success().stdout;
    let seconds: f64 = uptime.split('.').next().unwrap().parse().unwrap();
    assert!(seconds > 1e9, "{uptime}");
}

#[test]
fn a_user_namespace_maps_its_ids() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let flags = ["--userns", "private", "--uid-map", "0:100000:65536", "--gid-map", "0:200000:65536"];
    let ran = run(&world, &flags, "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/mine && echo written");
    let words: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "200000", "65536", "0", "written"], "{}", ran.stderr);
}

#[test]
fn hooks_run_in_order_with_the_state_on_standard_input() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let log = world.dir().join("log");
    let hook = |name: &str| {
        let script = format!("read state; echo {name} \"$state\" >> {}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    // startContainer runs inside, where the log is a volume.
    let patch = json!({ "hooks": {
        "prestart": hook("prestart"), "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
        "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "cat > /dev/null; echo startContainer >> /log"] }],
        "poststart": hook("poststart"), "poststop": hook("poststop"),
    } });
    fs::write(world.dir().join("patch"), patch.to_string()).unwrap();
    fs::write(&log, "").unwrap();
    let volume = format!("{}:/log", log.display());
    let ran = run(&world, &["--patch", "patch", "--volume", &volume], "sleep 0.2; echo process >> /log").success();
    assert_eq!(ran.stderr, "");
    let log = fs::read_to_string(&log).unwrap();
    let order: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let expected =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "process", "poststop"];
    assert_eq!(order, expected, "{log}");
    for line in log.lines().filter(|line| line.contains('{')) {
        let state: serde_json::Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
        assert_eq!(state["id"], world.id("t"), "{line}");
    }
}

#[test]
fn a_hook_that_fails_stops_the_start() {
    need!(Need::Root, Need::Busybox);
    let world = World::create();
    let patch = json!({ "hooks": { "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 9"] }] } });
    fs::write(world.dir().join("patch"), patch.to_string()).unwrap();
    let ran = run(&world, &["--patch", "patch"], "echo started").fails(125, &["hook", "createRuntime"]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn no_descriptor_of_the_runtime_reaches_the_container() {
    need!(Need::Root, Need::Busybox);
    // 3 is the directory that ls reads.
    prints(&[], "exec ls /proc/self/fd", "0\n1\n2\n3\n");
}
