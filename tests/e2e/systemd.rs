// SPDX-License-Identifier: Apache-2.0
//! A real systemd, which is booted for the test: in namespaces of its own and in a cgroup that it takes for the
//! root, so that nothing of the machine's is its business.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctr_tests::{Tool, World};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::runtime::Scene;

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// How long it may take to boot.
const BOOT: Duration = Duration::from_secs(60);

/// A systemd with nothing to do, on a cgroup v2 hierarchy.
pub(crate) struct Systemd {
    pid: i32,
    /// What it has for the root.
    pub(crate) cgroup: PathBuf,
    /// The directory below that of the cgroup which is its own to manage.
    own: &'static str,
}

impl Systemd {
    /// Boots the system's; `None`, and the test is skipped, where there is no cgroup v2.
    pub(crate) fn boot(world: &World) -> Option<Self> {
        Self::start(world, "", &format!("exec {SYSTEMD} --system --unit=nothing.target"))
    }

    /// The same with an ordinary user's, whose cgroup is `user` and whose runtime directory that of the world.
    pub(crate) fn boot_user(world: &World, user: u32) -> Option<Self> {
        let own = "/sys/fs/cgroup/user";
        let joins = format!("mkdir {own} && chown -R {user}:{user} {own} && echo 0 > {own}/cgroup.procs");
        let joins = format!("mkdir -p /run/systemd/system && {joins}"); // as if the system were systemd's
        // It may not be process 1.
        let setpriv = format!("setpriv --reuid {user} --regid {user} --clear-groups");
        Self::start(world, "user", &format!("{joins} && {setpriv} {SYSTEMD} --user --unit=nothing.target; exit 1"))
    }

    fn start(world: &World, own: &'static str, start: &str) -> Option<Self> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let Some(root) = root.into_iter().find(|root| root.join("cgroup.controllers").exists()) else {
            ctr_tests::need::cannot("cgroup v2 is not mounted");
            return None;
        };
        let cgroup = root.join(world.id("systemd"));
        fs::create_dir(&cgroup).unwrap();
        let units = world.dir().join("units");
        fs::create_dir_all(units.join("none")).unwrap();
        fs::write(units.join("nothing.target"), "[Unit]\nDefaultDependencies=no\n").unwrap();
        let socket = world.dir().join("notify");
        let ready = UnixDatagram::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        ready.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let inside = format!(
            "mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs /run &&
            umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && {start}"
        );
        // A cgroup with processes hands no controllers down: systemd alone is in its root, and leaves it.
        let joins =
            format!("echo 0 > {}/cgroup.procs && exec unshare --mount --cgroup sh -c \"$INSIDE\"", cgroup.display());
        let mut booting = world
            .program("unshare")
            .args(["--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "sh", "-c", &joins])
            .env("INSIDE", inside)
            .env("container", "other")
            .env("NOTIFY_SOCKET", &socket)
            .env("XDG_RUNTIME_DIR", world.dir().join("runtime"))
            .env("SYSTEMD_UNIT_PATH", &units)
            .env("SYSTEMD_GENERATOR_PATH", units.join("none"))
            .env("SYSTEMD_LOG_TARGET", "null")
            .spawn();
        let children = format!("/proc/{0}/task/{0}/children", booting.pid());
        let (mut message, began) = ([0; 4096], Instant::now());
        loop {
            // of one that cannot boot nothing comes
            let Ok(length) = ready.recv(&mut message) else {
                // what it has to say comes with its end
                if !booting.is_running() || began.elapsed() > BOOT {
                    let _ = killpg(Pid::from_raw(booting.pid()), Signal::SIGKILL);
                    panic!("systemd does not boot: {:?}", booting.wait());
                }
                continue;
            };
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") {
                break;
            }
        }
        let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        // unshare ends when systemd does, and takes nothing with it
        std::mem::forget(booting);
        Some(Self { pid, cgroup, own })
    }

    /// A program where systemd is.
    pub(crate) fn inside(&self, tool: Tool) -> Tool {
        // What is outside systemd's root it could not move, where namespaces delegate.
        let tools = self.cgroup.join(self.own).join("tools");
        fs::create_dir_all(&tools).unwrap();
        let joins = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", tools.display());
        let tool = tool.through(&["nsenter", "-t", &self.pid.to_string(), "-m", "-p", "-C", "-i", "-u", "-n", "--"]);
        tool.through(&["sh", "-c", &joins, "sh"])
    }

    /// `ctr-run --systemd-cgroup VERB FLAGS --bundle BUNDLE ID` there.
    pub(crate) fn make(&self, scene: &Scene, verb: &[&str]) -> Tool {
        self.inside(scene.make(&[&["--systemd-cgroup"], verb].concat())).detaches()
    }

    /// `ctr-run ARGS` there.
    pub(crate) fn runtime(&self, scene: &Scene, args: &[&str]) -> Tool {
        self.inside(scene.runtime(args))
    }

    /// A property of a unit.
    pub(crate) fn property(&self, scene: &Scene, unit: &str, name: &str) -> String {
        let show = scene.world.program("systemctl").args(["show", "--value", "-p", name, unit]);
        self.inside(show).run().success().stdout.trim().to_owned()
    }

    /// Whether limits can be set, or only asked for.
    pub(crate) fn has_controllers(&self) -> bool {
        fs::read_to_string(self.cgroup.join("cgroup.controllers")).is_ok_and(|text| text.contains("memory"))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        // it takes every process of its pid namespace along
        while fs::read_to_string(self.cgroup.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        remove_cgroups(&self.cgroup);
    }
}

fn remove_cgroups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
