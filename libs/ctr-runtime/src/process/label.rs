// SPDX-License-Identifier: Apache-2.0
//! AppArmor profiles and SELinux labels: what a process asks the kernel to make of it once it executes its
//! program.
//!
//! They are written to the process' own files in a procfs. The container's may be anything by then
//! (CVE-2019-16884, CVE-2025-52881), so it is the host's, held by descriptor from before the first namespace
//! is entered.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SELINUX_MAGIC, fstatfs, statfs};

use crate::RuntimeError;
use crate::plan::ProcessPlan;
use crate::process::report::{InitFailure, Step, StepResult};

/// The labels of a process, and where to write them.
#[derive(Debug)]
pub(crate) struct Labels {
    proc: OwnedFd,
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Labels {
    /// Takes what a process asks for, in a process that sees the host's `/proc`.
    pub(crate) fn of(process: &ProcessPlan) -> Result<Option<Self>, RuntimeError> {
        let (apparmor, selinux) = (process.apparmor_profile.clone(), process.selinux_label.clone());
        if apparmor.is_none() && selinux.is_none() {
            return Ok(None);
        }
        if selinux.is_some() && !selinux_is_enabled() {
            let reason = "selinux label is specified in config, but selinux is disabled or not supported";
            return Err(RuntimeError::config("process.selinuxLabel", reason));
        }
        let path = Path::new("/proc");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open(path, flags, Mode::empty()).and_then(|proc| match fstatfs(&proc)?.filesystem_type() {
            PROC_SUPER_MAGIC => Ok(proc),
            _ => Err(nix::errno::Errno::ENODEV),
        });
        let proc = proc.map_err(|errno| RuntimeError::io("open the proc file system at", path)(errno.into()))?;
        Ok(Some(Self { proc, apparmor, selinux }))
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.proc.as_raw_fd()
    }

    /// Gives the keys and keyrings that this process makes from now on its SELinux label.
    pub(crate) fn mark_new_keys(&self) -> StepResult<()> {
        let Some(label) = &self.selinux else { return Ok(()) };
        self.write("keycreate", label).step_with(|| format!("label the session keyring {label:?}"))
    }

    /// Ends that.
    pub(crate) fn unmark_new_keys(&self) -> StepResult<()> {
        match self.selinux {
            None => Ok(()),
            Some(_) => self.write("keycreate", "").step("stop labelling keys"),
        }
    }

    /// Asks for the labels from the next execution on.
    pub(crate) fn apply(self) -> StepResult<()> {
        if let Some(profile) = &self.apparmor {
            let text = format!("exec {profile}");
            // The second one is that of kernels before 5.8, and of no other security module.
            let written = match self.write("apparmor/exec", &text) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.write("exec", &text),
                result => result,
            };
            if written.is_err() && !apparmor_is_enabled() {
                let reason = "AppArmor is not enabled in this kernel";
                return Err(InitFailure::finding(format!("apply the AppArmor profile {profile:?}: {reason}")));
            }
            written.step_with(|| format!("apply the AppArmor profile {profile:?}"))?;
        }
        if let Some(label) = &self.selinux {
            self.write("exec", label).step_with(|| format!("set the SELinux label {label:?}"))?;
        }
        Ok(())
    }

    fn write(&self, attribute: &str, text: &str) -> io::Result<()> {
        // Nothing mounted over a part of it, and none of its links to elsewhere.
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(resolve);
        let file = openat2(&self.proc, format!("thread-self/attr/{attribute}").as_str(), how)?;
        // The kernel takes a label in one write.
        let written = File::from(file).write(text.as_bytes())?;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

fn selinux_is_enabled() -> bool {
    let is_selinux = |path: &str| statfs(path).is_ok_and(|fs| fs.filesystem_type() == FsType(SELINUX_MAGIC.0));
    is_selinux("/sys/fs/selinux") || is_selinux("/selinux")
}

fn apparmor_is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}
