// SPDX-License-Identifier: Apache-2.0
//! `ctr-run` as a service of systemd: sockets that it was passed, and readiness that it reports.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use ctr_tests::{Need, Tool, need};

use crate::runtime::{Scene, text};

// Runs ctr-run as a service manager would, with two descriptors from 3 up.
const ACTIVATE: &str = "import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
reader, writer = os.pipe()
os.write(writer, b'from a pipe\\n')
os.close(writer)
listener, reader = os.dup(listener.fileno()), os.dup(reader)
for wanted, fd in ((13, listener), (14, reader)):
    os.dup2(fd, wanted)
for wanted in (3, 4):
    os.dup2(wanted + 10, wanted)
os.environ['LISTEN_PID'] = sys.argv[1] if sys.argv[1] != 'own' else str(os.getpid())
os.environ['LISTEN_FDS'] = '1'
os.environ['LISTEN_FDNAMES'] = 'web'
os.execvp('ctr-run', ['ctr-run'] + sys.argv[2:])
";

#[test]
fn sockets_are_passed_on_to_whom_they_are_meant_for() {
    need!(Need::Root, Need::Busybox, Need::Program("python3"));
    let scene =
        Scene::new("echo $LISTEN_FDS,$LISTEN_PID,$LISTEN_FDNAMES; ls /proc/self/fd; readlink /proc/self/fd/3; cat <&4");
    let run = |meant: &str, flags: &[&str]| {
        let python = scene.world.program("python3").args(["-c", ACTIVATE, meant, "run"]).args(flags);
        python.args(["--bundle", text(&scene.bundle), &scene.id]).run()
    };
    let ran = run("own", &["--preserve-fds", "1"]).success().stdout;
    assert!(ran.starts_with("1,1,web\n") && ran.contains("\nsocket:[") && ran.ends_with("\nfrom a pipe\n"), "{ran}");
    // Meant for another process: not there, and 3 is what is preserved.
    let ran = run("1", &["--preserve-fds", "2"]).success().stdout;
    assert!(ran.starts_with(",,\n") && ran.ends_with("\nfrom a pipe\n"), "{ran}");
    let ran = run("own", &["--preserve-fds", "9"]);
    ran.fails(1, &["descriptor", "preserve"]);
}

/// A service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(scene: &Scene) -> Self {
        let socket = UnixDatagram::bind(scene.world.dir().join("manager")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    // The barrier's descriptor is dropped with the message, which is the answer to it.
    fn receives(&self, expected: &str) {
        let mut buffer = [0; 4096];
        let n = self.0.recv(&mut buffer).expect(expected);
        assert_eq!(std::str::from_utf8(&buffer[..n]).unwrap(), expected);
    }

    // The pid is known when the first message has come.
    fn hears_that_it_is_ready(&self, pid: impl Fn() -> String) {
        self.receives("READY=1\n");
        self.receives(&format!("MAINPID={}\n", pid()));
        self.receives("BARRIER=1");
    }

    fn has_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.recv(&mut [0]).is_err());
    }
}

fn say(scene: &Scene, message: &str) {
    let socket = scene.dir().join("notify/notify.sock");
    let deadline = Instant::now() + Duration::from_secs(20);
    while UnixDatagram::unbound().unwrap().send_to(message.as_bytes(), &socket).is_err() {
        assert!(Instant::now() < deadline, "{}", socket.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn with_manager(scene: &Scene, tool: Tool) -> Tool {
    tool.env("NOTIFY_SOCKET", scene.world.dir().join("manager"))
}

const SERVE: &str = "test -S $NOTIFY_SOCKET && echo $NOTIFY_SOCKET is there; sleep 1000";

#[test]
fn a_detached_run_returns_when_the_container_is_ready() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(SERVE);
    let manager = Manager::bind(&scene);
    let pid_file = scene.world.dir().join("pid");
    let run = scene.make(&["run", "--detach", "--pid-file", text(&pid_file)]).detaches();
    let mut running = with_manager(&scene, run).spawn();
    running.wait_for_output("/run/notify/notify.sock is there");
    say(&scene, "STATUS=nearly\nMAINPID=1\n");
    assert!(running.is_running());
    say(&scene, "STATUS=now\nREADY=1\n");
    manager.hears_that_it_is_ready(|| fs::read_to_string(&pid_file).unwrap());
    running.wait().success();
    manager.has_nothing();
    scene.delete();
}

#[test]
fn start_returns_when_the_container_is_ready() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(SERVE);
    let manager = Manager::bind(&scene);
    let pid_file = scene.world.dir().join("pid");
    with_manager(&scene, scene.make(&["create", "--pid-file", text(&pid_file)])).detaches().run().success();
    let mut starting = with_manager(&scene, scene.runtime(&["start", &scene.id])).spawn();
    say(&scene, "READY=1");
    manager.hears_that_it_is_ready(|| fs::read_to_string(&pid_file).unwrap());
    while starting.is_running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    starting.wait().success();
    scene.delete();
}

#[test]
fn in_the_foreground_the_manager_watches_the_runtime() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new(SERVE);
    let manager = Manager::bind(&scene);
    let running = with_manager(&scene, scene.make(&["run"])).spawn();
    running.wait_for_output("is there");
    for message in ["READY=1", "READY=1\nSTATUS=again"] {
        let refused = with_manager(&scene, scene.runtime(&["start", &scene.id])).run();
        refused.fails(1, &["cannot start", "running"]);
        say(&scene, message);
        manager.hears_that_it_is_ready(|| running.pid().to_string());
    }
    scene.runtime(&["kill", &scene.id, "KILL"]).run().success();
    assert_eq!(running.wait().code(), 137);
}

#[test]
fn a_container_that_ends_before_it_is_ready_is_not_waited_for() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("exit 3");
    let manager = Manager::bind(&scene);
    with_manager(&scene, scene.make(&["run", "--detach"])).detaches().run().success();
    manager.has_nothing();
    scene.delete();
    let nobody = scene.make(&["run", "--detach"]).env("NOTIFY_SOCKET", "/nowhere/manager").run();
    nobody.fails(1, &["/nowhere/manager"]);
    assert!(!scene.dir().exists());
}

#[test]
fn a_manager_may_have_an_abstract_address() {
    need!(Need::Root, Need::Busybox);
    let scene = Scene::new("sleep 1000");
    let address = SocketAddr::from_abstract_name(&scene.id).unwrap();
    let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
    manager.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let pid_file = scene.world.dir().join("pid");
    let run = scene.make(&["run", "--detach", "--pid-file", text(&pid_file)]);
    let running = run.env("NOTIFY_SOCKET", format!("@{}", scene.id)).detaches().spawn();
    say(&scene, "READY=1");
    manager.hears_that_it_is_ready(|| fs::read_to_string(&pid_file).unwrap());
    running.wait().success();
    scene.delete();
}
