// SPDX-License-Identifier: Apache-2.0
//! What a test needs of the machine, and how it is skipped without.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// To run as root.
    Root,
    /// A program in `$PATH`, from Debian's package of the same name if not said otherwise.
    Program(&'static str),
    /// The busybox of this machine, statically linked.
    Busybox,
    /// The Debian tree that `scripts/debian-tree` makes.
    DebianTree,
}

impl Need {
    /// Why the need is not met, or `None`.
    pub fn lacking(self) -> Option<String> {
        match self {
            Self::Root if nix::unistd::geteuid().is_root() => None,
            Self::Root => Some("it needs root".into()),
            Self::Program(name) if program(name).is_some() => None,
            Self::Program(name) => Some(format!("{name} is not installed: run scripts/setup")),
            Self::Busybox if program("busybox").is_some() => None,
            Self::Busybox => Some("there is no busybox: apt-get install busybox-static".into()),
            Self::DebianTree if debian_tree().exists() => None,
            Self::DebianTree => Some("there is no target/test-cache/debian.tar: run scripts/debian-tree".into()),
        }
    }
}

/// Where in `$PATH` a program is. The system's directories count even where an ordinary user's path lacks them.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The tar of the Debian tree that `scripts/debian-tree` makes.
pub fn debian_tree() -> PathBuf {
    repository().join("target/test-cache/debian.tar")
}

/// The top of the source tree.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is not the root directory")
}

/// Says that the running test is skipped, unless `CTR_TEST_REQUIRE=1` forbids it.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    assert!(
        std::env::var_os("CTR_TEST_REQUIRE").is_none_or(|value| value != "1"),
        "{test} must not be skipped: {reason}"
    );
    // Past libtest's capture, which swallows what a passing test prints.
    let _ = std::io::stderr().write_all(format!("SKIP {test}: {reason}\n").as_bytes());
}

/// Says that the running test is skipped for what this kernel, or this root, cannot do: nothing to be installed.
pub fn cannot(reason: &str) {
    let thread = std::thread::current();
    let _ = std::io::stderr().write_all(format!("SKIP {}: {reason}\n", thread.name().unwrap_or("?")).as_bytes());
}

/// Returns from the test when the machine lacks something that it needs.
#[macro_export]
macro_rules! need {
    ($($need:expr),+ $(,)?) => {
        $(if let Some(reason) = $crate::Need::lacking($need) {
            return $crate::need::skip(&reason);
        })+
    };
}
