// SPDX-License-Identifier: Apache-2.0
//! The plan: everything that will be done to make a container, as data, from config.json alone.
//!
//! Making it touches nothing and asks the system nothing, so that it can be tested, printed and
//! compared. What it refuses is refused before anything has happened.

mod affinity;
mod attributes;
mod delegation;
mod devices;
mod idmap;
mod intel_rdt;
mod memory;
mod mounts;
mod namespaces;
mod net_device;
mod options;
mod process;
pub(crate) mod range;
mod sysctl;
pub(crate) mod words;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Linux, LinuxPersonality, LinuxPersonalityDomain, Spec};
use serde::{Deserialize, Serialize};

use crate::RuntimeError;
pub use crate::caller::listener::Receiver;
use crate::cgroup::{CgroupPlan, Manager, PlanOptions};
use crate::seccomp::Profile;

pub use affinity::CpuAffinity;
pub use attributes::{Change, Locked};
pub use devices::{DevicePlan, NodeKind};
pub use idmap::{IdmapPlan, Mapping};
pub use intel_rdt::RdtPlan;
pub use memory::MemoryPolicy;
pub use mounts::{MountContext, MountKind, MountPlan};
pub use namespaces::{IdMap, NamespacePlan, UserPlan};
pub use net_device::NetDevice;
pub use options::{IdmapOption, MountOptions, propagation};
pub use process::{ProcessPlan, Rlimit};
pub use sysctl::Sysctl;

/// What a container will be.
///
/// As JSON it has the words of config.json, with all that follows from them filled in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Plan {
    pub id: String,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    pub rootfs: RootfsPlan,
    pub namespaces: NamespacePlan,
    pub net_devices: Vec<NetDevice>,
    pub mounts: Vec<MountPlan>,
    /// The SELinux label of what is mounted.
    pub mount_label: Option<String>,
    pub devices: Vec<DevicePlan>,
    pub masked_paths: Vec<PathBuf>,
    pub readonly_paths: Vec<PathBuf>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    #[serde(serialize_with = "words::sysctl")]
    pub sysctl: Vec<Sysctl>,
    pub cgroup: CgroupPlan,
    #[serde(serialize_with = "words::profile")]
    pub seccomp: Option<Profile>,
    /// Where the filter's listener goes, if it has one.
    pub seccomp_receiver: Option<Receiver>,
    /// The argument of personality(2).
    #[serde(serialize_with = "words::personality")]
    pub personality: Option<i32>,
    pub memory_policy: Option<MemoryPolicy>,
    pub intel_rdt: Option<RdtPlan>,
    /// Absent in a config that is only read; `create` needs it.
    pub process: Option<ProcessPlan>,
    pub hooks: Hooks,
}

/// What a plan has to know of the process that performs it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Whether it runs without root: what it is denied and nobody asked for is left out.
    pub rootless: bool,
    /// Who makes the container's cgroup.
    pub manager: Manager,
}

impl Caller {
    /// This process, which wants the container's cgroup made by `manager`.
    pub fn this(manager: Manager) -> Self {
        Self { rootless: !ctr_sys::process::is_root(), manager }
    }
}

/// The container's root.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootfsPlan {
    /// The directory, absolute.
    pub path: PathBuf,
    /// Whether the container may not write to it.
    pub readonly: bool,
    /// The `MS_*` propagation of the container's mounts, and whether it is recursive.
    #[serde(serialize_with = "words::propagation")]
    pub propagation: Option<(u64, bool)>,
}

/// The hooks, in the order of the runtime-spec.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
    /// Files that they write to, which crun's annotations name.
    pub stdout: Option<PathBuf>,
    pub stderr: Option<PathBuf>,
}

impl Plan {
    /// Makes the plan of a container from its config.
    pub fn new(id: &str, bundle: &Path, spec: &Spec, caller: Caller) -> Result<Self, RuntimeError> {
        let default_linux = Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&default_linux);
        let namespaces = NamespacePlan::new(linux)?;
        let profile = linux.seccomp().as_ref();
        let rootfs = RootfsPlan::new(spec, linux, bundle)?;
        let mount_label = linux.mount_label().clone().filter(|label| !label.is_empty());
        let context = MountContext {
            bundle,
            rootfs: &rootfs.path,
            namespaces: &namespaces,
            label: mount_label.as_deref(),
            rootless: caller.rootless,
        };
        let mounts = spec.mounts().iter().flatten().enumerate();
        let mounts: Vec<MountPlan> =
            mounts.map(|(i, mount)| MountPlan::new(i, mount, context)).collect::<Result<_, _>>()?;
        let cgroup_owner = delegation::cgroup_owner(spec, &namespaces, &mounts);
        let plan = Self {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            rootfs,
            devices: devices::devices(linux)?,
            masked_paths: absolute_paths("linux.maskedPaths", linux.masked_paths().as_deref())?,
            readonly_paths: absolute_paths("linux.readonlyPaths", linux.readonly_paths().as_deref())?,
            hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
            domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
            sysctl: Sysctl::plan(linux, &namespaces)?,
            cgroup: crate::cgroup::plan(
                Some(linux),
                PlanOptions {
                    id,
                    rootless: caller.rootless,
                    manager: caller.manager,
                    annotations: spec.annotations().as_ref(),
                    owner: cgroup_owner,
                },
            )?,
            seccomp: profile.map(Profile::new).transpose()?,
            seccomp_receiver: profile.map_or(Ok(None), |profile| Receiver::plan(spec, profile, caller.rootless))?,
            personality: linux.personality().as_ref().map(personality).transpose()?,
            intel_rdt: linux.intel_rdt().as_ref().map(RdtPlan::new).transpose()?,
            memory_policy: linux.memory_policy().as_ref().map(MemoryPolicy::new).transpose()?,
            process: spec.process().as_ref().map(ProcessPlan::new).transpose()?,
            hooks: Hooks::new(spec)?,
            net_devices: NetDevice::plan(linux, &namespaces, caller.rootless)?,
            namespaces,
            mounts,
            mount_label,
        };
        if (plan.hostname.is_some() || plan.domainname.is_some()) && !plan.namespaces.is_private(libc::CLONE_NEWUTS) {
            return Err(RuntimeError::config("hostname", "it needs a uts namespace of the container's own"));
        }
        // Whoever may unmount would see and write it nevertheless, by the host's own paths.
        let hides = !plan.masked_paths.is_empty() || !plan.readonly_paths.is_empty();
        if hides && !plan.namespaces.is_private(libc::CLONE_NEWNS) {
            let reason = "a mount namespace of the container's own is required: without one nothing can be hidden";
            return Err(RuntimeError::config("linux.maskedPaths and linux.readonlyPaths", reason));
        }
        Ok(plan)
    }
}

impl Plan {
    /// Whether the container's process has to wait for what is done outside once its namespaces and mounts are
    /// there.
    pub(crate) fn waits_for_runtime(&self) -> bool {
        !self.net_devices.is_empty() || !self.hooks.prestart.is_empty() || !self.hooks.create_runtime.is_empty()
    }
}

impl RootfsPlan {
    fn new(spec: &Spec, linux: &Linux, bundle: &Path) -> Result<Self, RuntimeError> {
        let root = spec.root().as_ref().ok_or_else(|| RuntimeError::config("root", "it is missing"))?;
        if root.path().as_os_str().is_empty() {
            return Err(RuntimeError::config("root.path", "it is empty"));
        }
        let propagation = match linux.rootfs_propagation().as_deref() {
            None | Some("") => None,
            Some(word) => Some(options::propagation(word).ok_or_else(|| {
                RuntimeError::config("linux.rootfsPropagation", format!("{word:?} is no propagation"))
            })?),
        };
        Ok(Self { path: bundle.join(root.path()), readonly: root.readonly().unwrap_or(false), propagation })
    }
}

impl Hooks {
    /// Takes the hooks of a config.
    pub fn new(spec: &Spec) -> Result<Self, RuntimeError> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        let checked = |name: &str, hooks: &Option<Vec<Hook>>| {
            let hooks = hooks.clone().unwrap_or_default();
            for hook in &hooks {
                if !hook.path().is_absolute() {
                    let path = hook.path().display();
                    return Err(RuntimeError::config(format!("hooks.{name}"), format!("path {path} is not absolute")));
                }
                if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                    return Err(RuntimeError::config(format!("hooks.{name}"), "a timeout must be greater than zero"));
                }
            }
            Ok(hooks)
        };
        let output = |name: &str| spec.annotations().as_ref()?.get(name).map(PathBuf::from);
        #[allow(deprecated)] // prestart: still what NVIDIA's and Docker's hooks use
        let prestart = hooks.prestart();
        Ok(Self {
            prestart: checked("prestart", prestart)?,
            create_runtime: checked("createRuntime", hooks.create_runtime())?,
            create_container: checked("createContainer", hooks.create_container())?,
            start_container: checked("startContainer", hooks.start_container())?,
            poststart: checked("poststart", hooks.poststart())?,
            poststop: checked("poststop", hooks.poststop())?,
            stdout: output("run.oci.hooks.stdout"),
            stderr: output("run.oci.hooks.stderr"),
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let kinds = [&self.prestart, &self.create_runtime, &self.create_container];
        let later = [&self.start_container, &self.poststart, &self.poststop];
        kinds.into_iter().chain(later).all(Vec::is_empty)
    }

    /// Whether there are some that the container's process runs.
    pub fn run_in_container(&self) -> bool {
        !self.create_container.is_empty() || !self.start_container.is_empty()
    }
}

fn absolute_paths(field: &str, paths: Option<&[String]>) -> Result<Vec<PathBuf>, RuntimeError> {
    let check = |path: &String| match Path::new(path).is_absolute() {
        true => Ok(PathBuf::from(path)),
        false => Err(RuntimeError::config(field, format!("{path:?} is not absolute"))),
    };
    // A second mount on the same path would do nothing more.
    let mut seen = HashSet::new();
    paths.unwrap_or_default().iter().filter(|path| seen.insert(path.as_str())).map(check).collect()
}

fn personality(spec: &LinuxPersonality) -> Result<i32, RuntimeError> {
    if spec.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(RuntimeError::config("linux.personality.flags", "no flags are known"));
    }
    Ok(match spec.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(linux: serde_json::Value) -> Result<Plan, RuntimeError> {
        let spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}},
            "linux": linux
        }))
        .unwrap();
        Plan::new("x", Path::new("/bundle"), &spec, Caller { rootless: false, manager: Manager::Cgroupfs })
    }

    #[test]
    fn a_personality_is_one_of_two_without_flags() {
        let with = |personality: serde_json::Value| {
            plan(json!({"namespaces": [{"type": "mount"}], "personality": personality})).map(|plan| plan.personality)
        };
        assert_eq!(with(json!({"domain": "LINUX"})).unwrap(), Some(0));
        assert_eq!(with(json!({"domain": "LINUX32", "flags": []})).unwrap(), Some(8));
        assert!(with(json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})).is_err());
    }

    #[test]
    fn the_rootfs_is_beside_config_json() {
        let plan = plan(json!({"namespaces": [{"type": "mount"}]})).unwrap();
        assert_eq!(plan.rootfs.path, Path::new("/bundle/rootfs"));
    }

    #[test]
    fn a_propagation_is_a_known_word() {
        assert!(plan(json!({"namespaces": [{"type": "mount"}], "rootfsPropagation": "sideways"})).is_err());
    }
}
