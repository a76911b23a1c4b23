// SPDX-License-Identifier: Apache-2.0
//! `checkpoint` and `restore`: what is refused, which any machine can tell, and what criu makes go on, which
//! takes a kernel that it works with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use ctr_tests::need::cannot;
use ctr_tests::pty::Terminal;
use ctr_tests::{Need, Outcome, Tool, World, need};
use serde_json::{Value, json};

use crate::runtime::{Scene, add_hook, text};

/// criu works through a process page by page, and on an emulated machine that takes its time.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// Counts for ever, in a file of the container's.
pub(crate) const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i > /n.new; mv /n.new /n; usleep 20000; done";

/// Why criu cannot work here.
pub(crate) fn refusal(world: &World) -> Option<String> {
    let check = world.program("criu").arg("check").run();
    let last = check.stderr.lines().last().unwrap_or_default().to_owned();
    (check.code() != 0).then(|| format!("criu does not work with this kernel: {last}"))
}

macro_rules! need_criu {
    () => {
        ctr_tests::need!(ctr_tests::Need::Root, ctr_tests::Need::Busybox, ctr_tests::Need::Program("criu"));
        if let Some(reason) = $crate::checkpoint::refusal(&ctr_tests::World::create()) {
            return ctr_tests::need::cannot(&reason);
        }
    };
}
pub(crate) use need_criu;

/// Talks at a terminal to a container that has answered `one`, and lets it end.
pub(crate) fn answers_at_a_terminal(restoring: Tool) {
    let mut terminal = Terminal::open(restoring, 24, 80);
    terminal.write("two\n");
    terminal.expect("got two");
    terminal.write("\x04");
    assert_eq!(terminal.wait().0, 0);
}

/// A container that can be checkpointed.
pub(crate) struct Checkpointed {
    pub(crate) scene: Scene,
}

impl Checkpointed {
    /// Runs a script in a container; its output goes to `out`.
    pub(crate) fn run(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let this = Self::make(script, change);
        this.start();
        this
    }

    /// The container's bundle.
    pub(crate) fn make(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        Self { scene: Scene::new(script).edit(change) }
    }

    #[track_caller]
    pub(crate) fn start(&self) {
        let ran = self.apart(self.scene.make(&["run", "--detach"])).run();
        assert_eq!(ran.code(), 0, "{}", self.said());
    }

    /// A tool whose standard streams are none of the test's.
    pub(crate) fn apart(&self, tool: Tool) -> Tool {
        tool.timeout(LONG).through(&["sh", "-c", "exec \"$@\" < /dev/null >> out 2>&1", "sh"])
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scene.world.dir().join(name)
    }

    pub(crate) fn checkpoint(&self, flags: &[&str]) -> Outcome {
        let images = self.path("images");
        let tool = self.scene.runtime(&["checkpoint", "--image-path", text(&images), "--work-path", "work"]);
        tool.args(flags).arg(&self.scene.id).timeout(LONG).run()
    }

    /// Restores it, detached.
    #[track_caller]
    pub(crate) fn restore(&self, flags: &[&str]) {
        let restored = self.apart(self.restoring(&["--detach"]).args(flags)).run();
        assert_eq!(restored.code(), 0, "{}", self.said());
    }

    pub(crate) fn restoring(&self, flags: &[&str]) -> Tool {
        let verb = [&["restore", "--image-path", "images", "--work-path", "work"], flags].concat();
        self.scene.make(&verb).timeout(LONG)
    }

    pub(crate) fn exec(&self, script: &str) -> String {
        self.scene.exec(script).timeout(LONG).run().success().stdout
    }

    /// Waits until a script in the container succeeds.
    pub(crate) fn wait_for(&self, script: &str) {
        self.exec(&format!("until {script}; do usleep 10000; done"));
    }

    pub(crate) fn counted(&self) -> u32 {
        self.wait_for("test -s /n");
        self.exec("cat /n").trim().parse().unwrap()
    }

    pub(crate) fn is_gone(&self) {
        self.scene.runtime(&["state", &self.scene.id]).run().fails(1, &["container does not exist"]);
    }
}

fn plain(_: &mut Value) {}

#[test]
fn callers_find_out_that_containers_can_be_checkpointed() {
    let world = World::create();
    world.tool("ctr-run").args(["checkpoint", "--help"]).run().success();
    let probe = world.tool("ctr-run").args(["restore", "--lsm-mount-context"]).run();
    assert!(probe.stderr.contains("flag needs an argument"), "{}", probe.stderr);
}

#[test]
fn options_without_sense_are_named() {
    need!(Need::Root, Need::Busybox, Need::Program("criu"));
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    for (option, value) in [
        ("--manage-cgroups-mode", "some"),
        ("--network-lock", "ebpf"),
        ("--page-server", "27000"),
        ("--empty-ns", "ipc"),
        ("--parent-path", "../missing"),
        ("--parent-path", "/tmp"),
        ("--status-fd", "77"),
    ] {
        let refused = scene.runtime(&["checkpoint", "--image-path", "images", option, value, &scene.id]).run();
        refused.fails(1, &[option]);
    }
    let refused = scene.runtime(&["restore", "--lsm-profile", "smack:x", "other"]).run();
    refused.fails(1, &["--lsm-profile", "smack:x"]);
    scene.exec("true").run().success();
    scene.delete();
}

#[test]
fn a_container_that_does_not_run_is_not_checkpointed() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    scene.make(&["create"]).detaches().run().success();
    scene.runtime(&["checkpoint", &scene.id]).run().fails(1, &["cannot checkpoint", "created"]);
    scene.runtime(&["checkpoint", "missing"]).run().fails(1, &["container does not exist"]);
    scene.delete();
}

#[test]
fn cve_2026_53489_a_link_among_the_images_is_refused() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("true");
    let images = scene.world.dir().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("descriptors.json"), "[]").unwrap();
    symlink("/etc/shadow", images.join("pages-1.img")).unwrap();
    let refused = scene.make(&["restore", "--image-path", "images", "--detach"]).run();
    refused.fails(1, &["pages-1.img", "cannot be among the images"]);
    assert!(!scene.dir().exists());
}

#[test]
fn a_machine_without_criu_is_told_how_to_get_it() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let hide = "for file in /usr/sbin/criu /usr/local/sbin/criu; do
        if test -e $file; then mount --bind /dev/null $file; fi; done; exec \"$@\"";
    let tool = scene.runtime(&["checkpoint", "--image-path", "images", &scene.id]);
    let failed = tool.through(&["unshare", "--mount", "sh", "-c", hide, "sh"]).run();
    failed.fails(1, &["criu is not installed", "apt-get install criu"]);
    assert!(!scene.world.dir().join("images").exists());
    scene.delete();
}

// What criu says is not taken for granted: neither that it answers, nor what.
#[test]
fn a_criu_that_is_too_old_or_broken_is_named() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    let answer = |bytes: &str| format!("s.send(bytes.fromhex('{bytes}'))");
    let cases = [
        (answer("080a100152040802100b"), "criu 2.11 is too old"),
        (answer("ffffff"), "criu"),
        ("sys.exit('criu: out of order')".to_owned(), "out of order"),
    ];
    for (what, words) in cases {
        with_criu(&scene, &what).run().fails(1, &[words]);
        assert!(!scene.world.dir().join("images").exists());
    }
    scene.exec("true").run().success();
    scene.delete();
}

// A checkpoint by a criu that does `what` with the request `r`.
fn with_criu(scene: &Scene, what: &str) -> Tool {
    let program = scene.world.dir().join("criu");
    let script = format!(
        "#!/usr/bin/env python3\nimport socket, sys\n\
         s = socket.socket(fileno=int(sys.argv[2]))\nr = s.recv(65536)\n{what}\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", scene.world.dir().display());
    scene.runtime(&["checkpoint", "--image-path", "images", &scene.id]).env("PATH", path)
}

#[test]
fn the_reason_is_not_that_of_an_earlier_failure() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = Scene::new("exec sleep 1000");
    scene.make(&["run", "--detach"]).detaches().run().success();
    fs::create_dir(scene.world.dir().join("images")).unwrap();
    fs::write(scene.world.dir().join("images/dump.log"), "(00.1) Error (a.c:1): of yesterday\n").unwrap();
    let what = "s.send(bytes.fromhex('080a100152040803100f')) if r == b'\\x08\\x0a' else sys.exit('of today')";
    let failed = with_criu(&scene, what).run().fails(1, &["of today"]);
    assert!(!failed.stderr.contains("of yesterday"), "{}", failed.stderr);
    scene.delete();
}

#[test]
fn the_mount_of_a_notify_socket_is_among_those_from_outside() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene = Scene::new("exec sleep 1000");
    let manager = scene.world.dir().join("manager");
    let _manager = UnixDatagram::bind(&manager).unwrap();
    scene.make(&["create"]).env("NOTIFY_SOCKET", &manager).detaches().run().success();
    scene.runtime(&["start", &scene.id]).run().success();
    let what = "s.send(bytes.fromhex('080a100152040803100f')) if r == b'\\x08\\x0a' else sys.exit(
        'as it should' if b'/run/notify' in r else 'missing')";
    with_criu(&scene, what).run().fails(1, &["as it should"]);
    let external = fs::read_to_string(scene.world.dir().join("images/external.json")).unwrap();
    assert!(external.contains(r#""mnt[/run/notify]":"notify""#), "{external}");
    scene.delete();
}

#[test]
fn a_kernel_that_criu_refuses_is_named_with_its_reason() {
    need!(Need::Root, Need::Busybox, Need::Program("criu"));
    if refusal(&World::create()).is_none() {
        return cannot("criu works here");
    }
    let container = Checkpointed::run(COUNT, plain);
    container.counted();
    let log = fs::canonicalize(container.scene.world.dir()).unwrap().join("work/dump.log");
    container.checkpoint(&[]).fails(1, &["criu failed to checkpoint the container: ", "log file: ", text(&log)]);
    container.counted();
    container.scene.delete();
}

#[test]
fn a_container_goes_on_where_it_was_checkpointed() {
    need_criu!();
    let container = Checkpointed::run(COUNT, |config| {
        config["linux"]["resources"]["pids"] = json!({"limit": 77});
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/sys/firmware"]);
    });
    let hierarchies = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().filter(|line| line.contains(" - cgroup")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, mut counted) = (hierarchies(), container.counted());
    for round in 0..2 {
        // A process beside the first one, too.
        container.exec("sleep 1000 < /dev/null > /dev/null 2>&1 & echo $! > /beside");
        container.checkpoint(&[]).success();
        container.is_gone();
        let images = fs::metadata(container.path("images")).unwrap().permissions().mode();
        assert_eq!(images & 0o777, 0o700);
        container.restore(&["--pid-file", "pid"]);
        let state = container.scene.runtime(&["state", &container.scene.id]).run().success().stdout;
        let state: Value = serde_json::from_str(&state).unwrap();
        assert_eq!(state["status"], "running", "round {round}");
        assert_eq!(state["pid"].to_string(), fs::read_to_string(container.path("pid")).unwrap());
        container.exec("kill -0 $(cat /beside)");
        let now = container.counted();
        assert!(now >= counted, "{now} {counted}");
        counted = now;
        container.wait_for(&format!("test $(cat /n) -gt {counted}"));
        let masked =
            container.exec("wc -c < /proc/kcore; ls /sys/firmware | wc -l; ip link show lo | grep -c LOWER_UP");
        assert_eq!(masked, "0\n0\n1\n");
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
        let v2 = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let limit = fs::read_to_string(format!("/sys/fs/cgroup/{v2}/pids.max"));
        assert_eq!(limit.unwrap_or("77\n".into()), "77\n");
    }
    assert_eq!(hierarchies(), before);
    container.scene.delete();
}

#[test]
fn a_container_is_left_running_and_restored_as_it_was() {
    need_criu!();
    let container = Checkpointed::run(COUNT, plain);
    container.counted();
    container.checkpoint(&["--leave-running", "--manage-cgroups-mode", "ignore"]).success();
    let later = container.counted();
    container.wait_for(&format!("test $(cat /n) -gt {later}"));
    container.scene.delete();
    container.restore(&["--manage-cgroups-mode", "ignore"]);
    container.counted();
    container.scene.delete();
}

#[test]
fn a_paused_container_is_checkpointed_and_stays_paused_if_left() {
    need_criu!();
    let container = Checkpointed::run(COUNT, plain);
    container.counted();
    container.scene.runtime(&["pause", &container.scene.id]).run().success();
    container.checkpoint(&["--leave-running"]).success();
    let state = container.scene.runtime(&["state", &container.scene.id]).run().success().stdout;
    assert!(state.contains("paused"), "{state}");
    container.checkpoint(&[]).success();
    container.is_gone();
    container.restore(&[]);
    container.counted();
    container.scene.delete();
}

#[test]
fn memory_is_dumped_ahead_and_only_its_changes_later() {
    need_criu!();
    let container = Checkpointed::run(&format!("x=$(seq 30000); {COUNT}"), plain);
    container.counted();
    let before = container.path("before");
    let ahead =
        container.scene.runtime(&["checkpoint", "--pre-dump", "--image-path", text(&before), "--work-path", "work"]);
    ahead.arg(&container.scene.id).timeout(LONG).run().success();
    container.counted();
    container.checkpoint(&["--parent-path", "../before"]).success();
    assert_eq!(fs::read_link(container.path("images/parent")).unwrap(), PathBuf::from("../before"));
    container.restore(&[]);
    container.counted();
    container.scene.delete();
}

#[test]
fn hooks_run_as_for_a_new_container_and_for_one_that_ends() {
    need_criu!();
    let log = std::env::temp_dir().join(format!("ctr-hooks-{}", std::process::id()));
    let container = Checkpointed::run(COUNT, |config| {
        for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            add_hook(config, name, &format!("echo {name} >> {}", log.display()));
        }
    });
    container.counted();
    fs::remove_file(&log).unwrap();
    container.checkpoint(&[]).success();
    let stopped = fs::read_to_string(&log).unwrap();
    container.restore(&[]);
    let restored = fs::read_to_string(&log).unwrap();
    container.scene.delete();
    let deleted = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    assert_eq!(stopped, "poststop\n");
    assert_eq!(restored, "poststop\nprestart\ncreateRuntime\n");
    assert_eq!(deleted, "poststop\nprestart\ncreateRuntime\npoststop\n");
}
