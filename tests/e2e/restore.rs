// SPDX-License-Identifier: Apache-2.0
//! What leads out of a container is there again when it is restored: its streams and terminal, mounts and
//! namespaces.

use std::fs;
use std::os::unix::net::UnixDatagram;

use ctr_tests::pty::Terminal;
use ctr_tests::{Layer, Need, Tool, World, need};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpointed, LONG, answers_at_a_terminal, need_criu};
use crate::runtime::Scene;

const SLEEP: &str = "touch /ready; exec sleep 1000";

fn plain(_: &mut Value) {}

fn bind(source: &str, destination: &str) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]})
}

fn add_mounts(config: &mut Value, mounts: &[Value]) {
    config["mounts"].as_array_mut().unwrap().extend(mounts.iter().cloned());
}

fn replace_namespace(config: &mut Value, kind: &str, with: Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != kind);
    namespaces.push(with);
}

#[test]
fn standard_streams_are_those_of_the_restore() {
    need_criu!();
    let container = Checkpointed::make("touch /ready; read line; echo \"got $line\"; echo gone >&2; exit 7", plain);
    // A pipe whose other end is somebody else's, and a file that is not in the container.
    let streams = "(sleep 1000 2> /dev/null & echo $! > feeder) | \"$@\" > first 2>&1";
    let tool = container.scene.make(&["run", "--detach"]).through(&["sh", "-c", streams, "sh"]);
    tool.run().success();
    let feeder = fs::read_to_string(container.path("feeder")).unwrap().trim().parse().unwrap();
    container.wait_for("test -e /ready");
    let checkpoint = container.checkpoint(&[]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(feeder), Signal::SIGKILL).unwrap();
    checkpoint.success();
    let file = "exec \"$@\" > second";
    let restored = container.restoring(&[]).stdin("hello\n").through(&["sh", "-c", file, "sh"]).run();
    assert_eq!(restored.code(), 7, "{}", restored.stderr);
    let (first, second) = (fs::read_to_string(container.path("first")), fs::read_to_string(container.path("second")));
    // Both led to one file, which is now that of the restore's standard output.
    assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("", "got hello\ngone\n"));
    container.is_gone();
}

#[test]
fn a_terminal_is_handed_over_again() {
    need_criu!();
    let script = "touch /ready; echo ready; while read line; do echo \"got $line\"; done";
    let container = Checkpointed::make(script, |config| config["process"]["terminal"] = json!(true));
    let mut first = Terminal::open(container.scene.make(&["run"]), 24, 80);
    first.expect("ready");
    first.write("one\n");
    first.expect("got one");
    container.checkpoint(&[]).success();
    assert_eq!(first.wait().0, 128 + 9);
    answers_at_a_terminal(container.restoring(&[]));
    container.is_gone();
}

#[test]
fn a_console_socket_receives_the_terminal_again() {
    need_criu!();
    need!(Need::Program("python3"));
    let container = Checkpointed::make("while read line; do echo \"got $line\"; done", |config| {
        config["process"]["terminal"] = json!(true);
    });
    let console = |verb: &dyn Fn(&str) -> Tool, name: &str, typed: &str| {
        let receiver =
            container.scene.world.program("python3").args(["-c", RECEIVE, name, typed]).timeout(LONG).spawn();
        receiver.wait_for_output("listening");
        container.apart(verb(name)).run().success();
        receiver.wait_for_output(&format!("got {typed}"));
        receiver
    };
    let first = console(&|name| container.scene.make(&["run", "--detach", "--console-socket", name]), "one", "first");
    container.checkpoint(&[]).success();
    first.wait();
    let second = console(&|name| container.restoring(&["--detach", "--console-socket", name]), "two", "second");
    container.scene.delete();
    second.wait();
    container.restoring(&["--detach"]).run().fails(1, &["console"]);
}

/// Takes a terminal at a socket, types a line, and prints what comes.
const RECEIVE: &str = "import array, os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
print('listening', flush=True)
connection, _ = listener.accept()
_, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
terminal = array.array('i', ancillary[0][2])[0]
os.write(terminal, sys.argv[2].encode() + b'\\n')
try:
    while text := os.read(terminal, 4096):
        print(text.decode(), end='', flush=True)
except OSError:
    pass
";

#[test]
fn bind_mounts_are_made_again_with_their_mount_points() {
    need_criu!();
    let layer = Layer::new().dir("real").dir("real/conf").symlink("conf", "/real/conf");
    let scene = Scene::of(Some(layer), &[], SLEEP);
    let dir = scene.world.dir().to_owned();
    for name in ["outer", "inner", "linked"] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("name"), name).unwrap();
    }
    let source = |name: &str| dir.join(name).display().to_string();
    let scene = scene.edit(|config| {
        let mounts = [bind(&source("outer"), "/test"), bind(&source("inner"), "/test/for/nested")];
        add_mounts(config, &mounts);
        add_mounts(config, &[bind(&source("linked"), "/conf"), bind(&source("inner/name"), "/test/file")]);
    });
    let container = Checkpointed { scene };
    container.start();
    container.checkpoint(&[]).success();
    fs::remove_dir_all(dir.join("outer/for")).unwrap();
    fs::remove_file(dir.join("outer/file")).unwrap();
    container.restore(&[]);
    let names = container.exec("cat /test/name /test/for/nested/name /real/conf/name /test/file");
    assert_eq!(names, "outerinnerlinkedinner");
    container.scene.delete();
}

#[test]
fn a_notify_socket_has_its_place_again() {
    need_criu!();
    let container = Checkpointed::make("touch /ready; exec sleep 1000", plain);
    let manager = container.path("manager");
    let _manager = UnixDatagram::bind(&manager).unwrap();
    let create = container.apart(container.scene.make(&["create"]).env("NOTIFY_SOCKET", &manager));
    create.run().success();
    container.scene.runtime(&["start", &container.scene.id]).timeout(LONG).run().success();
    container.wait_for("test -e /ready");
    // Of a restored one, too.
    for _ in 0..2 {
        container.checkpoint(&[]).success();
        container.restore(&[]);
        fs::write(container.scene.dir().join("notify/there"), "").unwrap();
        container.exec("test -e /run/notify/there");
    }
    container.scene.delete();
}

#[test]
fn namespaces_that_exist_are_used_again() {
    need_criu!();
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let world = World::create();
        let holds = format!("--{file}");
        let hold = [&holds, "sh", "-c", "echo there; exec sleep 1000"];
        let holder = world.program("unshare").args(hold).timeout(3 * LONG).spawn();
        holder.wait_for_output("there");
        let path = format!("/proc/{}/ns/{file}", holder.pid());
        let container = Checkpointed::run(SLEEP, |config| {
            replace_namespace(config, kind, json!({"type": kind, "path": path}));
            config.as_object_mut().unwrap().remove("hostname");
        });
        container.wait_for("test -e /ready");
        let namespace = fs::read_link(&path).unwrap();
        let own = || container.exec(&format!("readlink /proc/1/ns/{file}")).trim().to_owned();
        assert_eq!(own(), namespace.to_str().unwrap());
        container.checkpoint(&[]).success();
        container.restore(&[]);
        assert_eq!(own(), namespace.to_str().unwrap());
        container.scene.delete();
        holder.signal(Signal::SIGKILL);
        holder.wait();
    }
}
