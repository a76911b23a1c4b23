// SPDX-License-Identifier: Apache-2.0
//! The container's first process, from its birth in its namespaces to the execution of its program.
//!
//! It runs in a copy of the runtime's memory. Everything that can be prepared outside has been; what
//! fails here is reported over the channel as step and errno, and the process ends.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ctr_sys::process as sys;
use nix::sys::stat::{Mode, umask};

use crate::caller::tty;
use crate::hooks::{self, Outputs, Setting};
use crate::network::Network;
use crate::plan::{Plan, words};
use crate::process::gate::Gate;
use crate::process::launch::Launch;
use crate::process::report::{Channel, InitFailure, Message, Step, StepResult};
use crate::rootfs::beneath::Root;
use crate::rootfs::device;
use crate::rootfs::finalise;
use crate::rootfs::mount_source::Source;
use crate::rootfs::mounting::{Mounter, complete, settle};
use crate::rootfs::{self, Prepared};
use crate::timing::{self, Stage};

/// What the process needs besides the plan.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) prepared: Prepared,
    /// Namespaces to join, opened by the parent: kind and descriptor.
    pub(crate) join: Vec<(i32, OwnedFd)>,
    pub(crate) network: Network,
    pub(crate) channel: Channel,
    pub(crate) gate: Gate,
    /// Where the terminal's master goes; the parent, if nowhere.
    pub(crate) console_socket: Option<OwnedFd>,
    pub(crate) launch: Launch,
    pub(crate) no_pivot: bool,
    /// The state that hooks get, but for its status and pid.
    pub(crate) state: serde_json::Value,
    pub(crate) hook_outputs: Outputs,
}

impl Init<'_> {
    /// Runs to the program, or to a failure; returns the status to end with.
    pub(crate) fn run(mut self) -> i32 {
        let closed = sys::close_inherited(self.launch.first_own_fd(), &mut self.descriptors());
        if closed.is_err() {
            return 1;
        }
        timing::mark(Stage::Birth);
        let Err(failure) = self.become_container();
        let status = failure.exec_status;
        // Whoever waits at the gate hears of it there, whoever waits for the set-up here.
        let _ = self.channel.send(&Message::Failed(failure.clone()));
        self.gate.report(&failure);
        if status == 0 { 1 } else { status.into() }
    }

    fn descriptors(&self) -> Vec<RawFd> {
        let mut all = self.gate.descriptors();
        all.push(self.channel.as_raw_fd());
        all.extend(self.console_socket.iter().map(AsRawFd::as_raw_fd));
        all.extend(self.join.iter().map(|(_, fd)| fd.as_raw_fd()));
        all.extend(self.launch.descriptors());
        all.extend(self.hook_outputs.descriptors());
        all.extend(self.prepared.root.iter().map(AsRawFd::as_raw_fd));
        all.extend(self.prepared.sources.iter().flatten().filter_map(Source::descriptor));
        all
    }

    fn become_container(&mut self) -> StepResult<std::convert::Infallible> {
        if self.plan.namespaces.user.is_some() {
            self.channel.send(&Message::WantsMappings).step("ask for the user namespace's mappings")?;
            self.prepared.root = self.await_go()?;
        }
        self.enter_namespaces()?;
        nix::unistd::setsid().step("begin a session")?;
        timing::mark(Stage::Namespaces);
        // What is made in the root has the modes that it should have.
        let inherited_umask = umask(Mode::empty());
        let root = self.mount_everything()?;
        // As runc: a working directory that the image lacks is made. A failure is chdir's to report.
        let _ = Root(root.as_fd()).make_dir(&self.launch.process.cwd);
        umask(inherited_umask);
        timing::mark(Stage::Mounts);
        if self.plan.waits_for_runtime() {
            self.channel.send(&Message::WantsRuntime).step("wait for the runtime")?;
            self.await_go()?;
        }
        // After those hooks, which may have made the interface that one of them belongs to.
        self.set_kernel_parameters()?;
        self.run_create_hooks(root.as_fd())?;
        timing::mark(Stage::Runtime);
        match self.no_pivot {
            _ if !self.plan.namespaces.is_private(libc::CLONE_NEWNS) => rootfs::change_root(root.as_fd())?,
            false => rootfs::enter(root.as_fd())?,
            true => rootfs::enter_without_pivot(root.as_fd(), &self.plan.rootfs.path)?,
        }
        finalise::finalise(self.plan, Root(root.as_fd()))?;
        drop(root);
        timing::mark(Stage::Finalise);
        self.launch.prepare(&self.channel)?;
        timing::mark(Stage::Rights);
        if self.gate.waits() {
            // Before anybody knows that it is there to be asked.
            sys::end_when_asked();
            match self.channel.await_record().step("report that the container is created")? {
                true => {}
                false => return Err(abandoned()),
            }
        }
        self.gate.wait()?;
        timing::mark(Stage::Opening);
        if !self.plan.hooks.start_container.is_empty() {
            // They are as confined as the program.
            self.launch.load_seccomp(&self.channel)?;
            let setting = self.hook_setting("startContainer");
            hooks::run_in_container(setting, &self.plan.hooks.start_container, &self.state, "created")?;
        }
        self.launch.execute(&self.channel)
    }

    fn enter_namespaces(&mut self) -> StepResult<()> {
        for (kind, fd) in self.join.drain(..) {
            // The parent has joined the pid namespace on behalf of its children.
            if kind != libc::CLONE_NEWPID {
                sys::join_namespaces(fd.as_fd(), kind)
                    .step_with(|| format!("join the {} namespace", words::namespace(kind)))?;
            }
        }
        if self.plan.namespaces.is_private(libc::CLONE_NEWUSER) {
            become_root_of_user_namespace()?;
        }
        sys::forbid_inspection().step("forbid inspection")?;
        if let Some(hostname) = &self.plan.hostname {
            nix::unistd::sethostname(hostname).step("set the hostname")?;
        }
        if let Some(domainname) = &self.plan.domainname {
            ctr_sys::process::set_domainname(domainname).step("set the domain name")?;
        }
        Ok(())
    }

    fn set_kernel_parameters(&self) -> StepResult<()> {
        // The host's /proc shows each process the values of its own namespaces, and no container can
        // put anything in its way (CVE-2025-52881).
        for sysctl in &self.plan.sysctl {
            let (path, value) = (format!("/proc/sys/{}", sysctl.path), &sysctl.value);
            std::fs::write(&path, value).step_with(|| format!("set sysctl {} to {value:?}", sysctl.path))?;
        }
        Ok(())
    }

    // They see the host's file systems, and are in the container's root.
    fn run_create_hooks(&self, root: BorrowedFd<'_>) -> StepResult<()> {
        let hooks = &self.plan.hooks.create_container;
        if hooks.is_empty() {
            return Ok(());
        }
        nix::unistd::fchdir(root).step("change into the rootfs")?;
        let setting = Setting { env: &[], ..self.hook_setting("createContainer") };
        hooks::run_in_container(setting, hooks, &self.state, "creating")
    }

    fn hook_setting(&self, name: &'static str) -> Setting<'_> {
        Setting { name, dir: None, env: &self.launch.process.env, outputs: &self.hook_outputs }
    }

    fn mount_everything(&mut self) -> StepResult<OwnedFd> {
        let fd = rootfs::mount_root(self.plan, &mut self.prepared)?;
        let root = Root(fd.as_fd());
        let in_user_namespace = self.plan.namespaces.is_private(libc::CLONE_NEWUSER);
        let cgroups = std::mem::take(&mut self.prepared.cgroups);
        let mut incomplete = Vec::new();
        let mut sources = std::mem::take(&mut self.prepared.sources).into_iter();
        for planned in &self.plan.mounts {
            if planned.needs_network() || planned.idmap.is_some() {
                self.network.settle(&self.channel)?;
            }
            let mounter =
                Mounter { root, cgroups: &cgroups, in_user_namespace, parent: Some(&self.channel), wants_all: false };
            let Some(mounted) = mounter.mount(planned, sources.next().flatten())? else { continue };
            settle(planned, mounted.as_fd())?;
            if planned.is_read_only_at_last() {
                incomplete.push((planned, mounted));
            }
        }
        self.network.settle(&self.channel)?;
        device::populate(self.plan, root)?;
        if self.launch.process.terminal {
            let console = device::open_console(root, self.launch.process.uid)?;
            if let Some(size) = self.launch.process.console_size {
                ctr_sys::terminal::set_size(console.slave.as_fd(), size).step("set the terminal's size")?;
            }
            device::mount_console(root, console.slave.as_fd())?;
            self.send_terminal(console.master)?;
            self.launch.use_terminal(console.slave);
        }
        for (planned, mounted) in &incomplete {
            complete(planned, mounted)?;
        }
        Ok(fd)
    }

    fn send_terminal(&mut self, master: OwnedFd) -> StepResult<()> {
        match self.console_socket.take() {
            None => {
                tty::leave_newlines(master.as_fd()).step("configure the terminal")?;
                self.channel.send(&Message::Terminal(master)).step("hand over the terminal")
            }
            Some(socket) => ctr_sys::socket::send_fd(socket.as_fd(), b"/dev/ptmx", master.as_fd())
                .step("send the terminal to the console socket"),
        }
    }

    fn await_go(&self) -> StepResult<Option<OwnedFd>> {
        match self.channel.receive() {
            Ok(Some(Message::Go)) => Ok(None),
            Ok(Some(Message::Root(root))) => Ok(Some(root)),
            _ => Err(abandoned()),
        }
    }
}

// The parent is gone or has given up; there is nobody to report to.
pub(crate) fn abandoned() -> InitFailure {
    InitFailure::finding("the runtime ended while the container was being set up")
}

/// Becomes uid and gid 0 of the user namespace, whose mappings are there by now.
pub(crate) fn become_root_of_user_namespace() -> StepResult<()> {
    let (root_group, root) = (nix::unistd::Gid::from_raw(0), nix::unistd::Uid::from_raw(0));
    nix::unistd::setresgid(root_group, root_group, root_group).step("become group 0 of the user namespace")?;
    nix::unistd::setresuid(root, root, root).step("become user 0 of the user namespace")
}
