// SPDX-License-Identifier: Apache-2.0
//! What a checkpoint and a restore are asked for, in runc's and crun's words.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use crate::RuntimeError;
use crate::cgroup::Manager;

/// What checkpoint and restore have in common.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct CriuOptions {
    /// The directory of the images.
    pub image_path: PathBuf,
    /// The directory of the log and other files of criu's own; that of the images, if none.
    pub work_path: Option<PathBuf>,
    pub tcp_established: bool,
    pub external_unix_sockets: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub cgroups: CgroupsMode,
    /// How connections are kept quiet; criu's own way, if none.
    pub network_lock: Option<NetworkLock>,
}

/// How a container is written to images.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct CheckpointOptions {
    pub criu: CriuOptions,
    /// The images of an earlier `pre_dump`, relative to the directory of the images.
    pub parent_path: Option<PathBuf>,
    /// The container is not ended.
    pub leave_running: bool,
    /// Only the memory is written, to shorten the checkpoint that follows.
    pub pre_dump: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    /// Where pages go, instead of the directory; with `lazy_pages`, where they can be had.
    pub page_server: Option<PageServer>,
    /// With `lazy_pages`: is written a zero byte once pages can be had.
    pub status_fd: Option<OwnedFd>,
}

/// How a container is made of images.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct RestoreOptions {
    pub criu: CriuOptions,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// A Unix socket that is sent the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// A file that is written the pid of the container's first process, in decimal without a newline.
    pub pid_file: Option<PathBuf>,
    /// Return once it runs, and leave it to whoever reaps it.
    pub detach: bool,
    /// Do not adopt what the container's processes leave behind.
    pub no_subreaper: bool,
    /// Connections are closed instead of restored.
    pub tcp_close: bool,
    /// The profile or label of its processes, instead of that in the images.
    pub lsm_profile: Option<LsmProfile>,
    /// The context of its mounts, instead of that in the images.
    pub lsm_mount_context: Option<String>,
    /// Who makes its cgroup.
    pub cgroup_manager: Manager,
}

/// What criu does about the container's cgroups (`--manage-cgroups-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// What it thinks best.
    #[default]
    Default,
    /// It makes those that are missing, and sets the properties of these.
    Soft,
    /// It sets the properties of all.
    Full,
    /// It makes all, and fails where one exists.
    Strict,
    /// Nothing.
    Ignore,
}

impl CgroupsMode {
    /// criu's number for it (`criu_cg_mode`).
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
            Self::Default => 6,
        }
    }
}

impl FromStr for CgroupsMode {
    type Err = RuntimeError;

    fn from_str(word: &str) -> Result<Self, RuntimeError> {
        match word {
            "" => Ok(Self::Default),
            "soft" => Ok(Self::Soft),
            "full" => Ok(Self::Full),
            "strict" => Ok(Self::Strict),
            "ignore" => Ok(Self::Ignore),
            _ => Err(refuse("--manage-cgroups-mode", word, "soft, full, strict or ignore")),
        }
    }
}

/// How connections are kept quiet during a checkpoint (`--network-lock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NetworkLock {
    Iptables,
    Nftables,
    /// Not at all: something else sees to it.
    Skip,
}

impl NetworkLock {
    /// criu's number for it (`criu_network_lock_method`).
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Iptables => 1,
            Self::Nftables => 2,
            Self::Skip => 3,
        }
    }
}

impl FromStr for NetworkLock {
    type Err = RuntimeError;

    fn from_str(word: &str) -> Result<Self, RuntimeError> {
        match word {
            "iptables" => Ok(Self::Iptables),
            "nftables" => Ok(Self::Nftables),
            "skip" => Ok(Self::Skip),
            _ => Err(refuse("--network-lock", word, "iptables, nftables or skip")),
        }
    }
}

/// `ADDRESS:PORT`; an address of IPv6 is in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PageServer {
    pub address: String,
    pub port: u16,
}

impl FromStr for PageServer {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let wrong = || refuse("--page-server", text, "ADDRESS:PORT");
        let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = match address.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if address.contains(':') => return Err(wrong()),
            None => address,
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = digits.then(|| port.parse().ok()).flatten().filter(|port| *port != 0).ok_or_else(wrong)?;
        match bare.is_empty() {
            true => Err(wrong()),
            false => Ok(Self { address: bare.to_owned(), port }),
        }
    }
}

/// `TYPE:NAME`: an AppArmor profile or an SELinux label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsmProfile(pub(super) String);

impl FromStr for LsmProfile {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        match text.split_once(':') {
            Some(("apparmor" | "selinux", name)) if !name.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(refuse("--lsm-profile", text, "apparmor:NAME or selinux:LABEL")),
        }
    }
}

/// A namespace that is made anew instead of restored (`--empty-ns`): that of the network is in any case, since
/// a runtime has no part in what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyNamespace;

impl FromStr for EmptyNamespace {
    type Err = RuntimeError;

    fn from_str(word: &str) -> Result<Self, RuntimeError> {
        match word {
            "network" => Ok(Self),
            _ => Err(refuse("--empty-ns", word, "network")),
        }
    }
}

fn refuse(option: &str, value: &str, wanted: &str) -> RuntimeError {
    RuntimeError::config(option, format!("invalid value {value:?}: it must be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let parsed = |text: &str| text.parse::<PageServer>().ok().map(|server| (server.address, server.port));
        assert_eq!(parsed("127.0.0.1:27000"), Some(("127.0.0.1".into(), 27000)));
        assert_eq!(parsed("[::1]:1"), Some(("::1".into(), 1)));
        for bad in ["", ":1", "a", "a:", "a:0", "a:65536", "a:1x", "a:+1", "::1:1", "[::1:1", "[]:1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_are_taken_and_others_are_named() {
        assert_eq!("".parse::<CgroupsMode>().unwrap().number(), 6);
        assert_eq!("strict".parse::<CgroupsMode>().unwrap().number(), 5);
        assert_eq!("nftables".parse::<NetworkLock>().unwrap().number(), 2);
        assert!("network".parse::<EmptyNamespace>().is_ok() && "ipc".parse::<EmptyNamespace>().is_err());
        assert!("selinux:a:b".parse::<LsmProfile>().is_ok());
        for bad in ["", "apparmor", "apparmor:", "smack:x"] {
            assert!(bad.parse::<LsmProfile>().is_err(), "{bad}");
        }
        let message = "Soft".parse::<CgroupsMode>().unwrap_err().to_string();
        assert!(message.contains("--manage-cgroups-mode") && message.contains("\"Soft\""), "{message}");
    }
}
