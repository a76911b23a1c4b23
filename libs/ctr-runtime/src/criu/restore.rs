// SPDX-License-Identifier: Apache-2.0
//! A container is made of images: criu makes its processes, everything around them is made as for a new one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ctr_record::Mount;
use ctr_sys::inherit::standard_streams;
use ctr_sys::process::{Child, join_namespaces, pidfd_open};
use nix::unistd::Pid;

use super::descriptors::{Descriptors, STREAMS};
use super::message::{Notification, Request, Version};
use super::options::RestoreOptions;
use super::request::{self, Prepared, RESTORE_LOG};
use super::service::{Program, Setting};
use super::workshop::{Work, Yard};
use super::{images, mountpoints, observe};
use crate::caller::{notify, pid_file};
use crate::cgroup::Holder;
use crate::container::Container;
use crate::create::claim;
use crate::create::undo::Undo;
use crate::create::{self, CreateOptions, Made, Opening, Planned};
use crate::plan::{Plan, UserPlan};
use crate::rootfs;
use crate::rootfs::cgroup_mount::CgroupMount;
use crate::rootfs::idmap;
use crate::run::Attendance;
use crate::spec::Config;
use crate::state::{ContainerDir, State};
use crate::{RuntimeError, Service, hooks, warn};

const ACTION: &str = "restore the container";

/// The first criu that takes another LSM profile than the images'.
const LSM_PROFILE: Version = Version(3, 16);
/// The first criu that restores into a pid namespace that exists.
const EXTERNAL_NAMESPACES: Version = Version(3, 15);

/// Makes a container of a checkpoint's images. `started` is called once it runs.
///
/// In the foreground it returns the status to exit with, as [`run`](crate::run) does.
pub fn restore(
    root: &Path,
    id: &str,
    options: &RestoreOptions,
    started: impl FnOnce(&Container),
) -> Result<u8, RuntimeError> {
    let attendance = if options.detach { None } else { Some(Attendance::begin(options.no_subreaper)?) };
    let made = make(root, id, options)?;
    match attendance {
        None => {
            started(&made.container);
            Ok(0)
        }
        Some(attendance) => attendance.finish(made, false, |made| {
            started(&made.container);
            Ok(())
        }),
    }
}

fn make(root: &Path, id: &str, options: &RestoreOptions) -> Result<Made, RuntimeError> {
    let directories = images::check_images(&options.criu.image_path)?;
    let program = Program::find()?;
    let work = Work::open(&options.criu, RESTORE_LOG)?;
    let descriptors = Descriptors::read(work.images())?;
    let as_new = CreateOptions {
        bundle: options.bundle.clone(),
        cgroup_manager: options.cgroup_manager,
        service: Service::of_container(descriptors.notifies),
        ..CreateOptions::default()
    };
    let Planned { config, plan, layers } = create::plan(id, &as_new, &root.join(id))?;
    request::check(&plan)?;
    let opening = if options.detach { Opening::Detached } else { Opening::Foreground };
    let terminal = plan.process.as_ref().is_some_and(|process| process.terminal);
    create::check_terminal(terminal, options.console_socket.is_some(), opening)?;
    check_version(options, &plan, &program)?;
    // Held until all is made, or taken back.
    let (dir, _lock) = ContainerDir::claim(root, id)?;
    let group = plan.namespaces.user.as_ref().and_then(UserPlan::root_group);
    let _opened = group.map(|group| images::Opened::to(group, &directories)).transpose()?;
    let mut undo = Undo::new(&dir);
    let from = From {
        dir: &dir,
        plan: &plan,
        config: &config,
        layers: &layers,
        descriptors: &descriptors,
        options,
        program: &program,
    };
    let terminal = from.restore(&work, &mut undo).map_err(|error| work.explain(error, RESTORE_LOG))?;
    let (child, state) = undo.keep();
    config.warnings.iter().for_each(warn);
    Ok(Made { container: Container::new(dir, state), child, terminal, notify: None })
}

fn check_version(options: &RestoreOptions, plan: &Plan, program: &Program) -> Result<(), RuntimeError> {
    if options.lsm_profile.is_some() {
        program.require(LSM_PROFILE, "--lsm-profile")?;
    }
    if options.lsm_mount_context.is_some() {
        program.require(LSM_PROFILE, "--lsm-mount-context")?;
    }
    match plan.namespaces.join.iter().any(|(kind, _)| request::key_of_namespace(*kind).is_some()) {
        true => program.require(EXTERNAL_NAMESPACES, "a network or pid namespace that exists"),
        false => Ok(()),
    }
}

/// What a container is restored from.
#[derive(Clone, Copy)]
struct From<'a> {
    dir: &'a ContainerDir,
    plan: &'a Plan,
    config: &'a Config,
    layers: &'a [Mount],
    descriptors: &'a Descriptors,
    options: &'a RestoreOptions,
    program: &'a Program,
}

impl From<'_> {
    fn restore(&self, work: &Work, undo: &mut Undo<'_>) -> Result<Option<OwnedFd>, RuntimeError> {
        let Self { dir, plan, options, .. } = *self;
        let mut state = claim::new_state(plan, self.config, options.cgroup_manager);
        state.restored = true;
        let holder = claim::resources(dir, plan, &mut state, undo)?;
        state.cgroup.enforce_devices(&plan.cgroup)?;
        let copy = dir.config();
        fs::write(&copy, &self.config.bytes).map_err(RuntimeError::io("write", &copy))?;
        let console_socket = options.console_socket.as_deref().map(create::connect).transpose()?;
        if self.descriptors.notifies {
            notify::make_directory(dir.path())?;
        }
        let tree = self.make_root()?;
        let yard = Yard::create(dir)?;
        let place = yard.root();
        let cgroups = observe::cgroup_binds(&CgroupMount::of(&state.cgroup, &plan.namespaces));
        let external = mountpoints::prepare(plan, tree.as_fd(), &request::external_mounts(plan, &cgroups))?;
        let namespaces = open_namespaces(plan)?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(RuntimeError::io("open", Path::new("/dev/null")))?;
        let streams = copy_streams();
        let numbers = std::array::from_fn(|n| streams[n].as_ref().map_or(n as RawFd, AsRawFd::as_raw_fd));
        let mut inherit = self.descriptors.inherited(numbers, null.as_raw_fd());
        inherit.extend(namespaces.iter().map(|(key, file)| ((*key).to_owned(), file.as_raw_fd())));
        let join = state.cgroup.join_fds()?;
        let setting = Setting {
            own_stdio: true,
            inherit: namespaces
                .iter()
                .map(|(_, file)| file.as_raw_fd())
                .chain([null.as_raw_fd()])
                .chain(streams.iter().flatten().map(AsRawFd::as_raw_fd))
                .collect(),
            cgroup: Some(&join),
            mounts: yard.mounts().into_iter().chain([(tree.as_fd(), place.as_path())]).collect(),
            directories: work.places(),
        };
        let service = self.program.start(&setting)?;
        holder.map_or(Ok(()), Holder::release)?;
        if let Some(group) = &state.intel_rdt {
            group.add(&[service.pid()])?;
        }
        let prepared = Prepared {
            root: place.clone(),
            external_mounts: external,
            inherit,
            cgroup_roots: cgroups_of(service.pid())?,
        };
        let annotation = request::annotation(&state.annotations);
        let mut asked = request::restore(options, annotation, plan, prepared, work.numbers())?;
        asked.cgroup_yard = yard.cgroups();
        let mut making = Making { dir, plan, state, undo, console_socket, terminal: None };
        let response =
            service.converse(ACTION, &Request::Restore(asked), |notification, fd| making.note(notification, fd))?;
        // A criu that tells nothing of it would leave the container unrecorded.
        if making.state.pid == 0 {
            making.record(response.pid.unwrap_or(0))?;
        }
        let Making { state, terminal, .. } = making;
        if let Some(pid_file) = &options.pid_file {
            pid_file::write(pid_file, state.pid)?;
        }
        dir.record_complete()?;
        Ok(terminal)
    }

    // With a user namespace the layers are seen by its mappings; criu makes one like it.
    fn make_root(&self) -> Result<OwnedFd, RuntimeError> {
        let namespaces = &self.plan.namespaces;
        let joined = namespaces.join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWUSER);
        let user_namespace = match (&namespaces.user, joined) {
            (Some(ids), _) => Some(idmap::make(ids)?),
            (None, Some((_, path))) => {
                let file = File::open(path).map_err(RuntimeError::io("open the namespace", path))?;
                Some(OwnedFd::from(file))
            }
            (None, None) => None,
        };
        rootfs::make_root_for(self.plan, self.layers, user_namespace.as_ref().map(AsFd::as_fd))
    }
}

/// A container whose processes are being made.
struct Making<'a, 'b> {
    dir: &'a ContainerDir,
    plan: &'a Plan,
    state: State,
    undo: &'a mut Undo<'b>,
    console_socket: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Making<'_, '_> {
    // The points of criu's work that are this runtime's concern.
    fn note(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<(), RuntimeError> {
        match notification.script.as_str() {
            "setup-namespaces" => {
                self.follow(notification.pid)?;
                if self.plan.namespaces.is_new(libc::CLONE_NEWNET) {
                    bring_loopback_up(notification.pid)
                        .map_err(RuntimeError::call("switch the loopback interface on"))?;
                }
                let (told, all) = (self.state.to_oci("creating"), &self.plan.hooks);
                hooks::run("prestart", all, &all.prestart, &told)?;
                hooks::run("createRuntime", all, &all.create_runtime, &told)
            }
            "post-restore" => self.record(notification.pid),
            "orphan-pts-master" => match (fd, self.console_socket.take()) {
                (Some(master), Some(socket)) => ctr_sys::socket::send_fd(socket.as_fd(), b"/dev/ptmx", master.as_fd())
                    .map_err(RuntimeError::call("send the terminal to the console socket")),
                (master, None) => {
                    self.terminal = master;
                    Ok(())
                }
                (None, _) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    // From here on a failure ends this process, too.
    fn follow(&mut self, pid: i32) -> Result<(), RuntimeError> {
        let pidfd = pidfd_open(Pid::from_raw(pid)).map_err(RuntimeError::call("open a pidfd"))?;
        let child = Child { pid: Pid::from_raw(pid), pidfd };
        self.state.set_process(&child);
        self.undo.child = Some((child, self.state.clone()));
        Ok(())
    }

    fn record(&mut self, pid: i32) -> Result<(), RuntimeError> {
        self.follow(pid)?;
        self.dir.record_process(&self.state)
    }
}

// criu closes what a container inherits, and of its own streams it needs the first for --shell-job. One that is
// closed has no copy.
fn copy_streams() -> [Option<OwnedFd>; STREAMS] {
    standard_streams().map(|stream| stream.try_clone_to_owned().ok())
}

// criu leaves an empty network namespace as the kernel made it.
fn bring_loopback_up(pid: i32) -> io::Result<()> {
    let (own, its) = (File::open("/proc/self/ns/net")?, File::open(format!("/proc/{pid}/ns/net"))?);
    if own.metadata()?.ino() == its.metadata()?.ino() {
        return Ok(());
    }
    join_namespaces(its.as_fd(), libc::CLONE_NEWNET)?;
    let up = ctr_sys::socket::bring_loopback_up();
    join_namespaces(own.as_fd(), libc::CLONE_NEWNET)?;
    up
}

// Those that criu finds by descriptor; the others it joins by path.
fn open_namespaces(plan: &Plan) -> Result<Vec<(&'static str, File)>, RuntimeError> {
    let open = |(kind, path): &(i32, PathBuf)| {
        let key = request::key_of_namespace(*kind)?;
        Some(File::open(path).map(|file| (key, file)).map_err(RuntimeError::io("open the namespace", path)))
    };
    plan.namespaces.join.iter().filter_map(open).collect()
}

fn cgroups_of(pid: i32) -> Result<Vec<(String, String)>, RuntimeError> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(RuntimeError::io("read", &path))?;
    Ok(parse_cgroups(&text))
}

/// Takes the lines `ID:NAME,NAME…:PATH` apart.
fn parse_cgroups(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        Some(names.split(',').map(|name| (name.to_owned(), path.to_owned())).collect::<Vec<_>>())
    };
    text.lines().filter_map(line).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_the_path_of_its_hierarchy() {
        let found = parse_cgroups("5:cpu,cpuacct:/x\n1:name=systemd:/a:b\n0::/x/y\n");
        let expected = [("cpu", "/x"), ("cpuacct", "/x"), ("name=systemd", "/a:b"), ("", "/x/y")];
        assert_eq!(found, expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }
}
