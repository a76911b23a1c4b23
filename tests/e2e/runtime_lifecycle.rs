// SPDX-License-Identifier: Apache-2.0
//! The runtime's verbs where they meet one another, fail, or are killed: nothing is lost and nothing left.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use ctr_tests::layer::Entry;
use ctr_tests::pty::Terminal;
use ctr_tests::{Layer, Need, World, need};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::runtime::{Scene, add_hook, text};

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn status(scene: &Scene) -> String {
    let state = scene.runtime(&["state", &scene.id]).run().success().stdout;
    serde_json::from_str::<Value>(&state).unwrap()["status"].as_str().unwrap().to_owned()
}

// The next files that are opened would be taken for them, by the runtime and by the container.
#[test]
fn streams_that_are_closed_are_the_null_device() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    let closing = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
    scene.make(&["run", "--detach"]).through(&closing).run().success();
    let state: Value = serde_json::from_str(&scene.runtime(&["state", &scene.id]).run().success().stdout).unwrap();
    for stream in 0..3 {
        let link = fs::read_link(format!("/proc/{}/fd/{stream}", state["pid"])).unwrap();
        assert_eq!(link, std::path::Path::new("/dev/null"), "{stream}");
    }
    scene.delete();
}

// strace kills the runtime before each of its system calls in turn; its container's process lives on.
fn kill_at_every_call(verb: &[&str]) {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000").edit(|config| add_hook(config, "createContainer", "true"));
    let trace = scene.world.dir().join("trace");
    let traced = |inject: &str| {
        let strace = ["strace", "-o", text(&trace), inject];
        scene.make(verb).detaches().through(&strace).run()
    };
    traced("--quiet=all").success();
    scene.delete();
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        if let Some((name, _)) = line.split_once('(') {
            *calls.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    // What changes nothing outside the process is no other moment than the next call that does.
    let inside =
        ["brk", "mmap", "munmap", "mprotect", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "fcntl", "read"];
    calls.retain(|name, _| !inside.contains(&name.as_str()));
    assert!(calls.contains_key("clone3") && calls.contains_key("rename"), "{calls:?}");
    for (name, count) in calls {
        for n in 1..=count {
            let killed = traced(&format!("--inject={name}:signal=KILL:when={n}"));
            assert_ne!(killed.code(), 1, "{name} {n}: {}", killed.stderr);
            scene.delete();
        }
    }
}

#[test]
fn a_create_that_is_killed_at_any_point_can_be_deleted() {
    kill_at_every_call(&["create"]);
}

#[test]
fn a_run_that_is_killed_at_any_point_can_be_deleted() {
    kill_at_every_call(&["run", "--detach"]);
}

#[test]
fn a_create_that_is_killed_while_a_hook_hangs_can_be_deleted() {
    need!(Need::Root, Need::Busybox);
    for hook in ["createRuntime", "createContainer"] {
        let scene = Scene::new("true");
        let began = scene.world.dir().join("began");
        let script = format!("touch {}; exec sleep 1000", text(&began));
        let scene = scene.edit(|config| add_hook(config, hook, &script));
        let create = scene.make(&["create"]).detaches().spawn();
        wait_until("the hook does not begin", || began.exists());
        create.signal(Signal::SIGKILL);
        create.wait();
        // A hook in the runtime's namespaces is nobody's child any more, and not the container's.
        if hook == "createRuntime" {
            scene.world.sh("pkill -P 1 -xf 'sleep 1000'; true").run();
            let _ = fs::remove_file(&began);
        }
        scene.delete();
    }
}

#[test]
fn a_delete_waits_for_the_create_that_runs() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    let began = scene.world.dir().join("began");
    let script = format!("touch {}; sleep 0.3", text(&began));
    let scene = scene.edit(|config| add_hook(config, "createRuntime", &script));
    let create = scene.make(&["create"]).detaches().spawn();
    wait_until("the hook does not begin", || began.exists());
    let start = scene.runtime(&["start", &scene.id]).run();
    start.success();
    create.wait().success();
    scene.delete();
}

#[test]
fn a_start_that_is_killed_leaves_no_doubt_whether_it_runs() {
    need!(Need::Root, Need::Busybox, Need::Program("strace"));
    let scene = Scene::new("exec sleep 1000");
    // Before it tells the process to go on, and after it.
    let gate = scene.dir().join("exec.fifo");
    for (call, before) in [("read", "created"), ("unlink", "running")] {
        scene.make(&["create"]).detaches().run().success();
        let inject = format!("--inject={call}:signal=KILL");
        let strace = ["strace", "-o", "/dev/null", "-P", text(&gate), &inject];
        let killed = scene.runtime(&["start", &scene.id]).through(&strace).run();
        assert_ne!(killed.code(), 0, "{call}");
        wait_until("it stays in between", || status(&scene) == before);
        if before == "created" {
            scene.runtime(&["start", &scene.id]).run().success();
        }
        assert_eq!(status(&scene), "running");
        scene.runtime(&["delete", &scene.id]).run().fails(1, &["running"]);
        scene.delete();
    }
}

#[test]
fn a_container_that_runs_out_of_memory_before_its_program_did_not_start() {
    need!(Need::Root, Need::Busybox);
    for verb in [&["create"][..], &["run", "--detach"], &["run"]] {
        let scene = Scene::new("true").edit(|config| config["linux"]["resources"]["memory"] = json!({ "limit": 4096 }));
        scene.make(verb).detaches().run().fails(1, &[]);
        assert!(!scene.dir().exists());
    }
}

#[test]
fn whatever_hook_fails_those_for_the_end_run_and_nothing_is_left() {
    need!(Need::Root, Need::Busybox);
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let scene = Scene::new("true");
        let (log, pid_file) = (scene.world.dir().join("log"), scene.world.dir().join("pid"));
        let scene = scene.edit(|config| {
            // Two of them are looked up in the container's own root.
            add_hook(config, hook, "exit 3");
            add_hook(config, "poststop", &format!("cat > {}", text(&log)));
        });
        let failed = scene.make(&["run", "--pid-file", text(&pid_file)]).run();
        failed.fails(1, &[hook, "status 3"]);
        let told: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!((&told["id"], &told["status"]), (&json!(scene.id), &json!("stopped")), "{hook}");
        assert!(!scene.dir().exists());
        assert_eq!(pid_file.exists(), hook == "poststart");
    }
}

#[test]
fn a_hook_gets_the_signals_that_its_runtime_waits_for() {
    need!(Need::Root, Need::Busybox);
    for hook in ["createRuntime", "createContainer", "startContainer"] {
        let scene = Scene::new("true").edit(|config| add_hook(config, hook, "kill -TERM $$; exit 0"));
        scene.make(&["run"]).run().fails(1, &["signal 15"]);
    }
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    need!(Need::Root, Need::Busybox);
    for flags in [&[][..], &["--read-only"], &["--user", "1000"]] {
        let scene = Scene::of(None, flags, "pwd; stat -c %a /new /new/cwd");
        let scene = scene.edit(|config| config["process"]["cwd"] = json!("/new/cwd"));
        let script = format!("umask 077; exec ctr-run run --bundle {} {}", text(&scene.bundle), scene.id);
        assert_eq!(scene.world.sh(&script).run().success().stdout, "/new/cwd\n755\n755\n", "{flags:?}");
    }
}

#[test]
fn the_umask_is_the_configs_or_the_callers() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("umask");
    let hooks = scene.world.dir().join("hooks");
    let scene = scene.edit(|config| {
        add_hook(config, "createContainer", &format!("umask > {}", text(&hooks)));
        config["process"]["user"].as_object_mut().unwrap().remove("umask");
    });
    let script = format!("umask 027; exec ctr-run run --bundle {} {}", text(&scene.bundle), scene.id);
    let ran = scene.world.sh(&script).run().success();
    assert_eq!((ran.stdout.as_str(), fs::read_to_string(hooks).unwrap().as_str()), ("0027\n", "0027\n"));
    let scene = scene.edit(|config| config["process"]["user"]["umask"] = json!(0o077));
    assert_eq!(scene.make(&["run"]).run().success().stdout, "0077\n");
}

#[test]
fn home_is_what_passwd_says_unless_the_config_does() {
    need!(Need::Root, Need::Busybox);
    let homes = |env: Value| {
        let scene = Scene::new("echo $HOME").edit(|config| config["process"]["env"] = env);
        scene.make(&["run"]).run().success().stdout
    };
    let path = "PATH=/bin";
    assert_eq!(homes(json!([path])), "/root\n");
    assert_eq!(homes(json!([path, "HOME="])), "/root\n");
    assert_eq!(homes(json!([path, "HOME=/elsewhere"])), "/elsewhere\n");
}

// The copies of shared mounts are peers of them: what the container mounts there would appear on the host.
#[test]
fn a_volume_is_no_peer_of_the_hosts_mount() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("grep ' /volume ' /proc/self/mountinfo");
    let volume = scene.world.dir().join("volume");
    let volume = text(&volume);
    let script = format!("mkdir {volume} && mount -t tmpfs none {volume} && mount --make-shared {volume}");
    scene.world.sh(&script).run().success();
    let scene = scene.edit(|config| {
        let mount = json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"] });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let plain = scene.make(&["run"]).run();
    let scene = scene.edit(|config| config["linux"]["rootfsPropagation"] = json!("rshared"));
    let shared = scene.make(&["run"]).run();
    scene.world.sh(&format!("umount {volume}")).run().success();
    let (plain, shared) = (plain.success().stdout, shared.success().stdout);
    assert!(plain.contains(" master:") && !plain.contains(" shared:"), "{plain}");
    assert!(shared.contains(" shared:") && !shared.contains(" master:"), "{shared}");
}

#[test]
fn exec_gives_the_containers_badness_and_says_what_is_wrong() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000").edit(|config| config["process"]["oomScoreAdj"] = json!(321));
    scene.make(&["run", "--detach"]).detaches().run().success();
    // It may be given only just after the program begins.
    wait_until("its badness is not the container's", || {
        scene.exec("sleep 0.05; cat /proc/self/oom_score_adj").run().success().stdout == "321\n"
    });
    scene.runtime(&["pause", &scene.id]).run().success();
    scene.exec("true").run().fails(255, &["cannot exec in a paused container"]);
    scene.runtime(&["resume", &scene.id]).run().success();
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    wait_until("it does not stop", || status(&scene) == "stopped");
    scene.exec("true").run().fails(255, &["cannot exec in a stopped container"]);
    scene.runtime(&["kill", &scene.id, "KILL"]).run().fails(1, &["container not running"]);
    scene.delete();
}

#[test]
fn exec_leaves_no_pid_file_of_what_did_not_run() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let pid_file = scene.world.dir().join("pid");
    let args = ["exec", "--detach", "--pid-file", text(&pid_file), &scene.id, "nope"];
    scene.runtime(&args).run().fails(255, &["executable file not found in $PATH"]);
    assert!(!pid_file.exists());
    scene.delete();
}

#[test]
fn the_first_line_of_the_version_is_as_of_every_runtime() {
    let version = World::create().tool("ctr-run").arg("--version").run().success().stdout;
    let words: Vec<&str> = version.lines().next().unwrap().split(' ').collect();
    assert_eq!((words.len(), words[0], words[1]), (3, "ctr-run", "version"), "{version}");
    assert!(version.contains("\nspec: 1."), "{version}");
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers_and_its_content_if_asked_for() {
    need!(Need::Root, Need::Busybox);
    let layer = Layer::new().with(Entry::dir("d").mode(0o710)).file("d/file", "copied").symlink("d/link", "../etc");
    let script = "stat -c %a /d /new; ls /d; test -L /d/link; touch /d/x 2>/dev/null || echo read-only";
    for (options, expected) in [
        (json!([]), "710\n1777\n"),
        (json!(["mode=700"]), "700\n1777\n"),
        (json!(["tmpcopyup"]), "710\n1777\nfile\nlink\n"),
        (json!(["tmpcopyup", "ro"]), "710\n1777\nfile\nlink\nread-only\n"),
    ] {
        let scene = Scene::of(Some(layer.clone()), &[], script).edit(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": options }));
            mounts.push(json!({ "destination": "/new", "type": "tmpfs", "source": "tmpfs" }));
        });
        assert_eq!(scene.make(&["run"]).run().success().stdout, expected);
    }
}

#[test]
fn a_terminal_shows_all_that_was_written_before_the_end() {
    need!(Need::Root, Need::Busybox);
    let script = "i=0; while [ $i -lt 500 ]; do echo $i:0123456789012345678901234567890123456789; i=$((i+1)); done";
    let scene = Scene::of(None, &["--tty"], script);
    let mut terminal = Terminal::open(scene.make(&["run"]), 24, 80);
    terminal.expect("499:0123456789012345678901234567890123456789");
    assert_eq!(terminal.wait().0, 0);
}

// The end of a container in the foreground is where both want to remove it.
#[test]
fn two_may_delete_a_container_at_once() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    for _ in 0..10 {
        let running = scene.make(&["run"]).spawn();
        wait_until("it does not run", || scene.runtime(&["state", &scene.id]).run().stdout.contains("running"));
        let deletes: Vec<_> = (0..3).map(|_| scene.runtime(&["delete", "--force", &scene.id]).spawn()).collect();
        deletes.into_iter().for_each(|delete| drop(delete.wait().success()));
        assert_eq!(running.wait().code(), 128 + 9);
        assert!(!scene.dir().exists());
    }
}
