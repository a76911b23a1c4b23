// SPDX-License-Identifier: Apache-2.0
//! `ctr-run exec`: which process its flags make, and where.

use std::fs;
use std::path::{Path, PathBuf};

use ctr_tests::{Need, Tool, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, text};

fn run_detached(scene: &Scene, flags: &[&str]) {
    scene.make(&["run", "--detach"]).args(flags).detaches().run().success();
}

// `exec --process FILE` of a process that runs a shell script.
fn exec_process(scene: &Scene, script: &str, change: impl FnOnce(&mut Value)) -> Tool {
    let mut process = json!({"cwd": "/", "args": ["sh", "-c", script], "env": ["PATH=/bin"]});
    change(&mut process);
    let file = scene.world.dir().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    scene.runtime(&["exec", "--process", text(&file), &scene.id])
}

// The container's cgroup in the hierarchy of a v1 controller, or in v2 where that is all there is.
fn cgroup(scene: &Scene, controller: &str) -> PathBuf {
    let state: Value = serde_json::from_slice(&fs::read(scene.dir().join("state.json")).unwrap()).unwrap();
    let paths = &state["cgroup"];
    let path = paths[controller].as_str().or(paths[""].as_str()).expect("it has a cgroup");
    PathBuf::from(path)
}

fn is_v2(scene: &Scene) -> bool {
    let state: Value = serde_json::from_slice(&fs::read(scene.dir().join("state.json")).unwrap()).unwrap();
    state["cgroup"].as_object().unwrap().len() == 1
}

#[test]
fn capabilities_are_added_and_ambient_only_where_inheritable_has_them() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000").edit(|config| {
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_CHOWN"]
        });
    });
    run_detached(&scene, &[]);
    let show = ["grep", "^Cap", "/proc/self/status"];
    let ran = scene.runtime(&["exec", "-c", "NET_RAW", "--cap", "cap_chown", &scene.id]).args(show).run().success();
    let raised = "0000000000002021"; // CHOWN 0, KILL 5, NET_RAW 13
    for line in [
        "CapInh:\t0000000000000001",
        &format!("CapPrm:\t{raised}"),
        &format!("CapEff:\t{raised}"),
        &format!("CapBnd:\t{raised}"),
        "CapAmb:\t0000000000000001",
    ] {
        assert!(ran.stdout.contains(line), "{line}\n{}", ran.stdout);
    }
    scene.runtime(&["exec", "--cap", "CAP_NOPE", &scene.id, "true"]).run().fails(255, &["CAP_NOPE"]);
    scene.delete();
}

#[test]
fn a_process_of_a_file_is_as_the_file_says() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    run_detached(&scene, &[]);
    let script = "id -u; id -G; pwd; umask; ulimit -n; echo $A; grep -E '^(CapEff|NoNewPrivs):' /proc/self/status; \
                  cat /proc/self/oom_score_adj; set -- $(cat /proc/self/stat); echo ${19}";
    let ran = exec_process(&scene, script, |process| {
        process["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9], "umask": 23});
        process["cwd"] = json!("/tmp");
        process["env"] = json!(["PATH=/bin", "A=1", "A=2"]);
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]);
        process["capabilities"] = json!({
            "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
        });
        process["noNewPrivileges"] = json!(true);
        process["oomScoreAdj"] = json!(500);
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    });
    let expected = "7\n8 9\n/tmp\n0027\n33\n2\nCapEff:\t0000000000000020\nNoNewPrivs:\t1\n500\n5\n";
    assert_eq!(ran.run().success().stdout, expected);
    exec_process(&scene, "true", |process| process["cwd"] = json!("tmp")).run().fails(255, &["cwd", "absolute"]);
    exec_process(&scene, "true", |process| process["args"] = json!([])).run().fails(255, &["process.args"]);
    scene.runtime(&["exec", "--process", "/nowhere.json", &scene.id]).run().fails(255, &["/nowhere.json"]);
    scene.delete();
}

#[test]
fn it_joins_the_cgroup_below_the_containers_that_is_named() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    run_detached(&scene, &[]);
    let v2 = is_v2(&scene);
    let below = cgroup(&scene, "pids").join("below");
    fs::create_dir(&below).unwrap();
    let argument = if v2 { "below" } else { "pids:/below/" };
    let pid_file = scene.world.dir().join("pid");
    let exec = ["exec", "--detach", "--cgroup", argument, "--pid-file", text(&pid_file), &scene.id, "sleep", "1000"];
    scene.runtime(&exec).detaches().run().success();
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(fs::read_to_string(below.join("cgroup.procs")).unwrap().trim(), pid);
    // In what was not named it is where the container is.
    if !v2 {
        let memory = fs::read_to_string(cgroup(&scene, "memory").join("cgroup.procs")).unwrap();
        assert!(memory.lines().any(|line| line == pid), "{memory}");
        scene
            .runtime(&["exec", "--cgroup", "whaaat:/", &scene.id, "true"])
            .run()
            .fails(255, &["unknown controller whaaat"]);
    }
    scene.runtime(&["exec", "--cgroup", "/", &scene.id, "true"]).run().success();
    let host = text(below.parent().unwrap());
    scene.runtime(&["exec", "--cgroup", host, &scene.id, "true"]).run().fails(255, &["o such file or directory"]);
    for outside in ["..", "below/../../other"] {
        scene.runtime(&["exec", "--cgroup", outside, &scene.id, "true"]).run().fails(255, &["bad sub cgroup path"]);
    }
    let missing = scene.runtime(&["exec", "--cgroup", "missing", &scene.id, "true"]).run();
    missing.fails(255, &[" adding pid ", " to cgroups", "o such file or directory"]);
    scene.delete();
}

fn cpus(scene: &Scene, exec: Tool) -> String {
    let ran = exec.run().success().stdout;
    ran.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).expect(&scene.id).to_owned()
}

#[test]
fn no_new_privileges_are_set_unset_or_as_the_container_has_them() {
    need!(Need::Root, Need::Busybox);
    for has in [true, false] {
        let scene = Scene::new("sleep 1000").edit(|config| config["process"]["noNewPrivileges"] = json!(has));
        run_detached(&scene, &[]);
        let with = |flags: &[&str]| {
            let exec =
                scene.runtime(&["exec"]).args(flags).args([&scene.id, "grep", "NoNewPrivs", "/proc/self/status"]);
            exec.run().success().stdout.trim_end().ends_with('1')
        };
        assert_eq!(with(&[]), has);
        for (flag, expected) in [("--no-new-privs", true), ("-no-new-privs=T", true), ("--no-new-privs=false", false)] {
            assert_eq!(with(&[flag]), expected, "{flag}");
        }
        scene.delete();
    }
}

#[test]
fn it_runs_on_the_cpus_that_are_asked_for_or_on_all() {
    need!(Need::Root, Need::Busybox, Need::Program("taskset"));
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if online.trim() == "0" {
        return ctr_tests::need::cannot("there is one CPU");
    }
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned();
    let scene = Scene::new("cat /proc/self/status; sleep 1000").edit(|config| {
        config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    });
    let kept_to_one = ["taskset", "-c", "0"];
    let run = scene.make(&["run", "--detach"]).through(&kept_to_one).detaches().spawn();
    let shown = run.wait_for_output("Cpus_allowed_list");
    assert!(shown.contains(&format!("Cpus_allowed_list:\t{all}\n")), "{shown}");
    run.wait().success();

    let show = "grep Cpus_allowed_list /proc/self/status";
    assert_eq!(cpus(&scene, scene.exec(show)), "1");
    // Without its own, a file's process has the container's.
    assert_eq!(cpus(&scene, exec_process(&scene, show, |_| {})), "1");
    let with = |affinity: Value| exec_process(&scene, show, |process| process["execCPUAffinity"] = affinity);
    assert_eq!(cpus(&scene, with(json!({"final": "0-1"}))), "0-1");
    assert_eq!(cpus(&scene, with(json!({"initial": "0"}))), "0");
    with(json!({"final": "0-"})).run().fails(255, &["execCPUAffinity"]);
    with(json!({"final": "8000"})).run().fails(255, &["final CPU affinity"]);
    scene.delete();

    let scene = Scene::new("sleep 1000");
    run_detached(&scene, &[]);
    assert_eq!(cpus(&scene, scene.exec(show).through(&kept_to_one)), all);
    scene.delete();
}

// Receives a pidfd, prints what came beside it, and kills with it.
const RECEIVE: &str = "import array, signal, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind('pidfd')
listener.listen(1)
print('listening', flush=True)
connection, _ = listener.accept()
message, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
pidfd = array.array('i', ancillary[0][2])[0]
pid = [line.split()[1] for line in open(f'/proc/self/fdinfo/{pidfd}') if line.startswith('Pid:')][0]
print(message.decode(), pid, flush=True)
";

#[test]
fn a_process_that_nobody_could_be_told_of_is_not_left() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    run_detached(&scene, &[]);
    let socket = scene.world.dir().join("pidfd");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let exec = scene.runtime(&["exec", "--detach", "--pidfd-socket", text(&socket), &scene.id, "sleep", "1000"]);
    // Who listens has gone by the time that the process is there.
    let gone = ["strace", "-o", "/dev/null", "-e", "inject=sendmsg:error=EPIPE:when=1"];
    exec.through(&gone).detaches().run().fails(255, &["send the process to the pidfd socket"]);
    let left = scene.runtime(&["ps", "--format", "json", &scene.id]).run().success().json();
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    scene.delete();
}

#[test]
fn whoever_wants_it_is_sent_a_pidfd() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = Scene::new("sleep 1000");
    let pid_file = scene.world.dir().join("pid");
    let receive = |role: &str, make: Tool| {
        let receiver = scene.world.program("python3").args(["-c", RECEIVE]).spawn();
        receiver.wait_for_output("listening");
        make.detaches().run().success();
        let pid = fs::read_to_string(&pid_file).unwrap();
        assert_eq!(receiver.wait().success().stdout, format!("listening\n{role} {pid}\n"));
        fs::remove_file(scene.world.dir().join("pidfd")).unwrap();
    };
    let socket = ["--pidfd-socket", "pidfd", "--pid-file", text(&pid_file)];
    receive("standard", scene.make(&["create"]).args(socket));
    scene.delete();
    receive("standard", scene.make(&["run", "--detach"]).args(socket));
    let exec = scene.runtime(&["exec", "--detach"]).args(socket).args([&scene.id, "sleep", "1000"]);
    receive("setns", exec);
    let nobody = scene.runtime(&["exec", "--pidfd-socket", "nobody", &scene.id, "true"]).run();
    nobody.fails(255, &["pidfd socket nobody"]);
    assert!(!Path::new("nobody").exists());
    scene.delete();
}
