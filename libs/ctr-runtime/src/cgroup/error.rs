// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a cgroup, said so that the reader knows which file, which value and why.

use std::io;
use std::path::PathBuf;

use ctr_record::{Classify, ErrorKind};

use super::Version;
use crate::dbus::DbusError;

/// A failure of cgroups: planning, creating, limiting, joining, removing.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum CgroupError {
    #[error("use cgroups path {path:?}: {rule}")]
    Path { path: PathBuf, rule: &'static str },
    #[error("set {field} to {value}: {rule}")]
    Invalid { field: &'static str, value: String, rule: &'static str },
    #[error("set {field}: cgroup {version} has no such limit")]
    NoCounterpart { field: &'static str, version: Version },
    #[error("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead")]
    UnitPath { path: String },
    #[error("use {name:?} for the container's unit: {rule}")]
    UnitName { name: String, rule: &'static str },
    #[error("use annotation {name}={value}: {rule}")]
    Annotation { name: String, value: String, rule: &'static str },
    #[error("cannot use rootless systemd cgroups manager on cgroup v1")]
    UserUnitOnV1,
    #[error("ask systemd for the container's cgroup")]
    Systemd(#[source] DbusError),
    #[error("start unit {name}")]
    StartUnit { name: String, source: DbusError },
    // As of a cgroup that is not a unit's, which callers look for.
    #[error("start unit {name}: container's cgroup is not empty")]
    UnitExists { name: String, source: DbusError },
    #[error("start unit {name}: systemd's job for it ended with: {result}")]
    UnitJob { name: String, result: String },
    #[error("change unit {name}")]
    ChangeUnit { name: String, source: DbusError },
    #[error("move a process into unit {name}")]
    AttachToUnit { name: String, source: DbusError },
    #[error("use unit {name}: systemd has put its process into cgroup {}", .path.display())]
    NotInUnit { name: String, path: PathBuf },
    #[error("make a process for systemd")]
    Holder { source: io::Error },
    #[error("cannot set limits without cgroups: the cgroup manager is disabled, and linux.resources asks for some")]
    Disabled,
    #[error("find a cgroup hierarchy: none is mounted")]
    NotMounted,
    #[error("read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("create cgroup {}", .path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("use cgroup {}: container's cgroup is not empty: {count} process(es) found", .path.display())]
    NotEmpty { path: PathBuf, count: usize },
    #[error("use cgroup {}: container's cgroup unexpectedly frozen", .path.display())]
    Frozen { path: PathBuf },
    #[error("cannot enter cgroupv2 {path:?} with domain controllers -- it is in {kind} mode")]
    Threaded { path: PathBuf, kind: String },
    #[error("use annotation run.oci.delegate-cgroup: delegate-cgroup not supported on cgroup v1")]
    DelegateOnV1,
    #[error("give cgroup {} to user {owner}", .path.display())]
    Delegate { path: PathBuf, owner: u32, source: io::Error },
    #[error("set {file}: the container has no cgroup")]
    NoCgroup { file: String },
    #[error("set {file}: the {controller} controller is not available in {}", .path.display())]
    MissingController { controller: String, file: String, path: PathBuf },
    #[error("set {file}: the {controller} controller is not available in any mounted hierarchy")]
    NoHierarchy { controller: String, file: String },
    #[error("set {file}: the kernel offers no such file in {}", .path.display())]
    MissingFile { file: String, path: PathBuf },
    #[error(
        "enable the {controller} controller below {}: that cgroup holds processes of its own, \
         and cgroup v2 allows only one of the two", .path.display()
    )]
    InternalProcesses { controller: String, path: PathBuf },
    #[error("enable the {controller} controller below {}", .path.display())]
    Enable { controller: String, path: PathBuf, source: io::Error },
    #[error("write {value:?} to {}", .file.display())]
    Write { file: PathBuf, value: String, source: io::Error },
    #[error("write {}: rejecting {what} limit {limit}, as {usage} bytes are in use", .file.display())]
    BelowUse { file: PathBuf, what: &'static str, limit: String, usage: String },
    #[error("set {files} back after a failure")]
    NotRestored { files: Files, source: Box<CgroupError> },
    #[error(
        "set {file}: invalid configuration: the {controller} controller is in a v1 hierarchy, \
         and the keys of linux.resources.unified are files of cgroup v2"
    )]
    UnifiedOnV1 { file: String, controller: String },
    #[error("apply device rule \"{rule}\": cgroup v1 cannot take it out of the wider rule \"{wider}\"")]
    DeviceRule { rule: String, wider: String },
    #[error("{step} the program that decides over devices of {}", .path.display())]
    DeviceProgram { step: &'static str, path: PathBuf, source: io::Error },
    #[error("join cgroup {}", .path.display())]
    Join { path: PathBuf, source: io::Error },
    #[error("join cgroup {}: it hands controllers to its children and so may hold no process itself", .path.display())]
    JoinInner { path: PathBuf },
    #[error("join cgroup {}: its parent is threaded, and it is neither that nor a domain", .path.display())]
    JoinThreaded { path: PathBuf },
    #[error("invalid --cgroup argument {argument:?}: {rule}")]
    Below { argument: String, rule: &'static str },
    #[error("unknown controller {0}: no cgroup v1 hierarchy of the container has it")]
    Controller(String),
    #[error("error adding pid of the new process to cgroups: {}", .path.display())]
    Add { path: PathBuf, source: io::Error },
    #[error("freeze cgroup {}: it was not frozen after {seconds} s", .path.display())]
    FreezeTimeout { path: PathBuf, seconds: u64 },
    #[error("freeze processes: the container has no cgroup with a freezer")]
    NoFreezer,
    #[error("list processes: the container has no cgroup")]
    NoMembers,
    #[error("watch {}", .path.display())]
    Watch { path: PathBuf, source: io::Error },
    #[error("signal process {pid}")]
    Signal { pid: i32, source: io::Error },
    #[error("remove cgroup {}", .path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("remove cgroup {}: it was still in use after {seconds} s", .path.display())]
    Busy { path: PathBuf, seconds: u64 },
}

/// Control files, as an error lists them.
#[derive(Debug)]
pub struct Files(pub(super) Vec<PathBuf>);

impl std::fmt::Display for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.0.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&names.join(", "))
    }
}

impl CgroupError {
    /// Whether the kernel said that this caller may not do that here.
    pub(super) fn is_denial(&self) -> bool {
        match self {
            Self::Create { source, .. } | Self::Write { source, .. } | Self::Enable { source, .. } => is_denial(source),
            Self::DeviceProgram { source, .. } => is_denial(source),
            _ => false,
        }
    }
}

pub(super) fn is_denial(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What a control file means by an error: `ENOSPC` of a cpuset, say, is no full disk.
fn of_control(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ERANGE) => ErrorKind::Invalid,
        Some(libc::ENOSPC | libc::EBUSY) => ErrorKind::Conflict,
        _ => ErrorKind::of_io(error),
    }
}

impl Classify for CgroupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. }
            | Self::Invalid { .. }
            | Self::Below { .. }
            | Self::Controller(_)
            | Self::UnifiedOnV1 { .. }
            | Self::UnitPath { .. }
            | Self::UnitName { .. }
            | Self::Annotation { .. } => ErrorKind::Invalid,
            Self::NotRestored { source, .. } => source.kind(),
            Self::UnitExists { .. }
            | Self::NotEmpty { .. }
            | Self::Frozen { .. }
            | Self::InternalProcesses { .. }
            | Self::JoinInner { .. }
            | Self::BelowUse { .. }
            | Self::Busy { .. } => ErrorKind::Conflict,
            Self::Enable { source, .. }
            | Self::Write { source, .. }
            | Self::Join { source, .. }
            | Self::Add { source, .. } => of_control(source),
            Self::Read { source, .. }
            | Self::Create { source, .. }
            | Self::DeviceProgram { source, .. }
            | Self::Watch { source, .. }
            | Self::Signal { source, .. }
            | Self::Holder { source }
            | Self::Delegate { source, .. }
            | Self::Remove { source, .. } => ErrorKind::of_io(source),
            Self::Disabled
            | Self::NoCounterpart { .. }
            | Self::Systemd(_)
            | Self::StartUnit { .. }
            | Self::UnitJob { .. }
            | Self::ChangeUnit { .. }
            | Self::AttachToUnit { .. }
            | Self::NotInUnit { .. }
            | Self::UserUnitOnV1
            | Self::DelegateOnV1
            | Self::Threaded { .. }
            | Self::NotMounted
            | Self::NoCgroup { .. }
            | Self::MissingController { .. }
            | Self::NoHierarchy { .. }
            | Self::MissingFile { .. }
            | Self::DeviceRule { .. }
            | Self::JoinThreaded { .. }
            | Self::FreezeTimeout { .. }
            | Self::NoFreezer
            | Self::NoMembers => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Systemd(DbusError::Connect { .. } | DbusError::NoUserBus) => {
                "without systemd, use --cgroup-manager cgroupfs"
            }
            Self::NotMounted => "mount cgroup2 at /sys/fs/cgroup",
            Self::NoCgroup { .. } => "limits need the right to make a cgroup: be root, or have one delegated",
            Self::InternalProcesses { .. } => "move the processes into a child cgroup first",
            Self::MissingController { .. } => {
                "a parent cgroup does not hand the controller down, or a v1 hierarchy holds it"
            }
            Self::Write { file, source, .. } => match (file.file_name()?.to_str()?, source.raw_os_error()?) {
                ("cpuset.cpus" | "cpuset.mems", libc::EACCES | libc::EINVAL) => {
                    "the list must be within what the parent cgroup has"
                }
                ("cpu.cfs_quota_us" | "cpu.rt_runtime_us", libc::EINVAL) => {
                    "the share must be within what the parent cgroup has"
                }
                ("cpu.shares" | "cpu.weight", libc::EINVAL) => "an idle cgroup (cpu.idle is 1) has no weight",
                ("cpuset.cpus" | "cpuset.mems", libc::EBUSY) => "a cgroup below it uses what the list leaves out",
                ("memory.limit_in_bytes", libc::EINVAL) => {
                    "it must not be above the limit of memory plus swap: change both"
                }
                ("memory.memsw.limit_in_bytes", libc::EINVAL) => "it must not be below the limit of memory",
                ("devices.allow", libc::EPERM) => "the parent cgroup does not allow that device either",
                _ => return None,
            },
            _ => return None,
        };
        Some(text.to_owned())
    }
}
