// SPDX-License-Identifier: Apache-2.0
//! `ctr-run` below containerd and its shim for runc: what the user of containerd's `ctr` sees.

use std::time::{Duration, Instant};

use ctr_tests::enclosure::Enclosure;
use ctr_tests::leak::Leaks;
use ctr_tests::pty::Terminal;
use ctr_tests::tool::{Running, bin_dir};
use ctr_tests::world::busybox_image;
use ctr_tests::{Need, Tool, World, need};

use crate::checkpoint::LONG;

/// A containerd with its own files and sockets, and the busybox image.
struct Containerd<'world> {
    world: &'world World,
    image: String,
    // Ends before the namespaces that it runs in.
    _server: Running,
    enclosure: Enclosure<'world>,
}

impl<'world> Containerd<'world> {
    fn start(world: &'world World) -> Self {
        let path = |name: &str| world.dir().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = ['io.containerd.grpc.v1.cri', \
             'io.containerd.internal.v1.opt', 'io.containerd.snapshotter.v1.devmapper']\n[grpc]\naddress = '{}'\n",
            path("root"),
            path("tasks"),
            path("socket")
        );
        std::fs::write(path("config.toml"), config).unwrap();
        let enclosure = Enclosure::create(world);
        let server = enclosure.program("containerd").args(["--config", &path("config.toml"), "--log-level", "error"]);
        let mut containerd = Self { world, image: String::new(), _server: server.spawn(), enclosure };
        let deadline = Instant::now() + Duration::from_secs(30);
        while containerd.ctr(&["version"]).run().code() != 0 {
            assert!(Instant::now() < deadline, "containerd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let layout = world.layout("busybox", &busybox_image(None));
        let directory = layout.strip_prefix("oci:").unwrap().strip_suffix(":busybox").unwrap();
        world.program("tar").args(["-C", directory, "-cf", &path("image.tar"), "."]).run().success();
        let import = ["images", "import", "--snapshotter", "native", "--base-name", "demo", &path("image.tar")];
        containerd.ctr(&import).run().success();
        containerd.image = containerd.ctr(&["images", "list", "--quiet"]).run().success().stdout.trim().to_owned();
        containerd
    }

    /// containerd's client. Its namespaces are the parents of the containers' cgroups.
    fn ctr(&self, arguments: &[&str]) -> Tool {
        let socket = self.world.dir().join("socket").display().to_string();
        let namespace = self.world.id("ns");
        self.enclosure.program("ctr").args(["--address", &socket, "--namespace", &namespace]).args(arguments)
    }

    fn make(&self, flags: &[&str], rest: &[&str]) -> Tool {
        let runtime = bin_dir().join("ctr-run").display().to_string();
        let root = self.world.run_root().display().to_string();
        let base = ["run", "--snapshotter", "native", "--runc-binary", &runtime, "--runc-root", &root];
        self.ctr(&[&base, flags, &[&self.image], rest].concat())
    }

    fn detach(&self, name: &str, command: &[&str]) {
        self.make(&["--detach"], &[&[name], command].concat()).detaches().run().success();
    }

    fn status(&self, name: &str) -> String {
        let listed = self.ctr(&["tasks", "list"]).run().success().stdout;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let found = listed.lines().map(words).find(|words| words.first().is_some_and(|first| first == name));
        found.map_or_else(String::new, |words| words[2].clone())
    }

    fn wait_for_status(&self, name: &str, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.status(name) != status {
            assert!(Instant::now() < deadline, "{name} is {} and not {status}", self.status(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What these tests need: containerd, whose package brings the shim and the client.
macro_rules! containerd {
    ($world:ident, $containerd:ident) => {
        need!(Need::Root, Need::Busybox, Need::Program("containerd"));
        let $world = World::create();
        let $containerd = Containerd::start(&$world);
    };
}

#[test]
fn containerd_runs_and_removes_a_container() {
    containerd!(world, containerd);
    let ran = containerd.make(&["--rm"], &["one", "sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (7, "out\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("err\n"), "{}", ran.stderr);
    let fed = containerd.make(&["--rm"], &["two", "head", "-c", "3"]).stdin("fed").run().success();
    assert_eq!(fed.stdout, "fed");
    let limited = ["--rm", "--memory-limit", "33554432", "--cpus", "0.5", "--seccomp", "--env", "A=b"];
    let ran = containerd.make(&limited, &["three", "sh", "-c", "echo $A"]).run().success();
    assert_eq!(ran.stdout, "b\n");
    let failed = containerd.make(&["--rm"], &["four", "/nonesuch"]).run();
    assert_ne!(failed.code(), 0);
    assert!(failed.stderr.contains("/nonesuch") && failed.stderr.contains("no such file"), "{}", failed.stderr);
    assert_eq!(containerd.ctr(&["containers", "list", "--quiet"]).run().success().stdout, "");
    let left = Leaks::find(&world.run_root(), &format!("{}/", world.id("ns"))).cgroups;
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn containerd_gives_a_container_a_terminal() {
    containerd!(world, containerd);
    // The client sends the size once the container has started; stty says 0 0 until then, or an error.
    let script = "tty; until stty size 2>&1 | grep '33 77'; do sleep 0.05; done
        read line; echo \"read $line\"; exit 3";
    let mut terminal = Terminal::open(containerd.make(&["--rm", "--tty"], &["one", "sh", "-c", script]), 33, 77);
    terminal.expect("/dev/pts/0");
    terminal.write("typed\n");
    let (code, screen) = terminal.wait();
    assert!(code == 3 && screen.contains("33 77") && screen.contains("read typed"), "{code}: {screen}");
}

#[test]
fn containerd_looks_into_a_container_and_stops_it() {
    containerd!(world, containerd);
    containerd.detach("main", &["sleep", "1000"]);
    assert_eq!(containerd.status("main"), "RUNNING");
    let exec = ["tasks", "exec", "--exec-id", "first", "main", "sh", "-c", "echo in; exit 9"];
    let ran = containerd.ctr(&exec).run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (9, "in\n"), "{}", ran.stderr);
    let at_terminal = containerd.ctr(&["tasks", "exec", "--tty", "--exec-id", "second", "main", "tty"]);
    let (code, screen) = Terminal::open(at_terminal, 33, 77).wait();
    assert!(code == 0 && screen.contains("/dev/pts/0"), "{screen}");
    let missing = containerd.ctr(&["tasks", "exec", "--exec-id", "third", "main", "/nonesuch"]).run();
    assert!(missing.code() != 0 && missing.stderr.contains("/nonesuch"), "{}", missing.stderr);
    assert_eq!(containerd.ctr(&["tasks", "ps", "main"]).run().success().stdout.lines().count(), 2);
    let metrics = containerd.ctr(&["tasks", "metrics", "main"]).run().success().stdout;
    assert!(metrics.contains("pids.current"), "{metrics}");
    containerd.ctr(&["tasks", "pause", "main"]).run().success();
    assert_eq!(containerd.status("main"), "PAUSED");
    containerd.ctr(&["tasks", "resume", "main"]).run().success();
    assert_eq!(containerd.status("main"), "RUNNING");
    containerd.ctr(&["tasks", "kill", "--signal", "KILL", "main"]).run().success();
    containerd.wait_for_status("main", "STOPPED");
    let deleted = containerd.ctr(&["tasks", "delete", "main"]).run().success();
    assert!(deleted.stderr.contains("137"), "{}", deleted.stderr);
    containerd.ctr(&["containers", "delete", "main"]).run().success();
    // The same name is free again.
    containerd.detach("main", &["sleep", "1000"]);
    containerd.ctr(&["tasks", "delete", "--force", "main"]).run();
    assert_eq!(containerd.status("main"), "");
}

#[test]
fn containerd_checkpoints_and_restores_a_container() {
    containerd!(world, containerd);
    if let Some(reason) = crate::checkpoint::refusal(&world) {
        return ctr_tests::need::cannot(&reason);
    }
    let count = "i=0; while :; do i=$((i+1)); echo $i > /n.new; mv /n.new /n; usleep 20000; done";
    containerd.detach("main", &["sh", "-c", count]);
    let exec = |id: &str, name: &str, script: &str| {
        let exec = ["tasks", "exec", "--exec-id", id, name, "sh", "-c", script];
        containerd.ctr(&exec).timeout(LONG).run().success().stdout
    };
    let counted = exec("first", "main", "until test -s /n; do usleep 10000; done; cat /n");
    let images = world.dir().join("images").display().to_string();
    let work = world.dir().join("work").display().to_string();
    let checkpoint = ["tasks", "checkpoint", "--image-path", &images, "--work-path", &work, "main"];
    containerd.ctr(&checkpoint).timeout(LONG).run().success();
    assert!(world.dir().join("images/inventory.img").exists());
    let checkpoint = ["containers", "checkpoint", "--task", "--rw", "--image", "main", "demo/checkpoint"];
    containerd.ctr(&checkpoint).timeout(LONG).run().success();
    containerd.ctr(&["tasks", "kill", "--signal", "KILL", "main"]).run().success();
    containerd.wait_for_status("main", "STOPPED");
    containerd.ctr(&["tasks", "delete", "main"]).run();
    containerd.ctr(&["containers", "delete", "main"]).run().success();
    let restore = ["containers", "restore", "--live", "main", "demo/checkpoint"];
    containerd.ctr(&restore).timeout(LONG).detaches().run().success();
    assert_eq!(containerd.status("main"), "RUNNING");
    let goes_on = format!("until test $(cat /n) -gt {}; do usleep 10000; done", counted.trim());
    exec("second", "main", &goes_on);
    containerd.ctr(&["tasks", "delete", "--force", "main"]).run();
    containerd.ctr(&["containers", "delete", "main"]).run().success();
}
