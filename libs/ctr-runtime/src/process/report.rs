// SPDX-License-Identifier: Apache-2.0
//! What a container's process tells its parent while it is being set up.
//!
//! One message is one packet: a letter, and what belongs to it. A failure is the step, the operand and
//! the errno; end of file means that the program was executed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use ctr_record::ErrorKind;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::caller::listener::Listener;

/// The longest message; operands are paths.
const MAX_MESSAGE: usize = 8192;

/// A step of the set-up that failed in the container's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitFailure {
    /// What was tried, `mount /proc`.
    pub step: String,
    /// Why it failed; no errno when the step found the reason itself.
    pub errno: Option<i32>,
    /// 127 or 126 when it was the program that could not be executed, else 0.
    pub exec_status: u8,
}

/// The result of a step in the container's process.
pub(crate) type StepResult<T> = Result<T, InitFailure>;

impl InitFailure {
    /// A failure that no system call reported.
    pub fn finding(step: impl Into<String>) -> Self {
        Self { step: step.into(), errno: None, exec_status: 0 }
    }

    pub(crate) fn exec_status(&self) -> Option<u8> {
        (self.exec_status != 0).then_some(self.exec_status)
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self.errno {
            Some(errno) => ErrorKind::of_io(&io::Error::from_raw_os_error(errno)),
            None => ErrorKind::Failed,
        }
    }
}

impl std::fmt::Display for InitFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.step)?;
        match self.errno {
            Some(errno) => write!(f, ": {}", describe(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for InitFailure {}

/// What an errno means, in lower case, as Go writes it and as callers look for it.
pub(crate) fn describe(errno: i32) -> String {
    let text = Errno::from_raw(errno).desc();
    text[..1].to_ascii_lowercase() + &text[1..]
}

/// Names the step that a system call belongs to.
pub(crate) trait Step<T> {
    fn step(self, what: impl Into<String>) -> StepResult<T>;

    /// The same where the words are only worth making when it fails.
    fn step_with(self, what: impl FnOnce() -> String) -> StepResult<T>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl Into<String>) -> StepResult<T> {
        self.step_with(|| what.into())
    }

    fn step_with(self, what: impl FnOnce() -> String) -> StepResult<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            match error.raw_os_error() {
                Some(errno) => InitFailure { step: what(), errno: Some(errno), exec_status: 0 },
                None => InitFailure::finding(format!("{}: {error}", what())),
            }
        })
    }
}

/// A message between a container's process and its parent.
#[derive(Debug)]
pub(crate) enum Message {
    /// From the child: its user namespace awaits its mappings.
    WantsMappings,
    /// From the child: its namespaces and mounts are there, and the turn is that of what is done outside:
    /// network devices, and hooks in the runtime's namespaces.
    WantsRuntime,
    /// From the child: it may not set its resource limits itself.
    WantsLimits,
    /// From the child: a detached mount whose ids are to be mapped as the plan has it, in the order of the plan.
    Unmapped(OwnedFd),
    /// From the child: its seccomp listener.
    Listener(Listener),
    /// From the child: the master of its terminal.
    Terminal(OwnedFd),
    /// From the child: everything is set up but the program is not yet executed. It is answered, so that
    /// no process waits for a start that nothing is recorded of.
    Ready,
    /// From the child: a step failed, and the process ends.
    Failed(InitFailure),
    /// From another child: the socket that its program is talked to by.
    Socket(OwnedFd),
    /// From the parent: go on.
    Go,
    /// From the parent: a network namespace to join.
    Network(OwnedFd),
    /// From the parent: go on, and this is the root, which a user namespace may not be able to reach.
    Root(OwnedFd),
}

/// One end of the channel between a container's process and its parent.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Makes both ends, close-on-exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &Message) -> io::Result<()> {
        let plain = |letter: u8| nix::sys::socket::send(self.raw(), &[letter], no_signal()).map(drop);
        match message {
            Message::WantsMappings => plain(b'U')?,
            Message::WantsRuntime => plain(b'H')?,
            Message::WantsLimits => plain(b'L')?,
            Message::Ready => plain(b'R')?,
            Message::Go => plain(b'G')?,
            Message::Listener(Listener::Number(number)) => {
                let [a, b, c, d] = number.to_ne_bytes();
                // The one call that no profile may put to the listener.
                nix::unistd::write(&self.0, &[b'N', a, b, c, d])?;
            }
            Message::Listener(Listener::Itself(fd)) => {
                return ctr_sys::socket::send_fd(self.0.as_fd(), b"F", fd.as_fd());
            }
            Message::Unmapped(fd) => return ctr_sys::socket::send_fd(self.0.as_fd(), b"M", fd.as_fd()),
            Message::Terminal(fd) => return ctr_sys::socket::send_fd(self.0.as_fd(), b"T", fd.as_fd()),
            Message::Socket(fd) => return ctr_sys::socket::send_fd(self.0.as_fd(), b"S", fd.as_fd()),
            Message::Root(fd) => return ctr_sys::socket::send_fd(self.0.as_fd(), b"D", fd.as_fd()),
            Message::Network(fd) => return ctr_sys::socket::send_fd(self.0.as_fd(), b"W", fd.as_fd()),
            Message::Failed(failure) => {
                let mut packet = vec![b'E', failure.exec_status];
                packet.extend(failure.errno.unwrap_or(0).to_ne_bytes());
                let room = MAX_MESSAGE - packet.len();
                packet.extend(failure.step.bytes().take(room));
                nix::sys::socket::send(self.raw(), &packet, no_signal())?;
            }
        }
        Ok(())
    }

    /// Says that the process is ready, and waits until that is recorded; `false`: there is nobody to record
    /// it. A seccomp profile may be in force by now, and these two calls are what every one allows.
    pub(crate) fn await_record(&self) -> io::Result<bool> {
        nix::unistd::write(&self.0, b"R")?;
        self.await_go()
    }

    /// Hands a seccomp listener over and waits until it is taken; `false`: there is nobody to take it.
    ///
    /// The process is not to be inspected, so a parent without root may not take it by its number.
    pub(crate) fn hand_over(&self, listener: OwnedFd, rootless: bool) -> io::Result<bool> {
        if rootless {
            self.send(&Message::Listener(Listener::Itself(listener)))?;
            return self.await_go();
        }
        self.send(&Message::Listener(Listener::Number(listener.as_raw_fd())))?;
        let taken = self.await_go();
        drop(listener);
        taken
    }

    /// Has the ids of a detached mount mapped; `false`: there is nobody to do it.
    pub(crate) fn map_ids(&self, tree: &OwnedFd) -> io::Result<bool> {
        self.send(&Message::Unmapped(tree.try_clone()?))?;
        self.await_go()
    }

    // Waits with one plain call.
    fn await_go(&self) -> io::Result<bool> {
        let mut answer = [0];
        let n = nix::unistd::read(&self.0, &mut answer)?;
        Ok(answer[..n] == *b"G")
    }

    /// Waits for the next message. `None`: the other end is closed.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        let mut packet = vec![0; MAX_MESSAGE];
        let (n, fd) = loop {
            match ctr_sys::socket::receive_fd(self.0.as_fd(), &mut packet) {
                // Reset: the child has ended with a message of ours unread; what it said before comes after this.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset) => {}
                result => break result?,
            }
        };
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed message from the container's process");
        let message = match (packet[..n].split_first(), fd) {
            (None, _) => return Ok(None),
            (Some((b'U', _)), _) => Message::WantsMappings,
            (Some((b'H', _)), _) => Message::WantsRuntime,
            (Some((b'L', _)), _) => Message::WantsLimits,
            (Some((b'R', _)), _) => Message::Ready,
            (Some((b'G', _)), _) => Message::Go,
            (Some((b'N', number)), _) => {
                let number = number.try_into().map_err(|_| malformed())?;
                Message::Listener(Listener::Number(RawFd::from_ne_bytes(number)))
            }
            (Some((b'F', _)), Some(fd)) => Message::Listener(Listener::Itself(fd)),
            (Some((b'M', _)), Some(fd)) => Message::Unmapped(fd),
            (Some((b'T', _)), Some(fd)) => Message::Terminal(fd),
            (Some((b'S', _)), Some(fd)) => Message::Socket(fd),
            (Some((b'D', _)), Some(fd)) => Message::Root(fd),
            (Some((b'W', _)), Some(fd)) => Message::Network(fd),
            (Some((b'E', [status, rest @ ..])), _) if rest.len() >= 4 => {
                let (errno, step) = rest.split_at(4);
                let errno = i32::from_ne_bytes(errno.try_into().expect("four bytes"));
                Message::Failed(InitFailure {
                    step: String::from_utf8_lossy(step).into_owned(),
                    errno: (errno != 0).then_some(errno),
                    exec_status: *status,
                })
            }
            _ => return Err(malformed()),
        };
        Ok(Some(message))
    }

    fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.raw()
    }
}

fn no_signal() -> nix::sys::socket::MsgFlags {
    nix::sys::socket::MsgFlags::MSG_NOSIGNAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (ours, theirs) = Channel::pair().unwrap();
        let failure = InitFailure { step: "exec \"/x\"".into(), errno: Some(libc::ENOENT), exec_status: 127 };
        theirs.send(&Message::Failed(failure.clone())).unwrap();
        drop(theirs);
        assert!(matches!(ours.receive().unwrap(), Some(Message::Failed(got)) if got == failure));
        assert!(ours.receive().unwrap().is_none());
        // One that ends before it has read everything.
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&Message::Go).unwrap();
        theirs.send(&Message::Failed(failure.clone())).unwrap();
        drop(theirs);
        assert!(matches!(ours.receive().unwrap(), Some(Message::Failed(got)) if got == failure));
        assert!(ours.receive().unwrap().is_none());
        assert_eq!(failure.to_string(), "exec \"/x\": no such file or directory");
    }
}
