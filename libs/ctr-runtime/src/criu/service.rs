// SPDX-License-Identifier: Apache-2.0
//! criu as a process of its own that answers one request (`criu swrk`), and the conversation with it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ctr_sys::process::{self as sys, Child, Clone3};
use ctr_sys::{mount, wait};
use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use super::message::{Notification, Request, Response, Version};
use crate::RuntimeError;
use crate::cgroup::JoinFds;
use crate::process::report::{Channel, Message, Step, StepResult};

/// The oldest criu whose service tells its version.
const OLDEST: Version = Version(3, 0);
/// Longer than any response: they hold one path or one line.
const MAX_RESPONSE: usize = 64 << 10;

/// The criu of this machine.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    version: Version,
}

/// What criu is started with.
#[derive(Debug, Default)]
pub(super) struct Setting<'a> {
    /// Standard streams: this process' own, which a container gets; otherwise none.
    pub(super) own_stdio: bool,
    /// Descriptors that keep their numbers.
    pub(super) inherit: Vec<RawFd>,
    /// The cgroup that it is born in.
    pub(super) cgroup: Option<&'a JoinFds>,
    /// Trees of mounts, and where it finds them: in a mount namespace of its own, which ends with it. They are
    /// nobody else's, and gone with whoever is killed.
    pub(super) mounts: Vec<(BorrowedFd<'a>, &'a Path)>,
    /// Directories that it opens itself, each at the number that this process has it open at: a descriptor
    /// of this one is of a mount that it could mount nothing on.
    pub(super) directories: Vec<(&'a Path, RawFd)>,
}

impl Program {
    /// Finds criu and asks for its version.
    pub(super) fn find() -> Result<Self, RuntimeError> {
        let path = find_in_path("criu").ok_or(RuntimeError::CriuMissing)?;
        let path = CString::new(path.into_os_string().into_vec()).expect("a path has no NUL bytes");
        let mut program = Self { path, version: Version::default() };
        program.version = program.ask("tell its version", &Request::Version)?.version;
        program.require(OLDEST, "its service")?;
        Ok(program)
    }

    /// Whether it is at least as new as that.
    pub(super) fn is(&self, version: Version) -> bool {
        self.version >= version
    }

    /// Fails when it is older than what `what` needs.
    pub(super) fn require(&self, version: Version, what: &str) -> Result<(), RuntimeError> {
        match self.is(version) {
            true => Ok(()),
            false => Err(RuntimeError::CriuTooOld {
                found: self.version.to_string(),
                needed: version.to_string(),
                what: what.to_owned(),
            }),
        }
    }

    /// Which features it has with this kernel.
    pub(super) fn features(&self) -> Result<Response, RuntimeError> {
        self.ask("tell its features", &Request::Features)
    }

    fn ask(&self, action: &'static str, request: &Request) -> Result<Response, RuntimeError> {
        let nothing_to_note = |_: &Notification, _| Ok(());
        self.start(&Setting::default())?.converse(action, request, nothing_to_note)
    }

    /// Starts it; it waits for a request.
    pub(super) fn start(&self, setting: &Setting<'_>) -> Result<Service, RuntimeError> {
        let (report, teller) = Channel::pair().map_err(RuntimeError::call("make a socket pair"))?;
        let errors = memfd_create(c"criu", MFdFlags::MFD_CLOEXEC).map_err(RuntimeError::errno("make a file"))?;
        let how = Clone3 { flags: 0, cgroup: setting.cgroup.and_then(JoinFds::v2) };
        let child = sys::spawn(how, || {
            let Err(failure) = self.execute(setting, &teller, errors.as_fd());
            let _ = teller.send(&Message::Failed(failure));
            1
        });
        let child = child.map_err(RuntimeError::call("make a process for criu"))?;
        drop(teller);
        let mut service = Service { child, socket: None, errors: errors.into(), reaped: false };
        loop {
            match report.receive().map_err(RuntimeError::call("hear from criu's process"))? {
                // It was executed.
                None if service.socket.is_some() => return Ok(service),
                Some(Message::Socket(socket)) => service.socket = Some(socket),
                Some(Message::Failed(failure)) => return Err(failure.into()),
                _ => return Err(RuntimeError::call("hear from criu's process")(io::ErrorKind::InvalidData.into())),
            }
        }
    }

    // In its process.
    fn execute(&self, setting: &Setting<'_>, teller: &Channel, errors: BorrowedFd<'_>) -> StepResult<Infallible> {
        if let Some(cgroup) = setting.cgroup {
            cgroup.join_self().map_err(|failure| failure.errno).step("enter the container's cgroups")?;
        }
        attach_alone(&setting.mounts)?;
        for (path, number) in &setting.directories {
            let directory = File::open(path).step_with(|| format!("open the directory {}", path.display()))?;
            sys::put_at(directory.as_fd(), *number).step("hand a directory to criu")?;
        }
        if !setting.own_stdio {
            let null = File::options().read(true).write(true).open("/dev/null").step("open /dev/null")?;
            nix::unistd::dup2_stdin(&null).step("use /dev/null for standard input")?;
            nix::unistd::dup2_stdout(&null).step("use /dev/null for standard output")?;
            nix::unistd::dup2_stderr(errors).step("keep what criu says")?;
        }
        // criu looks for descriptors at whoever made the socket.
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .step("make a socket pair")?;
        teller.send(&Message::Socket(ours)).step("hand over the socket to criu")?;
        for fd in setting.inherit.iter().chain([&theirs.as_raw_fd()]) {
            sys::keep_through_exec(*fd).step("hand a descriptor to criu")?;
        }
        sys::reset_signals();
        let number = CString::new(theirs.as_raw_fd().to_string()).expect("digits");
        let args = [c"criu".to_owned(), c"swrk".to_owned(), number];
        let env = std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let env: Vec<CString> = env.filter_map(|entry| CString::new(entry).ok()).collect();
        Err(sys::execve(&self.path, &args, &env)).step_with(|| format!("exec {:?}", self.path))
    }
}

fn attach_alone(mounts: &[(BorrowedFd<'_>, &Path)]) -> StepResult<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).step("make a mount namespace for criu")?;
    let nothing = None::<&str>;
    nix::mount::mount(nothing, "/", nothing, MsFlags::MS_SLAVE | MsFlags::MS_REC, nothing)
        .step("change the propagation of criu's mounts")?;
    for (tree, place) in mounts {
        let target = crate::rootfs::open_directory(place).step_with(|| format!("open {}", place.display()))?;
        mount::move_mount(*tree, target.as_fd()).step_with(|| format!("attach a mount to {}", place.display()))?;
    }
    Ok(())
}

/// A criu that was started.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    /// None before it was executed, and in the end.
    socket: Option<OwnedFd>,
    errors: File,
    reaped: bool,
}

impl Service {
    /// Its process.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid.as_raw()
    }

    /// Makes a request, calls `note` at each point of the work that criu tells of, and waits for criu's end. A
    /// failure of `note` makes criu give up.
    pub(super) fn converse(
        mut self,
        action: &'static str,
        request: &Request,
        mut note: impl FnMut(&Notification, Option<OwnedFd>) -> Result<(), RuntimeError>,
    ) -> Result<Response, RuntimeError> {
        self.send(request)?;
        let mut refused = None;
        let response = loop {
            let Some((response, fd)) = self.receive()? else {
                let reason = self.last_words();
                return Err(refused.unwrap_or(RuntimeError::Criu { action, reason }));
            };
            let Some(notification) = &response.notification else { break response };
            match note(notification, fd) {
                Ok(()) => self.send(&Request::Noted)?,
                Err(error) => {
                    refused.get_or_insert(error);
                    self.send(&Request::Refused)?;
                }
            }
        };
        self.socket = None;
        self.reaped = true;
        let end = wait::wait(self.child.pid).map_err(RuntimeError::call("wait for criu"));
        let stopped = matches!(request, Request::PreDump(_)); // it waits for more, which does not come
        match (refused, response.success, end?.status()) {
            (Some(error), ..) => Err(error),
            (None, true, status) if status == 0 || stopped => Ok(response),
            (None, true, status) => {
                Err(RuntimeError::Criu { action, reason: format!("it ended with status {status}") })
            }
            (None, false, _) => Err(RuntimeError::Criu { action, reason: self.reason(&response) }),
        }
    }

    fn send(&self, request: &Request) -> Result<(), RuntimeError> {
        let socket = self.socket.as_ref().expect("it was executed").as_raw_fd();
        match send(socket, &request.encode(), MsgFlags::MSG_NOSIGNAL) {
            // It has ended, and what it said last is still to be read.
            Err(nix::errno::Errno::EPIPE) | Ok(_) => Ok(()),
            Err(errno) => Err(RuntimeError::errno("send a request to criu")(errno)),
        }
    }

    fn receive(&self) -> Result<Option<(Response, Option<OwnedFd>)>, RuntimeError> {
        let socket = self.socket.as_ref().expect("it was executed").as_fd();
        let mut packet = vec![0; MAX_RESPONSE];
        let (n, fd) = loop {
            match ctr_sys::socket::receive_fd(socket, &mut packet) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                result => break result.map_err(RuntimeError::call("hear from criu"))?,
            }
        };
        if n == 0 {
            return Ok(None);
        }
        let malformed = || RuntimeError::call("hear from criu")(io::ErrorKind::InvalidData.into());
        Response::decode(&packet[..n]).map(|response| Some((response, fd))).ok_or_else(malformed)
    }

    fn reason(&self, response: &Response) -> String {
        match &response.message {
            Some(message) => message.trim().to_owned(),
            None if response.errno != 0 => nix::errno::Errno::from_raw(response.errno).desc().to_lowercase(),
            None => self.last_words(),
        }
    }

    // What it wrote before it had a log.
    fn last_words(&self) -> String {
        let mut text = Vec::new();
        let mut errors = &self.errors;
        let read = errors.rewind().and_then(|()| errors.take(64 << 10).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        match (read, text.lines().rfind(|line| !line.trim().is_empty())) {
            (Ok(_), Some(line)) => line.trim().to_owned(),
            _ => "it ended without an answer".to_owned(),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // Without a caller it takes back what it has done; what does not come to an end is ended.
        self.socket = None;
        let patience = PollTimeout::from(10_000_u16);
        let _ = poll(&mut [PollFd::new(self.child.pidfd.as_fd(), PollFlags::POLLIN)], patience);
        let _ = sys::pidfd_send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        let _ = wait::wait(self.child.pid);
    }
}

// Callers with a short path are many, and Debian's criu is among the programs for administrators.
fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let places = std::env::split_paths(OsStr::new(&path)).filter(|dir| dir.is_absolute()).chain(system);
    places.map(|dir| dir.join(name)).find(|file| {
        let executable = nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok();
        executable && file.is_file()
    })
}
