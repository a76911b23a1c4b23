// SPDX-License-Identifier: Apache-2.0
//! A policy put into force on a container's cgroup, in the words of the hierarchy that decides over devices.

use std::os::fd::AsFd;
use std::path::Path;

use ctr_sys::bpf::{attach_device_program, attached_device_programs, detach_device_program, load_device_program};
use nix::errno::Errno;

use super::DevicePolicy;
use crate::cgroup::control::{open_directory, write_file_at};
use crate::cgroup::{Cgroup, CgroupError};

impl Cgroup {
    /// Puts a device policy into force, in the place of the one that was.
    ///
    /// `rootless` lets it pass that the caller may not do so; so does a user namespace, where the kernel lets
    /// nobody make device nodes anyway.
    pub fn restrict_devices(&self, policy: &DevicePolicy, rootless: bool) -> Result<(), CgroupError> {
        let result = if let Some(path) = self.v1_path("devices") {
            write_exceptions(path, policy)
        } else if let Some(path) = self.v2_path() {
            attach_program(path, policy)
        } else if rootless || policy.is_unrestricted() {
            Ok(())
        } else {
            Err(CgroupError::NoHierarchy { controller: "devices".to_owned(), file: "devices.deny".to_owned() })
        };
        match result {
            Err(error) if error.is_denial() && (rootless || in_user_namespace()) => Ok(()),
            result => result,
        }
    }
}

impl Cgroup {
    /// Whether a policy comes into force in more than one step, between which next to nothing is allowed: on v1
    /// everything is denied before the first exception is made.
    pub fn restricts_devices_by_steps(&self) -> bool {
        self.v1_path("devices").is_some()
    }
}

/// Whether this process is in another user namespace than the first, which alone maps every id to itself.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

fn write_exceptions(path: &Path, policy: &DevicePolicy) -> Result<(), CgroupError> {
    let (allow_by_default, exceptions) = policy.exceptions()?;
    let open = |errno: Errno| CgroupError::Read { path: path.to_owned(), source: errno.into() };
    let directory = open_directory(path).map_err(open)?;
    let write = |file, value: &str| {
        write_file_at(&directory, file, value).map_err(|errno| CgroupError::Write {
            file: path.join(file),
            value: value.to_owned(),
            source: errno.into(),
        })
    };
    let (default, other) =
        if allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    match write(default, "a") {
        // Below a parent that does not allow everything, everything is what that allows.
        Err(error) if error.is_denial() && policy.is_unrestricted() => return Ok(()),
        result => result?,
    }
    exceptions.iter().try_for_each(|exception| write(other, &exception.to_string()))
}

fn attach_program(path: &Path, policy: &DevicePolicy) -> Result<(), CgroupError> {
    let at = |step| move |source| CgroupError::DeviceProgram { step, path: path.to_owned(), source };
    let cgroup = open_directory(path).map_err(|errno| at("find")(errno.into()))?;
    let attached = attached_device_programs(cgroup.as_fd()).map_err(at("look up"))?;
    let mut old = &attached[..];
    if !policy.is_unrestricted() {
        let program = load_device_program(&policy.program()).map_err(at("load"))?;
        let replaced = if let [only] = old { Some(only.as_fd()) } else { None };
        // Replaced in one step: at no moment does no program decide.
        attach_device_program(cgroup.as_fd(), program.as_fd(), replaced).map_err(at("attach"))?;
        if replaced.is_some() {
            old = &[];
        }
    }
    old.iter().try_for_each(|old| detach_device_program(cgroup.as_fd(), old.as_fd())).map_err(at("detach"))
}
