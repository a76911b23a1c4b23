// SPDX-License-Identifier: Apache-2.0
//! The command line, as plain data.
//!
//! A flag's value is read where it takes effect, so that what a flag means stands in one place.

use std::path::PathBuf;

use clap::Parser;
use ctr_cli::StateArgs;

/// Makes OCI runtime bundles of images: records with a snapshot in, records with a bundle out
#[derive(Debug, Parser)]
#[command(name = "ctr-bundle", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub state: StateArgs,

    /// Container id [default: the image's name and random digits]
    #[arg(long, help_heading = "Bundle")]
    pub id: Option<String>,
    /// Make N bundles of each record, with the ids ID-1 to ID-N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65535), help_heading = "Bundle")]
    pub replicas: Option<u32>,
    /// A plain directory as root file system, instead of a snapshot
    #[arg(long, value_name = "DIR", help_heading = "Bundle")]
    pub rootfs: Option<PathBuf>,
    /// Change the finished config.json: an object is a merge patch, an array a JSON patch
    #[arg(long, value_name = "FILE", help_heading = "Bundle")]
    pub patch: Vec<PathBuf>,
    /// Label of the container, in the record and in the annotation ctr.label.KEY
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Bundle")]
    pub label: Vec<String>,
    /// Annotation in config.json
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Bundle")]
    pub annotation: Vec<String>,

    /// The container's arguments instead of the image's Cmd
    #[arg(last = true, value_name = "ARG")]
    pub command: Vec<String>,
    /// One argument, as after --
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, help_heading = "Process")]
    pub arg: Vec<String>,
    /// Program instead of the image's Entrypoint and Cmd; empty for none
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    pub entrypoint: Option<String>,
    /// Environment variable; without a value, the caller's
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Process")]
    pub env: Vec<String>,
    /// File of environment variables, one a line
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub env_file: Vec<PathBuf>,
    /// User and group, names or numbers
    #[arg(long, short, value_name = "USER[:GROUP]", help_heading = "Process")]
    pub user: Option<String>,
    /// Supplementary group, name or number
    #[arg(long, value_name = "GROUP", help_heading = "Process")]
    pub add_group: Vec<String>,
    /// Working directory
    #[arg(long, short = 'w', value_name = "DIR", help_heading = "Process")]
    pub cwd: Option<String>,
    /// Give the container a terminal
    #[arg(long, short, help_heading = "Process")]
    pub tty: bool,
    /// Resource limit, RLIMIT_NAME or name
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Process")]
    pub rlimit: Vec<String>,

    /// Host name [default: the id]; empty for none
    #[arg(long, value_name = "NAME", help_heading = "Namespaces")]
    pub hostname: Option<String>,
    /// PID namespace
    #[arg(long, value_name = "host|private|PATH", help_heading = "Namespaces")]
    pub pid: Option<String>,
    /// Network namespace
    #[arg(long, value_name = "host|private|PATH", help_heading = "Namespaces")]
    pub net: Option<String>,
    /// IPC namespace
    #[arg(long, value_name = "host|private|PATH", help_heading = "Namespaces")]
    pub ipc: Option<String>,
    /// UTS namespace
    #[arg(long, value_name = "host|private|PATH", help_heading = "Namespaces")]
    pub uts: Option<String>,
    /// Cgroup namespace
    #[arg(long, value_name = "host|private|PATH", help_heading = "Namespaces")]
    pub cgroupns: Option<String>,
    /// User namespace [default: host for root, private for others]
    #[arg(long, value_name = "host|private|PATH", help_heading = "Namespaces")]
    pub userns: Option<String>,
    /// User ids of a private user namespace
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", help_heading = "Namespaces")]
    pub uid_map: Vec<String>,
    /// Group ids of a private user namespace [default: as --uid-map]
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", help_heading = "Namespaces")]
    pub gid_map: Vec<String>,
    /// Kernel parameter
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Namespaces")]
    pub sysctl: Vec<String>,

    /// Make the root file system read-only
    #[arg(long, help_heading = "Mounts")]
    pub read_only: bool,
    /// Mount: type=bind|tmpfs|…,src=PATH,dst=PATH and options
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = "Mounts")]
    pub mount: Vec<String>,
    /// Mount a file or directory of the host
    #[arg(long, short, value_name = "SRC:DST[:OPTIONS]", help_heading = "Mounts")]
    pub volume: Vec<String>,
    /// Mount an empty tmpfs
    #[arg(long, value_name = "DST[:OPTIONS]", help_heading = "Mounts")]
    pub tmpfs: Vec<String>,
    /// Size of /dev/shm [default: 64M]
    #[arg(long, value_name = "SIZE", help_heading = "Mounts")]
    pub shm_size: Option<String>,
    /// Device of the host
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]", help_heading = "Mounts")]
    pub device: Vec<String>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAP", help_heading = "Security")]
    pub cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP", help_heading = "Security")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no seccomp filter, nothing masked or read-only
    #[arg(long, help_heading = "Security")]
    pub privileged: bool,
    /// Seccomp profile [default: default]
    #[arg(long, value_name = "default|unconfined|FILE", help_heading = "Security")]
    pub seccomp: Option<String>,
    /// Whether setuid programs gain nothing [default: true]
    #[arg(long, value_name = "true|false", help_heading = "Security")]
    pub no_new_privileges: Option<bool>,
    /// Hide a path; none forgets those so far, the defaults included
    #[arg(long, value_name = "PATH|none", help_heading = "Security")]
    pub masked_path: Vec<String>,
    /// Make a path read-only; none forgets those so far, the defaults included
    #[arg(long, value_name = "PATH|none", help_heading = "Security")]
    pub readonly_path: Vec<String>,

    /// Cgroup of the container [default: /ctr-ID, with @NAMESPACE for any but default]
    #[arg(long, value_name = "PATH", help_heading = "Resources")]
    pub cgroup_path: Option<String>,
    /// Memory limit, as 256M
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub memory: Option<String>,
    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Resources")]
    pub memory_swap: Option<String>,
    /// CPUs, as 1.5
    #[arg(long, value_name = "NUMBER", help_heading = "Resources")]
    pub cpus: Option<String>,
    /// CPU shares, relative to those of other containers
    #[arg(long, value_name = "NUMBER", help_heading = "Resources")]
    pub cpu_shares: Option<u64>,
    /// CPUs that may be used, as 0-2,7
    #[arg(long, value_name = "LIST", help_heading = "Resources")]
    pub cpuset_cpus: Option<String>,
    /// Number of processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, help_heading = "Resources")]
    pub pids_limit: Option<i64>,
}
