// SPDX-License-Identifier: Apache-2.0
//! What criu is asked for, made from the options, the container's plan and what was seen of the machine.
//!
//! Nothing here touches anything: what has to be looked at is in [`Running`] and [`Prepared`].

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::message::{Flag, Options};
use super::options::{CheckpointOptions, CriuOptions, RestoreOptions};
use crate::RuntimeError;
use crate::plan::{MountKind, Plan};

/// The log of a checkpoint, in the work directory.
pub(super) const DUMP_LOG: &str = "dump.log";
/// The log of a restore, in the work directory.
pub(super) const RESTORE_LOG: &str = "restore.log";

/// The annotation that names a configuration file of criu's for one container.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// The one for all containers of all runtimes with runc's command line.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// Descriptors of this process that criu opens through `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directories {
    pub(super) images: RawFd,
    pub(super) work: Option<RawFd>,
}

/// What was seen of a container that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    pub(super) pid: i32,
    /// The cgroup that freezes it.
    pub(super) freezer: Option<PathBuf>,
    /// Where mounts of things outside are, symlinks resolved.
    pub(super) external_mounts: Vec<PathBuf>,
    /// Files that are hidden behind the null device, symlinks resolved.
    pub(super) masked_files: Vec<PathBuf>,
    /// What criu calls the open files that are outside.
    pub(super) external_files: Vec<String>,
    /// The namespaces it joined that stay: `CLONE_NEW*` and inode.
    pub(super) joined: Vec<(i32, u64)>,
}

/// What was prepared for a container that is to be restored.
#[derive(Clone, Debug, Default)]
pub(super) struct Prepared {
    /// Where criu finds the root.
    pub(super) root: PathBuf,
    /// Where mounts of things outside go, symlinks resolved, and what they are of.
    pub(super) external_mounts: Vec<(PathBuf, PathBuf)>,
    /// What criu finds under which number, by its own names for it.
    pub(super) inherit: Vec<(String, RawFd)>,
    /// The new cgroup, by controller.
    pub(super) cgroup_roots: Vec<(String, String)>,
}

/// Asks for the images of a container.
pub(super) fn checkpoint(
    options: &CheckpointOptions,
    annotation: Option<&str>,
    plan: &Plan,
    running: Running,
    directories: Directories,
) -> Options {
    let mut asked = common(&options.criu, annotation, directories, DUMP_LOG);
    asked.pid = Some(running.pid);
    asked.root = plan.rootfs.path.clone();
    asked.parent_images = options.parent_path.clone();
    asked.freeze_cgroup = running.freezer;
    asked.page_server = options.page_server.as_ref().map(|server| (server.address.clone(), server.port));
    asked.set(Flag::LeaveRunning, options.leave_running);
    asked.set(Flag::TcpSkipInFlight, options.tcp_skip_in_flight);
    asked.set(Flag::LinkRemap, options.link_remap);
    // What is written first has no parent, but is one.
    asked.set(Flag::TrackMemory, options.pre_dump || options.parent_path.is_some());
    for (kind, inode) in running.joined {
        if let Some(key) = key_of_namespace(kind) {
            asked.external.push(format!("{}[{inode}]:{key}", word_of_namespace(kind)));
        }
    }
    if options.pre_dump {
        return asked; // of the memory only
    }
    asked.external_mounts = running.external_mounts.into_iter().map(|place| (place.clone(), place)).collect();
    let null = Path::new("/dev/null");
    asked.external_mounts.extend(running.masked_files.into_iter().map(|place| (place, null.to_owned())));
    asked.external.extend(running.external_files);
    asked
}

/// Asks for a container to be made of its images.
pub(super) fn restore(
    options: &RestoreOptions,
    annotation: Option<&str>,
    plan: &Plan,
    prepared: Prepared,
    directories: Directories,
) -> Result<Options, RuntimeError> {
    let mut asked = common(&options.criu, annotation, directories, RESTORE_LOG);
    asked.root = prepared.root;
    asked.external_mounts = prepared.external_mounts;
    if !plan.masked_paths.is_empty() {
        asked.external_mounts.push(("/dev/null".into(), "/dev/null".into()));
    }
    asked.inherit = prepared.inherit;
    asked.cgroup_roots = prepared.cgroup_roots;
    asked.lsm_profile = options.lsm_profile.as_ref().map(|profile| profile.0.clone());
    asked.lsm_mount_context = options.lsm_mount_context.clone();
    asked.set(Flag::EvasiveDevices, true);
    asked.set(Flag::RestoreSibling, true);
    asked.set(Flag::TcpClose, options.tcp_close);
    for (kind, path) in &plan.namespaces.join {
        if key_of_namespace(*kind).is_some() {
            continue; // inherited
        }
        if *kind == libc::CLONE_NEWCGROUP {
            return Err(RuntimeError::config(
                "linux.namespaces",
                "criu cannot restore into a cgroup namespace that exists",
            ));
        }
        asked.join_namespaces.push((word_of_namespace(*kind), path.clone()));
    }
    Ok(asked)
}

fn common(criu: &CriuOptions, annotation: Option<&str>, directories: Directories, log: &'static str) -> Options {
    let mut asked = Options {
        images_dir: directories.images,
        work_dir: directories.work,
        log_file: log,
        // An empty annotation is none of either; a file that is not there is none for criu.
        config_file: Some(annotation.unwrap_or(CONFIG_FILE).to_owned()).filter(|file| !file.is_empty()),
        cgroups_mode: criu.cgroups.number(),
        empty_namespaces: libc::CLONE_NEWNET as u32,
        network_lock: criu.network_lock.map(super::options::NetworkLock::number),
        ..Options::default()
    };
    asked.set(Flag::TcpEstablished, criu.tcp_established);
    asked.set(Flag::ExternalUnixSockets, criu.external_unix_sockets);
    asked.set(Flag::ShellJob, criu.shell_job);
    asked.set(Flag::FileLocks, criu.file_locks);
    asked.set(Flag::AutoDedup, criu.auto_dedup);
    asked.set(Flag::LazyPages, criu.lazy_pages);
    asked
}

/// The configuration file that a container's annotations name.
pub(super) fn annotation(annotations: &std::collections::BTreeMap<String, String>) -> Option<&str> {
    annotations.get(CONFIG_ANNOTATION).map(String::as_str)
}

/// What a namespace of this kind is called that stays when its container is ended, and is there before it is
/// restored; the other kinds are joined by path.
pub(super) fn key_of_namespace(kind: i32) -> Option<&'static str> {
    match kind {
        libc::CLONE_NEWNET => Some("extRootNetNS"),
        libc::CLONE_NEWPID => Some("extRootPidNS"),
        _ => None,
    }
}

fn word_of_namespace(kind: i32) -> &'static str {
    match kind {
        libc::CLONE_NEWNET => "net",
        libc::CLONE_NEWNS => "mnt",
        kind => crate::plan::words::namespace(kind),
    }
}

/// Refuses what criu would restore as something else.
pub(super) fn check(plan: &Plan) -> Result<(), RuntimeError> {
    let odd = plan.mounts.iter().find_map(|mount| match (&mount.idmap, mount.options.source_nofollow) {
        (Some(_), _) => Some((mount, "an idmapped mount")),
        (None, true) => Some((mount, "a bind mount with src-nofollow")),
        (None, false) => None,
    });
    match odd {
        None => Ok(()),
        Some((mount, what)) => {
            let place = mount.destination.display();
            Err(RuntimeError::config(format!("mounts (/{place})"), format!("criu cannot restore {what}")))
        }
    }
}

/// The places of a plan's mounts that show something outside, and what that is.
pub(super) fn external_mounts(plan: &Plan, cgroups: &[(PathBuf, PathBuf)]) -> Vec<(PathBuf, PathBuf)> {
    let mut all = Vec::new();
    for mount in &plan.mounts {
        match &mount.kind {
            MountKind::Bind { source, .. } => all.push((mount.destination.clone(), source.clone())),
            MountKind::Cgroup => {
                let below = |(name, path): &(PathBuf, PathBuf)| (mount.destination.join(name), path.clone());
                all.extend(cgroups.iter().map(below));
            }
            MountKind::New { .. } => {}
        }
    }
    // A user namespace may make no device nodes: the host's are bound.
    if plan.namespaces.is_private(libc::CLONE_NEWUSER) {
        let nodes = crate::rootfs::device::DEFAULT_NODES.iter().map(|(name, ..)| Path::new("dev").join(name));
        let all_nodes = nodes.chain(plan.devices.iter().map(|device| device.path.clone()));
        all.extend(all_nodes.map(|path| (path.clone(), Path::new("/").join(path))));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::cgroup::Manager;
    use crate::plan::Caller;

    const DIRECTORIES: Directories = Directories { images: 5, work: Some(6) };

    fn plan(config: Value) -> Plan {
        let mut spec = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "linux": {}});
        spec.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        if spec["linux"]["namespaces"].is_null() {
            spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
        }
        Plan::new(
            "x",
            Path::new("/bundle"),
            &serde_json::from_value(spec).unwrap(),
            Caller { rootless: false, manager: Manager::default() },
        )
        .unwrap()
    }

    fn flags(asked: &Options) -> Vec<Flag> {
        asked.flags.iter().filter(|(_, on)| *on).map(|(flag, _)| *flag).collect()
    }

    #[test]
    fn a_checkpoint_asks_for_the_container_as_it_is() {
        let plan = plan(json!({}));
        let options = CheckpointOptions {
            criu: CriuOptions { tcp_established: true, cgroups: "soft".parse().unwrap(), ..CriuOptions::default() },
            leave_running: true,
            page_server: Some("h:1".parse().unwrap()),
            ..CheckpointOptions::default()
        };
        let running = Running {
            pid: 9,
            freezer: Some("/f".into()),
            external_mounts: vec!["/data".into()],
            masked_files: vec!["/proc/kcore".into()],
            external_files: vec!["file[1:2]".into()],
            joined: vec![(libc::CLONE_NEWNET, 77), (libc::CLONE_NEWIPC, 78)],
        };
        let asked = checkpoint(&options, None, &plan, running, DIRECTORIES);
        assert_eq!((asked.pid, asked.images_dir, asked.work_dir, asked.log_file), (Some(9), 5, Some(6), DUMP_LOG));
        assert_eq!(asked.root, Path::new("/bundle/rootfs"));
        assert_eq!(flags(&asked), [Flag::TcpEstablished, Flag::LeaveRunning]);
        assert_eq!((asked.cgroups_mode, asked.empty_namespaces), (3, libc::CLONE_NEWNET as u32));
        let mounts: Vec<(PathBuf, PathBuf)> =
            vec![("/data".into(), "/data".into()), ("/proc/kcore".into(), "/dev/null".into())];
        assert_eq!(asked.external_mounts, mounts);
        assert_eq!(asked.external, ["net[77]:extRootNetNS", "file[1:2]"]);
        assert_eq!(asked.page_server, Some(("h".into(), 1)));
    }

    #[test]
    fn a_dump_of_the_memory_tracks_it_and_leaves_mounts_alone() {
        let options = CheckpointOptions { pre_dump: true, ..CheckpointOptions::default() };
        let running = Running { external_mounts: vec!["/data".into()], ..Running::default() };
        let asked = checkpoint(&options, None, &plan(json!({})), running.clone(), DIRECTORIES);
        assert_eq!((flags(&asked), asked.external_mounts.len()), (vec![Flag::TrackMemory], 0));
        let last = CheckpointOptions { parent_path: Some("../p".into()), ..CheckpointOptions::default() };
        let asked = checkpoint(&last, None, &plan(json!({})), running, DIRECTORIES);
        assert_eq!((flags(&asked), asked.external_mounts.len()), (vec![Flag::TrackMemory], 1));
        assert_eq!(asked.parent_images.as_deref(), Some(Path::new("../p")));
    }

    #[test]
    fn a_restore_joins_and_inherits_namespaces() {
        let namespaces = json!([{"type": "mount"}, {"type": "network", "path": "/n"}, {"type": "ipc", "path": "/i"}]);
        let plan = plan(json!({"linux": {"namespaces": namespaces, "maskedPaths": ["/proc/kcore"]}}));
        let options = RestoreOptions { tcp_close: true, ..RestoreOptions::default() };
        let prepared = Prepared {
            root: "/r".into(),
            inherit: vec![("extRootNetNS".into(), 8), ("pipe:[3]".into(), 1)],
            ..Prepared::default()
        };
        let asked = restore(&options, None, &plan, prepared, DIRECTORIES).unwrap();
        assert_eq!(asked.join_namespaces, [("ipc", "/i".into())]);
        assert_eq!(asked.inherit.len(), 2);
        assert_eq!(asked.external_mounts, [(PathBuf::from("/dev/null"), PathBuf::from("/dev/null"))]);
        assert_eq!(flags(&asked), [Flag::EvasiveDevices, Flag::RestoreSibling, Flag::TcpClose]);
        assert_eq!((asked.root.to_str(), asked.log_file), (Some("/r"), RESTORE_LOG));
    }

    #[test]
    fn a_cgroup_namespace_that_exists_is_refused() {
        let namespaces = json!([{"type": "mount"}, {"type": "cgroup", "path": "/c"}]);
        let plan = plan(json!({"linux": {"namespaces": namespaces}}));
        assert!(restore(&RestoreOptions::default(), None, &plan, Prepared::default(), DIRECTORIES).is_err());
    }

    #[test]
    fn mounts_that_criu_would_restore_as_others_are_refused() {
        let with = |options: Value| {
            let mounts = json!([{"destination": "/d", "type": "bind", "source": "/s", "options": options}]);
            let namespaces = json!([{"type": "mount"}, {"type": "user"}]);
            let ids = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
            let linux = json!({"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids});
            check(&plan(json!({"mounts": mounts, "linux": linux})))
        };
        assert!(with(json!(["bind", "ro"])).is_ok());
        assert!(with(json!(["bind", "idmap"])).is_err());
        assert!(with(json!(["bind", "src-nofollow"])).is_err());
    }

    #[test]
    fn an_annotation_names_the_configuration_file() {
        let file = |annotations: &[(&str, &str)]| {
            let all: BTreeMap<String, String> =
                annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let options = CheckpointOptions::default();
            checkpoint(&options, annotation(&all), &plan(json!({})), Running::default(), DIRECTORIES).config_file
        };
        assert_eq!(file(&[]).as_deref(), Some(CONFIG_FILE));
        assert_eq!(file(&[(CONFIG_ANNOTATION, "/x.conf")]).as_deref(), Some("/x.conf"));
        assert_eq!(file(&[(CONFIG_ANNOTATION, "")]), None);
    }

    #[test]
    fn binds_cgroups_of_v1_and_devices_in_a_user_namespace_are_external() {
        let cgroups = [(PathBuf::from("memory"), PathBuf::from("/sys/fs/cgroup/memory/x"))];
        let mounts = json!([
            {"destination": "/data", "type": "bind", "source": "d", "options": ["rbind"]},
            {"destination": "/tmp", "type": "tmpfs"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"}
        ]);
        let found = external_mounts(&plan(json!({"mounts": mounts})), &cgroups);
        let expected: [(&str, &str); 2] = [("data", "/bundle/d"), ("sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/x")];
        assert_eq!(found, expected.map(|(place, source)| (place.into(), source.into())));

        let mapping = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let linux = json!({
            "namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": mapping, "gidMappings": mapping
        });
        let found = external_mounts(&plan(json!({"linux": linux})), &[]);
        assert!(found.contains(&("dev/null".into(), "/dev/null".into())), "{found:?}");
    }
}
