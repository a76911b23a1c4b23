// SPDX-License-Identifier: Apache-2.0
//! `ctr-run` as an OCI runtime: runc's verbs with runc's answers.

use std::fs;
use std::time::{Duration, Instant};

use ctr_tests::{Need, Outcome, Tool, World, need};
use serde_json::{Value, json};

/// A bundle, and the runtime to run it with.
struct Scene {
    world: World,
    bundle: String,
    id: String,
}

impl Scene {
    fn new(command: &[&str]) -> Self {
        Self::with_flags(&[], command)
    }

    fn with_flags(flags: &[&str], command: &[&str]) -> Self {
        let world = World::create();
        let id = world.id("t");
        let record: Value = serde_json::from_str(&world.bundle(&world.busybox(None), &id, flags, command)).unwrap();
        Self { bundle: record["bundle"]["path"].as_str().unwrap().to_owned(), world, id }
    }

    fn runtime(&self, args: &[&str]) -> Tool {
        self.world.tool("ctr-run").args(args)
    }

    fn create(&self) -> Outcome {
        self.runtime(&["create", "--bundle", &self.bundle, &self.id]).detaches().run().success()
    }

    /// Runs the container in the background.
    fn run_detached(&self, flags: &[&str]) {
        let run = self.runtime(&["run", "--detach"]).args(flags).args(["--bundle", &self.bundle, &self.id]);
        run.detaches().run().success();
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.runtime(&["state", &self.id]).run().success().stdout).unwrap()
    }

    fn wait_for(&self, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.state()["status"] != status {
            assert!(Instant::now() < deadline, "{}", self.state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn delete(&self) {
        self.runtime(&["delete", "--force", &self.id]).run().success();
    }
}

#[test]
fn a_container_is_created_started_stopped_and_deleted() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["sleep", "1000"]);
    scene.create();
    let state = scene.state();
    assert_eq!((&state["id"], &state["status"]), (&json!(scene.id), &json!("created")));
    assert_eq!(state["bundle"], json!(scene.bundle));
    assert!(state["pid"].as_i64().unwrap() > 1);
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    scene.runtime(&["start", &scene.id]).run().success();
    assert_eq!(scene.state()["status"], "running");
    scene.runtime(&["start", &scene.id]).run().fails_with_one_line(&[&scene.id]);
    scene.runtime(&["delete", &scene.id]).run().fails_with_one_line(&[&scene.id]);
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    scene.wait_for("stopped");
    assert_eq!(scene.state()["pid"], 0);
    scene.runtime(&["delete", &scene.id]).run().success();
    scene.runtime(&["state", &scene.id]).run().fails(1, &["does not exist"]);
}

#[test]
fn a_container_that_does_not_exist_is_named_as_runc_names_it() {
    let world = World::create();
    for verb in ["state", "start", "kill", "delete"] {
        world.tool("ctr-run").args([verb, "nobody"]).run().fails(1, &["does not exist"]);
    }
    world.tool("ctr-run").args(["delete", "--force", "nobody"]).run().success();
}

#[test]
fn an_id_is_used_once() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["true"]);
    scene.create();
    scene.runtime(&["create", "--bundle", &scene.bundle, &scene.id]).run().fails(1, &["already exists"]);
    assert_eq!(scene.state()["status"], "created");
    scene.delete();
}

#[test]
fn signals_go_by_number_and_by_both_names() {
    need!(Need::Root, Need::Busybox);
    let script = "trap 'echo USR1 >> /tmp/log' USR1; trap 'echo USR2 >> /tmp/log' USR2; touch /tmp/log; while :; do sleep 0.02; done";
    let scene = Scene::new(&["sh", "-c", script]);
    scene.run_detached(&[]);
    let read = || scene.runtime(&["exec", &scene.id, "cat", "/tmp/log"]).run().stdout;
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.runtime(&["exec", &scene.id, "ls", "/tmp/log"]).run().code() != 0 {
        assert!(Instant::now() < deadline);
    }
    let mut expected = String::new();
    for (signal, name) in [("USR1", "USR1\n"), ("SIGUSR2", "USR2\n"), ("10", "USR1\n")] {
        scene.runtime(&["kill", &scene.id, signal]).run().success();
        expected += name;
        while read() != expected {
            assert!(Instant::now() < deadline, "{:?} {expected:?}", read());
        }
    }
    scene.runtime(&["kill", &scene.id, "NOSUCH"]).run().fails_with_one_line(&["NOSUCH"]);
    scene.delete();
}

#[test]
fn run_is_in_the_foreground_or_detached_with_a_pid_file() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["sh", "-c", "echo out; exit 6"]);
    let ran = scene.runtime(&["run", "-b", &scene.bundle, &scene.id]).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (6, "out\n"), "{}", ran.stderr);

    let scene = Scene::new(&["sleep", "1000"]);
    let pid_file = scene.world.dir().join("pid");
    scene.run_detached(&["--pid-file", pid_file.to_str().unwrap()]);
    // As runc writes it: no newline.
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), scene.state()["pid"].to_string());
    scene.delete();
}

#[test]
fn exec_runs_another_process_inside() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["sleep", "1000"]);
    scene.run_detached(&[]);
    let ran = scene
        .runtime(&["exec", "--env", "A=b", "--cwd", "/etc", &scene.id, "sh", "-c", "pwd; echo $A; hostname; exit 9"])
        .run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (9, format!("/etc\nb\n{}\n", scene.id).as_str()), "{}", ran.stderr);
    let user = scene.runtime(&["exec", "--user", "1000:1000", &scene.id, "id", "-u"]).run().success();
    assert_eq!(user.stdout, "1000\n");
    let confined = scene.runtime(&["exec", &scene.id, "grep", "-E", "^(CapEff|Seccomp):", "/proc/self/status"]).run();
    assert_eq!(confined.stdout, "CapEff:\t00000000a80425fb\nSeccomp:\t2\n", "{}", confined.stderr);
    assert_eq!(scene.runtime(&["exec", &scene.id, "no-such-program"]).run().code(), 255);
    let process = json!({ "cwd": "/", "args": ["sh", "-c", "echo $B"], "env": ["PATH=/bin", "B=from a file"] });
    let file = scene.world.dir().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let ran = scene.runtime(&["exec", "--process", file.to_str().unwrap(), &scene.id]).run().success();
    assert_eq!(ran.stdout, "from a file\n");
    scene.delete();
}

#[test]
fn list_and_ps_show_what_runs() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["sh", "-c", "sleep 1000; true"]);
    scene.run_detached(&[]);
    let list = scene.runtime(&["list", "--format", "json"]).run().success().json();
    assert_eq!(list[0]["id"], json!(scene.id));
    assert_eq!(list[0]["status"], "running");
    assert_eq!(scene.runtime(&["list", "--quiet"]).run().success().stdout, format!("{}\n", scene.id));
    let pid = scene.state()["pid"].clone();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pids = scene.runtime(&["ps", "--format", "json", &scene.id]).run().success().json();
        let pids = pids.as_array().unwrap().clone();
        if pids.len() == 2 && pids.contains(&pid) {
            break;
        }
        assert!(Instant::now() < deadline, "{pids:?}");
    }
    scene.delete();
    assert_eq!(scene.runtime(&["list", "--format", "json"]).run().success().stdout.trim(), "null");
}

#[test]
fn pause_freezes_and_resume_thaws() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["sh", "-c", "while :; do echo x >> /tmp/log; sleep 0.01; done"]);
    scene.run_detached(&[]);
    scene.runtime(&["pause", &scene.id]).run().success();
    assert_eq!(scene.state()["status"], "paused");
    let pid = scene.state()["pid"].clone();
    let size = || fs::metadata(format!("/proc/{pid}/root/tmp/log")).map_or(0, |metadata| metadata.len());
    let before = size();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(size(), before);
    scene.runtime(&["resume", &scene.id]).run().success();
    let deadline = Instant::now() + Duration::from_secs(20);
    while size() == before {
        assert!(Instant::now() < deadline);
    }
    scene.delete();
}

#[test]
fn a_bundle_that_runc_specified_runs() {
    need!(Need::Root, Need::Busybox, Need::Program("runc"));
    let world = World::create();
    let bundle = world.dir().join("bundle");
    let pulled = world.tool("ctr-pull").arg(world.busybox(None)).run().success();
    fs::create_dir(&bundle).unwrap();
    world.tool("ctr-unpack").arg("--to").arg(bundle.join("rootfs")).stdin(pulled.stdout).run().success();
    world.program("runc").arg("spec").dir(&bundle).run().success();
    let mut config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "hostname; touch /x 2>/dev/null || echo read-only"]);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let ran = world.tool("ctr-run").args(["run", &world.id("t")]).dir(&bundle).run().success();
    assert_eq!(ran.stdout, "runc\nread-only\n");
}

#[test]
fn a_console_socket_receives_the_terminal() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = Scene::with_flags(&["--tty"], &["sh", "-c", "tty; read line; echo \"read $line\""]);
    // Prints what the terminal shows, and types a line once it has shown something.
    let receive = "import array, os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind('console')
listener.listen(1)
print('listening', flush=True)
connection, _ = listener.accept()
_, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
terminal = array.array('i', ancillary[0][2])[0]
typed = False
while True:
    try:
        text = os.read(terminal, 4096)
    except OSError:
        break
    if not text:
        break
    print(text.decode(), end='', flush=True)
    if not typed:
        typed = os.write(terminal, b'typed\\n')
";
    let receiver = scene.world.program("python3").args(["-c", receive]).spawn();
    receiver.wait_for_output("listening");
    let create = scene.runtime(&["create", "--console-socket", "console", "--bundle", &scene.bundle, &scene.id]);
    create.run().success();
    scene.runtime(&["start", &scene.id]).run().success();
    receiver.wait_for_output("read typed");
    scene.wait_for("stopped");
    scene.delete();
    let shown = receiver.wait().stdout;
    assert!(shown.contains("/dev/"), "{shown}");
}

#[test]
fn a_terminal_without_a_place_to_go_is_refused() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::with_flags(&["--tty"], &["true"]);
    let failed = scene.runtime(&["create", "--bundle", &scene.bundle, &scene.id]).run();
    failed.fails(1, &["console"]);
}

#[test]
fn a_damaged_state_does_not_hide_other_containers() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(&["sleep", "1000"]);
    scene.run_detached(&[]);
    let damaged = scene.world.run_root().join("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("state.json"), "{").unwrap();
    let listed = scene.runtime(&["list", "--quiet"]).run().success();
    assert_eq!(listed.stdout, format!("{}\n", scene.id));
    assert!(listed.stderr.contains("damaged"), "{}", listed.stderr);
    scene.delete();
    fs::remove_dir_all(damaged).unwrap();
}

// A root that is not a state root: `--root /home delete --force user`.
#[test]
fn delete_removes_no_directory_that_is_not_a_containers() {
    need!(Need::Root);
    let world = World::create();
    let (home, leftover) = (world.run_root().join("user"), world.run_root().join("leftover"));
    for dir in [&home, &leftover] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("config.json"), "{}").unwrap();
    }
    fs::write(home.join("letter"), "dear").unwrap();
    let delete = |id: &str| world.tool("ctr-run").args(["delete", "--force", id]).run();
    delete("user").fails(1, &["user is not a container's: it holds letter"]);
    assert!(home.join("letter").exists() && home.join("config.json").exists());
    delete("leftover").success();
    assert!(!leftover.exists());
}

#[test]
fn errors_go_to_the_log_in_runcs_form() {
    let world = World::create();
    let args = ["--log", "log.json", "--log-format", "json", "state", "nobody"];
    assert_eq!(world.tool("ctr-run").args(args).run().code(), 1);
    let log: Value = serde_json::from_slice(&fs::read(world.dir().join("log.json")).unwrap()).unwrap();
    assert_eq!(log["level"], "error");
    assert!(log["msg"].as_str().unwrap().contains("does not exist"), "{log}");
    assert!(log["time"].is_string());
}
