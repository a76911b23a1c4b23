// SPDX-License-Identifier: Apache-2.0
//! `checkpoint` and `restore`: runc's options, and crun's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use ctr_cli::{Context, Error};
use ctr_runtime::cgroup::Manager;
use ctr_runtime::{CheckpointOptions, Container, CriuOptions, EmptyNamespace, RestoreOptions, RuntimeError};
use ctr_store::sched::Inherited;

use crate::verbs::release;

/// What both take.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Directory of the images [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// Directory of criu's log and other files [default: that of the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow Unix sockets that lead out of the container
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a terminal that is the caller's
    #[arg(long)]
    shell_job: bool,
    /// Keep file locks
    #[arg(long)]
    file_locks: bool,
    /// What criu does about cgroups: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Namespace that is made anew and not restored: network, which always is
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Store each page of memory only once
    #[arg(long)]
    auto_dedup: bool,
    /// Bring pages of memory only when they are used
    #[arg(long)]
    lazy_pages: bool,
    /// How connections are held meanwhile: iptables, nftables or skip
    #[arg(long, value_name = "METHOD")]
    network_lock: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Checkpoint {
    /// The container's id
    pub(crate) id: String,
    #[command(flatten)]
    common: Common,
    /// Images of the pre-dump before, relative to those to write
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Do not end the container
    #[arg(long)]
    leave_running: bool,
    /// Leave out what TCP connections have not finished opening
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Give open files without a name one
    #[arg(long)]
    link_remap: bool,
    /// Descriptor that is written a zero byte once --lazy-pages can bring pages
    #[arg(long, value_name = "FD", default_value_t = -1, hide_default_value = true)]
    status_fd: i32,
    /// Server that pages are sent to, or are asked of
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Write memory only, and do not end the container
    #[arg(long)]
    pre_dump: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The container's id
    pub(crate) id: String,
    #[command(flatten)]
    common: Common,
    /// Bundle directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Unix socket that is sent the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File that is written the pid of the first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Return once it runs
    #[arg(short, long)]
    detach: bool,
    /// Do not adopt orphaned processes of the container
    #[arg(long)]
    no_subreaper: bool,
    /// Accepted for compatibility: criu moves the root itself
    #[arg(long)]
    no_pivot: bool,
    /// Close TCP connections instead of restoring them
    #[arg(long)]
    tcp_close: bool,
    /// AppArmor profile or SELinux label instead of the images', apparmor:NAME or selinux:LABEL
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// SELinux context of mounts instead of the images'
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
}

/// Writes a container to images.
pub(crate) fn checkpoint(root: &Path, args: &Checkpoint) -> Result<(), Error> {
    let container = Container::open(root, &args.id)?;
    let status_fd = match args.status_fd {
        -1 => None,
        fd => Some(ctr_sys::inherit::take(fd).ok_or_else(|| Error::misuse(format!("--status-fd {fd} is not open")))?),
    };
    let options = CheckpointOptions {
        criu: common(&args.common)?,
        parent_path: given(&args.parent_path),
        leave_running: args.leave_running,
        pre_dump: args.pre_dump,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        link_remap: args.link_remap,
        page_server: parse(args.page_server.as_ref())?,
        status_fd,
    };
    Ok(container.checkpoint(options)?)
}

/// Makes a container of images.
pub(crate) fn restore(root: &Path, args: &Restore, cgroup_manager: Manager) -> Result<ExitCode, Error> {
    let mut place = Inherited::take();
    let options = RestoreOptions {
        criu: common(&args.common)?,
        bundle: args.bundle.clone(),
        console_socket: given(&args.console_socket),
        pid_file: given(&args.pid_file),
        detach: args.detach,
        no_subreaper: args.no_subreaper,
        tcp_close: args.tcp_close,
        lsm_profile: parse(args.lsm_profile.as_ref())?,
        lsm_mount_context: args.lsm_mount_context.clone().filter(|context| !context.is_empty()),
        cgroup_manager,
    };
    let status = ctr_runtime::restore(root, &args.id, &options, |_| release(place.take()))?;
    Ok(ExitCode::from(status))
}

fn common(args: &Common) -> Result<CriuOptions, Error> {
    for namespace in &args.empty_ns {
        namespace.parse::<EmptyNamespace>()?;
    }
    let here = || Path::new("checkpoint").to_owned();
    Ok(CriuOptions {
        // As a whole path: criu works in another directory.
        image_path: std::path::absolute(given(&args.image_path).unwrap_or_else(here))
            .unable_to(|| "find --image-path")?,
        work_path: given(&args.work_path),
        tcp_established: args.tcp_established,
        external_unix_sockets: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
        auto_dedup: args.auto_dedup,
        lazy_pages: args.lazy_pages,
        cgroups: parse(args.manage_cgroups_mode.as_ref())?.unwrap_or_default(),
        network_lock: parse(args.network_lock.as_ref())?,
    })
}

// Some callers pass what they have, and that may be nothing.
fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

fn parse<T: FromStr<Err = RuntimeError>>(text: Option<&String>) -> Result<Option<T>, RuntimeError> {
    text.filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()
}
