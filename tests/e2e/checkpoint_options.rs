// SPDX-License-Identifier: Apache-2.0
//! What `checkpoint` and `restore` only do when asked to, with the criu and the kernel that do it: connections,
//! sockets that lead outside, file locks, the caller's terminal, and memory that goes another way than the rest.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use ctr_tests::pty::Terminal;
use ctr_tests::{Need, Tool, need};
use serde_json::{Value, json};

use crate::checkpoint::{COUNT, Checkpointed, LONG, answers_at_a_terminal, need_criu};
use crate::runtime::{Scene, text};
use crate::runtime_lifecycle::wait_until;
use crate::runtime_mounts::{USER_NAMESPACE, add_mount};

fn plain(_: &mut Value) {}

/// A container that runs a script of this machine's python.
fn python(script: &str, change: impl FnOnce(&mut Value)) -> Checkpointed {
    Checkpointed::run("", |config| {
        config["process"]["args"] = json!(["/usr/bin/python3", "-c", script]);
        for (source, destination) in [("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")] {
            let options = ["bind", "ro"];
            add_mount(config, json!({ "destination": destination, "source": source, "options": options }));
        }
        change(config);
    })
}

#[test]
fn a_user_namespace_is_made_again_with_its_mappings() {
    need_criu!();
    let container = Checkpointed { scene: Scene::of(None, &USER_NAMESPACE, COUNT) };
    // criu opens it once more, as the container's root.
    fs::write(container.path("out"), "").unwrap();
    fs::set_permissions(container.path("out"), fs::Permissions::from_mode(0o666)).unwrap();
    container.start();
    for _ in 0..2 {
        let counted = container.counted();
        container.checkpoint(&[]).success();
        container.restore(&["--pid-file", "pid"]);
        container.wait_for(&format!("test $(cat /n) -gt {counted}"));
        let pid = fs::read_to_string(container.path("pid")).unwrap();
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        assert_eq!(container.exec("touch /owned && stat -c %u /owned /n /bin && cat /dev/null"), "0\n0\n0\n");
        let images = fs::metadata(container.path("images")).unwrap();
        assert_eq!((images.mode() & 0o777, images.gid()), (0o700, 0));
    }
    container.scene.delete();
}

#[test]
fn file_locks_are_held_again() {
    need_criu!();
    need!(Need::Program("python3"));
    let hold = "import fcntl, time; f = open('/lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX)
open('/ready', 'w'); time.sleep(1000)";
    let container = python(hold, plain);
    container.wait_for("test -e /ready");
    container.checkpoint(&[]).fails(1, &["lock"]);
    container.checkpoint(&["--file-locks"]).success();
    container.restore(&["--file-locks"]);
    let attempt = "import fcntl; fcntl.flock(open('/lock'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
    let exec = container.scene.runtime(&["exec", &container.scene.id, "/usr/bin/python3", "-c", attempt]);
    let refused = exec.timeout(LONG).run();
    assert!(refused.stderr.contains("BlockingIOError"), "{}", refused.stderr);
    container.scene.delete();
}

#[test]
fn a_socket_that_leads_outside_is_connected_again() {
    need_criu!();
    need!(Need::Program("python3"));
    // In the container it has the path that it was bound to.
    let place = std::env::temp_dir().join(format!("ctr-outside-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    let socket = place.join("socket");
    let listener = UnixDatagram::bind(&socket).unwrap();
    let count = format!(
        "import itertools, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect('{}')
for n in itertools.count(): s.send(str(n).encode()); time.sleep(0.1)",
        socket.display()
    );
    listener.set_read_timeout(Some(LONG)).unwrap();
    let receive = || {
        let mut message = [0; 20];
        let length = listener.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).parse::<u32>().unwrap()
    };
    let container = python(&count, |config| {
        // criu finds the other end of those only that are in the same network namespace.
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
        let options = ["bind"];
        add_mount(config, json!({ "destination": place, "source": place, "options": options }));
    });
    let mut last = receive();
    container.checkpoint(&[]).fails(1, &["criu failed to checkpoint"]);
    container.checkpoint(&["--ext-unix-sk"]).success();
    listener.set_nonblocking(true).unwrap();
    while listener.recv(&mut [0; 20]).is_ok() {
        last += 1;
    }
    listener.set_nonblocking(false).unwrap();
    container.restore(&["--ext-unix-sk"]);
    assert_eq!(receive(), last + 1);
    container.scene.delete();
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn connections_are_open_again_if_asked_for() {
    need_criu!();
    need!(Need::Program("iptables-restore"));
    let script = "mkfifo /in /back; exec 3<> /in 4<> /back; nc -l -p 777 < /back > /got &
        until nc 127.0.0.1 777 < /in; do usleep 10000; done";
    let container = Checkpointed::run(script, plain);
    let says = |word: &str| container.wait_for(&format!("echo {word} > /in; grep -q {word} /got"));
    says("one");
    container.checkpoint(&[]).fails(1, &["criu failed to checkpoint"]);
    container.checkpoint(&["--tcp-established"]).success();
    container.restore(&["--tcp-established"]);
    says("two");
    container.checkpoint(&["--tcp-established"]).success();
    container.restore(&["--tcp-close"]);
    container.scene.delete();
}

#[test]
fn a_container_at_the_callers_terminal_moves_to_another() {
    need_criu!();
    let script = "echo ready; while read line; do echo \"got $line\"; done";
    let container = Checkpointed::make(script, plain);
    let mut first = Terminal::open(container.scene.make(&["run"]), 24, 80);
    first.expect("ready");
    container.checkpoint(&[]).fails(1, &["criu failed to checkpoint"]);
    first.write("one\n");
    first.expect("got one");
    container.checkpoint(&["--shell-job"]).success();
    assert_eq!(first.wait().0, 128 + 9);
    answers_at_a_terminal(container.restoring(&["--shell-job"]));
    container.is_gone();
}

#[test]
fn memory_goes_to_a_page_server() {
    need_criu!();
    let container = Checkpointed::run(&format!("x=$(seq 30000); {COUNT}"), plain);
    let counted = container.counted();
    let images = container.path("images");
    fs::create_dir(&images).unwrap();
    let server = criu(&container, &["page-server", "--images-dir", text(&images), "--port", "27001"]).spawn();
    wait_until("the server listens", || listens(27001));
    container.checkpoint(&["--page-server", "127.0.0.1:27001"]).success();
    server.wait().success();
    let files = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().file_name());
    let files: Vec<_> = files.filter_map(|name| name.into_string().ok()).collect();
    assert!(files.iter().any(|name| name.starts_with("pages-")), "{files:?}");
    container.restore(&[]);
    container.wait_for(&format!("test $(cat /n) -gt {counted}"));
    container.scene.delete();
}

#[test]
fn memory_follows_a_container_that_already_runs() {
    need_criu!();
    let container = Checkpointed::run(&format!("x=$(seq 30000); {COUNT}; echo $x"), plain);
    let able = container.scene.world.program("criu").args(["check", "--feature", "uffd-noncoop"]).run();
    if able.code() != 0 {
        container.scene.delete();
        return ctr_tests::need::cannot("criu has no lazy pages with this kernel");
    }
    container.counted();
    let flags = ["--lazy-pages", "--page-server", "127.0.0.1:27002", "--status-fd", "3"];
    let images = container.path("images");
    let verb = [&["checkpoint", "--image-path", text(&images), "--work-path", "work"], &flags[..]].concat();
    let leaving = container.scene.runtime(&verb).arg(&container.scene.id).timeout(LONG);
    let leaving = leaving.through(&["sh", "-c", "exec \"$@\" 3> status", "sh"]).spawn();
    wait_until("pages can be asked for", || fs::read(container.path("status")).is_ok_and(|status| status == [0]));
    let pages = ["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27002", "--images-dir"];
    let pages = criu(&container, &pages).arg(&images).spawn();
    wait_until("the daemon is there", || images.join("lazy-pages.socket").exists());
    // The one that it is made from is still there.
    let other = container.scene.world.id("other");
    container.scene.rewrite(|config| config["linux"]["cgroupsPath"] = json!(format!("/{other}")));
    let verb = ["restore", "--detach", "--lazy-pages", "--image-path", "images", "--work-path", "images", "--bundle"];
    let arriving = container.scene.runtime(&verb).arg(&container.scene.bundle).arg(&other);
    container.apart(arriving).run().success();
    leaving.wait().success();
    pages.wait().success();
    container.is_gone();
    let exec = ["exec", &other, "sh", "-c", "n=$(cat /n); until test $(cat /n) -gt $n; do usleep 10000; done"];
    container.scene.runtime(&exec).timeout(LONG).run().success();
    container.scene.runtime(&["delete", "--force", &other]).run().success();
}

#[test]
fn a_container_whose_memory_nobody_asks_for_can_be_deleted() {
    need_criu!();
    let container = Checkpointed::run(COUNT, plain);
    container.counted();
    let flags = ["--lazy-pages", "--page-server", "127.0.0.1:27003", "--status-fd", "3"];
    let verb = [&["checkpoint", "--image-path", "images", "--work-path", "work"], &flags[..]].concat();
    let waiting = container.scene.runtime(&verb).arg(&container.scene.id).timeout(LONG);
    let waiting = waiting.through(&["sh", "-c", "exec \"$@\" 3> status", "sh"]).spawn();
    wait_until("pages can be asked for", || fs::read(container.path("status")).is_ok_and(|status| status == [0]));
    container.scene.delete();
    waiting.wait().fails(1, &["criu"]);
}

fn criu(container: &Checkpointed, args: &[&str]) -> Tool {
    container.scene.world.program("criu").args(args).timeout(LONG)
}

// As the kernel lists it: a connection would be the server's only one.
fn listens(port: u16) -> bool {
    std::thread::sleep(Duration::from_millis(10));
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().any(|line| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A "))
}
