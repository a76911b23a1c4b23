// SPDX-License-Identifier: Apache-2.0
//! A place for programs of others that start daemons and mount things: whatever they do, it ends with it.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::leak::Leaks;
use crate::tool::Tool;
use crate::world::World;

// /run is theirs alone. So is the directory of the cgroup hierarchies where it is a file system of its own:
// some programs make directories in it for the hierarchies that they miss.
const SET_UP: &str = r#"
mount -t tmpfs run /run
mkdir /run/lock
if [ ! -e /sys/fs/cgroup/cgroup.procs ]; then
    mkdir "$1/cgroup"
    mount -t tmpfs cgroup "$1/cgroup"
    for hierarchy in /sys/fs/cgroup/*; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        mkdir "$1/cgroup/${hierarchy##*/}"
        mount --bind "$hierarchy" "$1/cgroup/${hierarchy##*/}"
    done
    mount --rbind "$1/cgroup" /sys/fs/cgroup
    umount -l "$1/cgroup"
fi
touch "$1/ready"
# Here it reaps the orphans of this PID namespace.
sleep infinity & wait
"#;

/// A mount namespace and a PID namespace inside a world.
#[derive(Debug)]
pub struct Enclosure<'world> {
    world: &'world World,
    outside: Child,
    inside: String,
}

impl<'world> Enclosure<'world> {
    /// Makes the namespaces. The test must need root.
    pub fn create(world: &'world World) -> Self {
        let mut holder = world
            .program("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-e", "-c", SET_UP, "sh"])
            .arg(world.dir());
        let command = holder.command().stdin(Stdio::null()).stdout(Stdio::null());
        let outside = command.spawn().expect("util-linux is installed");
        let children = format!("/proc/{0}/task/{0}/children", outside.id());
        let mut enclosure = Self { world, outside, inside: String::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !world.dir().join("ready").exists() {
            assert!(Instant::now() < deadline, "the namespaces are not made");
            thread::sleep(Duration::from_millis(5));
        }
        enclosure.inside = fs::read_to_string(children).expect("procfs is mounted").trim().to_owned();
        enclosure
    }

    /// A program that runs in it.
    pub fn program(&self, program: &str) -> Tool {
        let program = crate::need::program(program).unwrap_or_else(|| program.into());
        let enter = self.world.program("nsenter").args(["--target", &self.inside, "--mount", "--pid", "--wd=/"]);
        enter.arg(program)
    }
}

impl Drop for Enclosure<'_> {
    fn drop(&mut self) {
        // The end of its child, the first process of the PID namespace, is that of all others in it.
        let _ = self.outside.kill();
        let _ = self.outside.wait();
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::exists(format!("/proc/{}", self.inside)).unwrap_or(false) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // The parents of the containers' cgroups, which their callers keep.
        let mark = self.world.id("");
        for cgroup in Leaks::find(self.world.dir(), mark.trim_end_matches('-')).cgroups {
            let _ = fs::remove_dir(cgroup);
        }
    }
}
