// SPDX-License-Identifier: Apache-2.0
//! Cgroups made for real, in whichever mode the machine has: as root, or skipped.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;
use oci_spec::runtime::Linux;
use serde_json::{Value, json};

use super::*;

mod devices;
mod limits;
mod usage;

/// Why this machine cannot run these tests.
fn skip(name: &str, needs: impl FnOnce(&Hierarchies) -> Option<&'static str>) -> Option<Hierarchies> {
    let hierarchies = Hierarchies::detect().expect("readable mounts");
    let reason = match (nix::unistd::geteuid().is_root(), hierarchies.mode()) {
        (false, _) => Some("needs root"),
        (_, Mode::None) => Some("no cgroup hierarchy is mounted"),
        _ => needs(&hierarchies),
    };
    match reason {
        None => Some(hierarchies),
        Some(reason) => {
            eprintln!("SKIP {name}: {reason}");
            None
        }
    }
}

/// A cgroup that is removed when the test is over, with whoever is in it.
struct Scratch(Cgroup);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.signal_all(libc::SIGKILL);
        self.0.delete().expect("a test's cgroup can be removed");
    }
}

fn planned(name: &str, resources: Value) -> CgroupPlan {
    let path = format!("/ctr-test-{}-{name}", std::process::id());
    let linux = json!({"cgroupsPath": path, "resources": resources});
    let linux: Linux = serde_json::from_value(linux).expect("test JSON");
    plan(
        Some(&linux),
        PlanOptions { id: name, rootless: false, manager: Manager::Cgroupfs, annotations: None, owner: None },
    )
    .expect("a plan")
}

fn limits(resources: Value) -> Limits {
    Limits::from_spec(&serde_json::from_value(resources).expect("test JSON")).expect("valid limits")
}

fn create(hierarchies: &Hierarchies, name: &str) -> Scratch {
    Scratch(Cgroup::create(hierarchies, &planned(name, json!({}))).expect("a cgroup"))
}

impl Scratch {
    fn apply(&self, resources: Value) -> Result<(), CgroupError> {
        self.0.apply(&limits(resources))
    }

    /// The value of a control file, by the name that it has in v1 or in v2.
    fn read(&self, controller: &str, v1: &str, v2: &str) -> String {
        let path = self.0.path_of(controller).expect("a directory");
        let file = if self.0.v1_path(controller).is_some() { v1 } else { v2 };
        fs::read_to_string(path.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
    }

    /// Writes a file in memory, charged to the cgroup; whether that worked.
    fn fill_memory(&self, name: &str, megabytes: u32) -> bool {
        let procs = self.0.path_of("memory").expect("a directory").join("cgroup.procs");
        let script =
            format!("echo $$ > {}; exec head -c {megabytes}M /dev/zero > /dev/shm/ctr-test-{name}", procs.display());
        Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).status().expect("a shell").success()
    }

    /// Whether limits of a controller can be tested here: by the v1 name and the v2 name.
    fn has(&self, v1: &str, v2: &str) -> bool {
        self.0.v1_path(v1).is_some()
            || self.0.v2_path().is_some_and(|path| {
                let mut refusals = Vec::new();
                controllers::enable(path, &[v2], &mut refusals).expect("readable") == [v2]
            })
    }
}

/// A process that waits to be killed.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleep can be started"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cgroup_is_made_in_every_hierarchy_and_leaves_nothing() {
    let Some(hierarchies) = skip("a_cgroup_is_made_in_every_hierarchy_and_leaves_nothing", |_| None) else { return };
    let intent = Cgroup::planned(&hierarchies, &planned("made", json!({}))).expect("paths");
    let scratch = create(&hierarchies, "made");
    assert_eq!(intent, scratch.0);
    let paths: Vec<PathBuf> = scratch.0.directories().map(|(_, path)| path.to_owned()).collect();
    assert_eq!(paths.len(), hierarchies.iter().count());
    assert!(paths.iter().all(|path| path.join("cgroup.procs").exists()), "{paths:?}");

    let saved = serde_json::to_string(&scratch.0).expect("serialisable");
    assert_eq!(serde_json::from_str::<Cgroup>(&saved).expect("what was saved"), scratch.0);

    drop(scratch);
    assert!(!paths.iter().any(|path| path.exists()), "{paths:?}");
}

#[test]
fn parents_are_made_and_removed_again_when_it_fails() {
    let Some(hierarchies) = skip("parents_are_made_and_removed_again_when_it_fails", |_| None) else { return };
    // The last hierarchy has a busy cgroup of that name, so that all before it were made for nothing.
    let last = hierarchies.iter().last().expect("a hierarchy").mount_point.clone();
    let name = format!("ctr-test-{}-parent", std::process::id());
    let busy = last.join(&name).join("child");
    fs::create_dir_all(&busy).expect("directories");
    let sleeper = Sleeper::start();
    if busy.join("cpuset.cpus").exists() {
        create::fill_cpuset(&busy).expect("a cpuset");
    }
    fs::write(busy.join("cgroup.procs"), sleeper.pid().to_string()).expect("a member");

    let mut plan = planned("parent", json!({}));
    plan.placement = Placement::Root(format!("{name}/child").into());
    let error = Cgroup::create(&hierarchies, &plan).expect_err("it is in use");
    assert!(matches!(&error, CgroupError::NotEmpty { count: 1, .. }), "{error}");
    let others = hierarchies.iter().filter(|hierarchy| hierarchy.mount_point != last);
    for hierarchy in others {
        assert!(!hierarchy.mount_point.join(&name).exists(), "{hierarchy:?}");
    }

    drop(sleeper);
    let scratch = Scratch(Cgroup::create(&hierarchies, &plan).expect("it is empty now"));
    drop(scratch);
    for hierarchy in hierarchies.iter() {
        fs::remove_dir(hierarchy.mount_point.join(&name)).expect("parents stay, empty");
    }
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let Some(hierarchies) = skip("a_frozen_cgroup_is_refused", |_| None) else { return };
    let scratch = create(&hierarchies, "frozen");
    scratch.0.freeze().expect("empty ones freeze at once");
    let error = Cgroup::create(&hierarchies, &planned("frozen", json!({}))).expect_err("it is frozen");
    assert!(matches!(error, CgroupError::Frozen { .. }), "{error}");
    scratch.0.thaw().expect("it can thaw");
    Cgroup::create(&hierarchies, &planned("frozen", json!({}))).expect("it is usable again");
}

#[test]
fn a_thread_joins_by_itself_and_a_process_is_added() {
    let Some(hierarchies) = skip("a_thread_joins_by_itself_and_a_process_is_added", |_| None) else { return };
    let scratch = create(&hierarchies, "join");
    let fds = scratch.0.join_fds().expect("it is there");
    assert_eq!(fds.v2().is_some(), hierarchies.mode() != Mode::V1);
    let name = format!("ctr-test-{}-join", std::process::id());
    let members = |text: &str| text.lines().filter(|line| line.ends_with(&format!("/{name}"))).count();
    let v1 = hierarchies.iter().filter(|hierarchy| hierarchy.version() == Version::V1).count();
    // In v1 a thread can be elsewhere than its process, so that a test can join too. It ends there.
    std::thread::scope(|scope| {
        let members = &members;
        scope.spawn(move || {
            fds.join_self().expect("it can be joined");
            assert_eq!(members(&fs::read_to_string("/proc/thread-self/cgroup").expect("readable")), v1);
        });
    });

    let sleeper = Sleeper::start();
    scratch.0.add_process(sleeper.pid()).expect("it lives");
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).expect("it lives");
    assert_eq!(members(&cgroups), hierarchies.iter().count(), "{cgroups}");
    assert_eq!(scratch.0.pids().expect("readable"), [sleeper.pid()]);
}

#[test]
fn a_controller_is_v1s_where_one_has_it_or_there_is_no_other() {
    let cgroup = |names: &[&str]| {
        let paths = names.iter().map(|name| ((*name).to_owned(), PathBuf::from("/a"))).collect::<BTreeMap<_, _>>();
        Cgroup::try_from(paths).expect("an absolute path")
    };
    assert!(cgroup(&["", "memory"]).on_v1("memory") && !cgroup(&["", "memory"]).on_v1("hugetlb"));
    assert!(cgroup(&["memory"]).on_v1("hugetlb") && !cgroup(&[""]).on_v1("memory"));
}

#[test]
fn a_cgroup_that_is_gone_is_empty_but_cannot_be_joined() {
    let Some(hierarchies) = skip("a_cgroup_that_is_gone_is_empty_but_cannot_be_joined", |_| None) else { return };
    let scratch = create(&hierarchies, "gone");
    let cgroup = scratch.0.clone();
    drop(scratch);
    assert_eq!(cgroup.pids().expect("nobody"), []);
    assert!(!cgroup.is_frozen().expect("not frozen"));
    assert_eq!(cgroup.oom_kills().expect("no count"), None);
    cgroup.signal_all(libc::SIGTERM).expect("nobody to signal");
    cgroup.delete().expect("nothing to remove");
    assert!(matches!(cgroup.join_fds(), Err(CgroupError::Join { .. })));
}

/// The cgroup as it is, and as it would be with v1 alone.
fn variants(cgroup: &Cgroup) -> Vec<Cgroup> {
    let mut v1 = cgroup.clone();
    v1.paths.remove("");
    if v1.is_none() || v1.paths.len() == cgroup.paths.len() { vec![cgroup.clone()] } else { vec![cgroup.clone(), v1] }
}

#[test]
fn processes_stop_and_go_on() {
    let Some(hierarchies) = skip("processes_stop_and_go_on", |_| None) else { return };
    let scratch = create(&hierarchies, "freeze");
    for cgroup in variants(&scratch.0) {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done"]).stdin(Stdio::null());
        let mut shell = Sleeper(shell.stdout(Stdio::piped()).spawn().expect("a shell"));
        let mut ready = [0; 6];
        shell.0.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("it gets ready");
        cgroup.add_process(shell.pid()).expect("it lives");
        assert!(!cgroup.is_frozen().expect("readable"));
        cgroup.freeze().expect("it can be frozen");
        assert!(cgroup.is_frozen().expect("readable"));
        nix::sys::signal::kill(shell.pid(), nix::sys::signal::Signal::SIGUSR1).expect("it lives");
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(shell.0.try_wait().expect("ours"), None);
        cgroup.thaw().expect("it can thaw");
        assert!(!cgroup.is_frozen().expect("readable"));
        assert_eq!(shell.0.wait().expect("it ends").code(), Some(7));
    }
}

#[test]
fn every_process_gets_the_signal() {
    let Some(hierarchies) = skip("every_process_gets_the_signal", |_| None) else { return };
    let scratch = create(&hierarchies, "kill");
    for cgroup in variants(&scratch.0) {
        for (signal, frozen) in [(libc::SIGTERM, false), (libc::SIGKILL, false), (libc::SIGKILL, true)] {
            // one in a cgroup of its own, below, as in a container that makes some
            let mut sleepers = [Sleeper::start(), Sleeper::start(), Sleeper::start()];
            for sleeper in &sleepers {
                scratch.0.add_process(sleeper.pid()).expect("it lives");
            }
            for (_, path) in scratch.0.directories() {
                let below = path.join("below");
                fs::create_dir(&below).expect("a directory");
                if below.join("cpuset.cpus").exists() && hierarchies.mode() != Mode::V2 {
                    create::fill_cpuset(&below).expect("a cpuset");
                }
                fs::write(below.join("cgroup.procs"), sleepers[2].pid().to_string()).expect("a member");
            }
            assert_eq!(cgroup.pids().expect("readable").len(), 3);
            if frozen {
                cgroup.freeze().expect("it can be frozen");
            }
            cgroup.signal_all(signal).expect("it can be sent");
            for sleeper in &mut sleepers {
                assert_eq!(sleeper.0.wait().expect("it ends").signal(), Some(signal));
            }
            assert_eq!(cgroup.pids().expect("readable"), []);
            if cgroup.is_frozen().expect("readable") {
                cgroup.thaw().expect("it can thaw");
            }
            for (_, path) in scratch.0.directories() {
                fs::remove_dir(path.join("below")).expect("empty");
            }
        }
    }
}

#[test]
fn deep_trees_are_removed_and_live_ones_waited_for() {
    let Some(hierarchies) = skip("deep_trees_are_removed_and_live_ones_waited_for", |_| None) else { return };
    let scratch = create(&hierarchies, "tree");
    // deeper than a path may be long, as a hostile container would
    let mut here = control::open_directory(scratch.0.directories().next().expect("one").1).expect("a directory");
    let name = "x".repeat(200);
    for _ in 0..30 {
        nix::sys::stat::mkdirat(&here, name.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a directory");
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
        here = nix::fcntl::openat(&here, name.as_str(), flags, nix::sys::stat::Mode::empty()).expect("a directory");
    }
    drop(here);
    let mut sleeper = Sleeper::start();
    scratch.0.add_process(sleeper.pid()).expect("it lives");
    assert_eq!(scratch.0.pids().expect("readable"), [sleeper.pid()]);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        sleeper.0.kill().expect("it lives");
        sleeper.0.wait().expect("it ends");
    });
    scratch.0.delete().expect("removed once it is empty");
    killer.join().expect("no panic");
    assert!(scratch.0.directories().all(|(_, path)| !path.exists()));
}

#[test]
fn only_cgroups_are_removed() {
    let dir = std::env::temp_dir().join(format!("ctr-test-cgroup-{}", std::process::id()));
    fs::create_dir_all(dir.join("child")).expect("directories");
    let cgroup = Cgroup::try_from(BTreeMap::from([(String::new(), dir.clone())])).expect("a path");
    assert!(matches!(cgroup.delete(), Err(CgroupError::Remove { .. })));
    assert!(dir.join("child").exists());
    fs::remove_dir_all(&dir).expect("ours");
    for bad in ["/", "relative", "/a/../b", ""] {
        assert!(Cgroup::try_from(BTreeMap::from([(String::new(), bad.into())])).is_err(), "{bad}");
    }
}

#[test]
fn a_further_process_joins_where_processes_can_be() {
    let needs = |found: &Hierarchies| (found.mode() == Mode::V1).then_some("no cgroup v2");
    let Some(hierarchies) = skip("a_further_process_joins_where_processes_can_be", needs) else { return };
    let scratch = create(&hierarchies, "inner");
    let sleeper = Sleeper::start();
    scratch.0.add_process(sleeper.pid()).expect("it lives");
    let v2 = scratch.0.v2_path().expect("v2");
    fs::create_dir(v2.join("init")).expect("a directory");
    fs::write(v2.join("init/cgroup.procs"), sleeper.pid().to_string()).expect("a member");
    let joins = || {
        let fds = scratch.0.join_fds_beside(sleeper.pid()).expect("it lives");
        fs::read_link(format!("/proc/self/fd/{}", fds.v2().expect("v2").as_raw_fd())).expect("an open directory")
    };
    assert_eq!(joins(), v2);
    let controllers = controllers::enable(v2, &["memory", "hugetlb"], &mut Vec::new()).expect("readable");
    let Some(controller) = controllers.first() else {
        return eprintln!("SKIP a_further_process_joins_where_processes_can_be: no controller to hand on");
    };
    fs::write(v2.join("cgroup.subtree_control"), format!("+{controller}")).expect("it can be handed on");
    assert_eq!(joins(), v2.join("init"));
    let other = Sleeper::start();
    let error = scratch.0.add_process(other.pid()).expect_err("no process in an inner cgroup");
    assert!(matches!(error, CgroupError::JoinInner { .. }), "{error}");
}
