// SPDX-License-Identifier: Apache-2.0
//! A private world for one test: its own state directory, runtime root, home and ids, and the proof at
//! its end that nothing of it is left on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::image::{Image, LayoutDir};
use crate::layer::Layer;
use crate::leak::Leaks;
use crate::tool::{Tool, bin_dir, path_with_tools};

/// How long what a test has ended may take to vanish.
const GRACE: Duration = Duration::from_secs(3);

/// The private world of one test.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    mark: String,
}

impl World {
    /// Makes a world.
    pub fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Short, because paths of sockets below it are bounded.
        let mark = format!("ctr{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&mark);
        fs::create_dir(&dir)
            .and_then(|()| fs::create_dir(dir.join("home")))
            .expect("the temporary directory is writable");
        Self { dir, mark }
    }

    /// The directory that everything of this world is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state directory. The tools make it.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The runtime's root.
    pub fn run_root(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A container id that nobody else on this machine has.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.mark)
    }

    /// One of the tools under test.
    pub fn tool(&self, name: &str) -> Tool {
        self.program(bin_dir().join(name))
    }

    /// A shell script that finds the tools under test in its path.
    pub fn sh(&self, script: &str) -> Tool {
        self.program("sh").arg("-c").arg(script)
    }

    /// Any program, in the environment of this world.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Tool {
        let mut tool = Tool::new(program).dir(&self.dir);
        let keep = ["LANG", "TERM", "CTR_BIN_DIR", "CARGO", "RUSTUP_HOME", "CARGO_HOME", "RUSTUP_TOOLCHAIN"];
        let kept: Vec<_> = keep.iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        tool.command().env_clear().envs(kept);
        tool.env("PATH", path_with_tools())
            .env("HOME", self.dir.join("home"))
            .env("CTR_STATE_DIR", self.state())
            .env("CTR_RUN_ROOT", self.run_root())
    }

    /// An image layout of one image, `name`; returns what `ctr-pull` takes: `oci:DIR:NAME`.
    pub fn layout(&self, name: &str, image: &Image) -> String {
        let path = self.dir.join(format!("layout-{name}"));
        let mut layout = LayoutDir::create(&path).expect("the world is writable");
        layout.add(name, &image.blobs()).expect("the world is writable");
        format!("oci:{}:{name}", path.display())
    }

    /// A layout of the machine's busybox image, see [`Image::busybox`].
    pub fn busybox(&self, extra: Option<Layer>) -> String {
        self.layout("busybox", &busybox_image(extra))
    }

    /// Runs the pipeline up to `ctr-bundle`, and returns its record.
    pub fn bundle(&self, reference: &str, id: &str, flags: &[&str], command: &[&str]) -> String {
        let pulled = self.tool("ctr-pull").arg(reference).run().success();
        let unpacked = self.tool("ctr-unpack").stdin(pulled.stdout).run().success();
        let mut bundle = self.tool("ctr-bundle").args(["--id", id]).args(flags).stdin(unpacked.stdout);
        if !command.is_empty() {
            bundle = bundle.arg("--").args(command);
        }
        bundle.run().success().stdout
    }

    /// Every path below a part of the state directory, relative to it; empty when there is no such part.
    pub fn files(&self, part: &str) -> Vec<String> {
        let base = self.state().join(part);
        let mut paths = Vec::new();
        walk(&base, &mut |path| {
            paths.push(path.strip_prefix(&base).expect("it is below").to_string_lossy().into_owned());
        });
        paths.sort();
        paths
    }
}

/// The machine's busybox as an image; the test must need [`crate::Need::Busybox`].
pub fn busybox_image(extra: Option<Layer>) -> Image {
    let busybox = crate::need::program("busybox").expect("the test needs it");
    Image::busybox(&fs::read(busybox).expect("a program is readable"), extra)
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let deadline = Instant::now() + GRACE;
        let mut leaks = Leaks::find(&self.dir, &self.mark);
        while !leaks.is_empty() && !thread::panicking() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            leaks = Leaks::find(&self.dir, &self.mark);
        }
        remove(&leaks);
        let _ = fs::remove_dir_all(&self.dir);
        if !thread::panicking() {
            assert!(leaks.is_empty(), "left behind: {leaks:#?}");
        }
    }
}

// The next test must not suffer from a failed one.
fn remove(leaks: &Leaks) {
    for (pid, _) in &leaks.processes {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    for mount in &leaks.mounts {
        let _ = umount2(mount, MntFlags::MNT_DETACH);
    }
    for cgroup in &leaks.cgroups {
        for _ in 0..100 {
            match fs::remove_dir(cgroup) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(10))
                }
                _ => break,
            }
        }
    }
}
