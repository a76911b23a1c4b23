// SPDX-License-Identifier: Apache-2.0
//! `ctr-run` as podman's runtime, with conmon between them: what podman's user sees.

use ctr_tests::enclosure::Enclosure;
use ctr_tests::pty::Terminal;
use ctr_tests::world::busybox_image;
use ctr_tests::{Need, Outcome, Tool, World, need};
use serde_json::{Value, json};

use crate::checkpoint::LONG;

/// A podman with its own storage and configuration, and the busybox image.
struct Podman<'world> {
    world: &'world World,
    enclosure: Enclosure<'world>,
}

impl<'world> Podman<'world> {
    fn start(world: &'world World) -> Self {
        let dir = world.dir();
        let settings = dir.join("home/.config/containers");
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::write(settings.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        // Without CAP_SYS_RESOURCE nobody can raise the limits to podman's defaults.
        let conf = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [network]\nnetwork_config_dir = \"{0}/networks\"\n\
             [engine]\nlock_type = \"file\"\nruntime_supports_json = [\"ctr-run\"]\n",
            dir.display()
        );
        std::fs::write(dir.join("containers.conf"), conf).unwrap();
        let podman = Self { world, enclosure: Enclosure::create(world) };
        // A sleeping container of this image is what holds the namespaces of a pod.
        let holder = busybox_image(None).config("Entrypoint", json!(["sleep"])).config("Cmd", json!(["1000"]));
        for (name, image) in [("busybox", busybox_image(None)), ("pause", holder)] {
            let layout = world.layout(name, &image);
            let id = podman.run(&["pull", "--quiet", &layout]).success().stdout;
            podman.run(&["tag", id.trim(), &format!("localhost/{name}")]).success();
        }
        podman
    }

    fn tool(&self, arguments: &[&str]) -> Tool {
        let dir = self.world.dir();
        let path = |name: &str| dir.join(name).display().to_string();
        let runtime = ctr_tests::tool::bin_dir().join("ctr-run");
        self.enclosure
            .program("podman")
            .env("CONTAINERS_CONF", path("containers.conf"))
            .args(["--root", &path("storage"), "--runroot", &path("podman"), "--tmpdir", &path("libpod")])
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .arg("--runtime")
            .arg(runtime)
            .args(arguments)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.tool(arguments).run()
    }

    /// A command that makes a container, without network and in this world's cgroup.
    fn make(&self, verb: &[&str], rest: &[&str]) -> Tool {
        let parent = format!("--cgroup-parent=/{}", self.world.id("podman"));
        self.tool(&[verb, &["--network=none", &parent], rest].concat())
    }

    /// Starts a container that stays.
    fn detach(&self, name: &str, rest: &[&str]) {
        self.make(&["run", "--detach", "--name", name], rest).detaches().run().success();
    }

    fn inspect(&self, name: &str) -> Value {
        let text = self.run(&["inspect", name]).success().stdout;
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }
}

/// What these tests need: podman and its monitor, and a machine that lets podman have its storage.
macro_rules! podman {
    ($world:ident, $podman:ident) => {
        need!(Need::Root, Need::Busybox, Need::Program("podman"), Need::Program("conmon"));
        let $world = World::create();
        let $podman = Podman::start(&$world);
    };
}

#[test]
fn podman_runs_and_removes_a_container() {
    podman!(world, podman);
    let ran = podman.make(&["run", "--rm"], &["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!((ran.code(), ran.stdout.trim(), ran.stderr.trim()), (7, "out", "err"));
    let fed = podman.make(&["run", "--rm", "-i"], &["busybox", "cat"]).stdin("fed").run().success();
    assert_eq!(fed.stdout, "fed");
    assert_eq!(podman.run(&["ps", "--all", "--quiet"]).success().stdout, "");
}

#[test]
fn podman_tells_a_missing_program_from_one_that_may_not_run() {
    podman!(world, podman);
    for (program, code) in [("/nonesuch", 127), ("nonesuch", 127), ("/etc/motd", 126), ("/etc", 126)] {
        let ran = podman.make(&["run", "--rm"], &["busybox", program]).run();
        assert_eq!(ran.code(), code, "{program}: {}", ran.stderr);
        assert!(ran.stderr.contains(program) && !ran.stderr.contains("level="), "{}", ran.stderr);
    }
    podman.detach("stays", &["busybox", "sleep", "1000"]);
    for (program, code) in [("/nonesuch", 127), ("/etc/motd", 126)] {
        assert_eq!(podman.run(&["exec", "stays", program]).code(), code, "{program}");
    }
}

#[test]
fn podman_gives_a_container_a_terminal_and_an_init() {
    podman!(world, podman);
    let script = "test -t 0 && tty; stty size; exit 3";
    let run = podman.make(&["run", "--rm", "--tty", "--interactive"], &["busybox", "sh", "-c", script]);
    let (code, screen) = Terminal::open(run, 33, 77).wait();
    assert_eq!(code, 3, "{screen}");
    assert!(screen.contains("/dev/pts/0") && screen.contains("33 77"), "{screen}");
    need!(Need::Program("/usr/libexec/podman/catatonit"));
    let ran = podman.make(&["run", "--rm", "--init"], &["busybox", "cat", "/proc/1/cmdline"]).run().success();
    assert!(ran.stdout.contains("init"), "{}", ran.stdout);
}

#[test]
fn podman_looks_into_a_container_and_stops_it() {
    podman!(world, podman);
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    podman.detach("main", &["busybox", "sh", "-c", script]);
    let followed = podman.tool(&["logs", "--follow", "main"]).spawn();
    followed.wait_for_output("ready");
    let said = podman.run(&["exec", "-e", "A=b", "main", "sh", "-c", "echo $A; exit 9"]);
    assert_eq!((said.code(), said.stdout.as_str()), (9, "b\n"), "{}", said.stderr);
    let typed = podman.tool(&["exec", "-i", "main", "cat"]).stdin("fed").run().success();
    assert_eq!(typed.stdout, "fed");
    podman.tool(&["exec", "-d", "main", "touch", "/tmp/detached"]).detaches().run().success();
    let top = podman.run(&["top", "main", "pid", "args"]).success().stdout;
    assert!(top.contains("while :"), "{top}");
    let stats = podman.run(&["stats", "--no-stream", "--no-reset", "--format", "json", "main"]).success();
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    assert_eq!(stats[0]["name"], "main", "{stats}");
    assert_ne!(stats[0]["pids"], "0", "{stats}");
    podman.run(&["pause", "main"]).success();
    assert_eq!(podman.inspect("main")["State"]["Status"], "paused");
    podman.run(&["unpause", "main"]).success();
    podman.run(&["stop", "--time", "20", "main"]).success();
    assert!(followed.wait().success().stdout.ends_with("bye\n"));
    let state = &podman.inspect("main")["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(5)));
    podman.run(&["start", "main"]).success();
    podman.run(&["kill", "--signal", "KILL", "main"]).success();
    assert_eq!(podman.run(&["wait", "main"]).success().stdout, "137\n");
    let id = podman.inspect("main")["Id"].as_str().unwrap().to_owned();
    podman.run(&["rm", "main"]).success();
    let left = ctr_tests::leak::Leaks::find(std::path::Path::new("/nonesuch"), &format!("libpod-{id}"));
    assert!(left.cgroups.is_empty(), "{left:?}");
}

#[test]
fn podman_checks_a_containers_health() {
    podman!(world, podman);
    let flags = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1"];
    podman.detach("patient", &[&flags[..], &["busybox", "sleep", "1000"]].concat());
    assert_eq!(podman.run(&["healthcheck", "run", "patient"]).code(), 1);
    podman.run(&["exec", "patient", "touch", "/tmp/well"]).success();
    podman.run(&["healthcheck", "run", "patient"]).success();
}

#[test]
fn podman_runs_a_pod() {
    podman!(world, podman);
    let infra = ["--infra-image", "localhost/pause", "--infra-name", "infra"];
    podman.make(&["pod", "create", "--name", "pod"], &infra).run().success();
    for name in ["one", "two"] {
        podman.run(&["create", "--pod", "pod", "--name", name, "busybox", "sleep", "1000"]).success();
    }
    podman.tool(&["pod", "start", "pod"]).detaches().run().success();
    let namespaces = |name| {
        let of = ["ipc", "net", "uts"].map(|kind| format!("/proc/self/ns/{kind}"));
        let [ipc, net, uts] = of.each_ref().map(String::as_str);
        let listed = podman.run(&["exec", name, "ls", "-l", ipc, net, uts]).success().stdout;
        listed.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(namespaces("one").len(), 3);
    assert_eq!(namespaces("one"), namespaces("two"));
    assert_eq!(namespaces("one"), namespaces("infra"));
    podman.run(&["pod", "pause", "pod"]).success();
    podman.run(&["pod", "unpause", "pod"]).success();
    podman.run(&["pod", "stop", "--time", "0", "pod"]).success();
    podman.run(&["pod", "rm", "pod"]).success();
}

#[test]
fn podman_checkpoints_and_restores_a_container() {
    podman!(world, podman);
    if let Some(reason) = crate::checkpoint::refusal(&world) {
        return ctr_tests::need::cannot(&reason);
    }
    let run = |arguments: &[&str]| podman.tool(arguments).timeout(LONG).detaches().run().success().stdout;
    let count = "i=0; while :; do i=$((i+1)); echo $i > /n.new; mv /n.new /n; usleep 20000; done";
    podman.detach("main", &["busybox", "sh", "-c", count]);
    let counted = run(&["exec", "main", "sh", "-c", "until test -s /n; do usleep 10000; done; cat /n"]);
    run(&["container", "checkpoint", "main"]);
    assert_eq!(podman.inspect("main")["State"]["Status"], "exited");
    run(&["container", "restore", "main"]);
    assert_eq!(podman.inspect("main")["State"]["Status"], "running");
    let goes_on = format!("until test $(cat /n) -gt {}; do usleep 10000; done", counted.trim());
    run(&["exec", "main", "sh", "-c", &goes_on]);
    let exported = world.dir().join("exported.tar").display().to_string();
    run(&["container", "checkpoint", "--export", &exported, "main"]);
    run(&["rm", "main"]);
    run(&["container", "restore", "--import", &exported, "--name", "again"]);
    run(&["exec", "again", "sh", "-c", &goes_on]);
    run(&["rm", "--force", "--time", "0", "again"]);
}
