// SPDX-License-Identifier: Apache-2.0
//! A connection to a peer: made, proven whose it is, and used for one call after the other.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};

use super::address::of_systemd;
use super::message::{Incomplete, Kind};
use super::{Address, Call, DbusError, Message, Value};

/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that a peer may say before it has agreed who we are.
const LONGEST_LINE: usize = 4096;

/// A connection over which methods are called.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    address: Address,
    serial: u32,
    /// What has come in and was not yet read as a message.
    bytes: Vec<u8>,
    /// Signals that came in while something else was waited for.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects to systemd: the system's, or that of the user who calls.
    pub(crate) fn to_systemd(user: bool) -> Result<Self, DbusError> {
        let mut result = Err(DbusError::NoUserBus);
        for address in of_systemd(user, |name| std::env::var_os(name))? {
            result = Self::open(address);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Connects to a peer at an address.
    pub(crate) fn open(address: Address) -> Result<Self, DbusError> {
        let stream = dial(&address).map_err(|source| DbusError::Connect { address: address.text.clone(), source })?;
        let mut connection = Self { stream, address, serial: 0, bytes: Vec::new(), signals: Vec::new() };
        connection.authenticate()?;
        if !connection.address.direct {
            connection.call_bus("Hello", &[])?;
        }
        Ok(connection)
    }

    /// As whom the kernel says that we are (D-Bus Specification, "EXTERNAL"); the peer knows the number by
    /// the mappings of its own user namespace.
    fn authenticate(&mut self) -> Result<(), DbusError> {
        // All at once: systemd does not look again at a message that it has read together with BEGIN, until
        // another comes. So the first is sent when the answer to what is before BEGIN has come.
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.read_line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => return Ok(()),
                _ => return Err(DbusError::Refused { address: self.address.text.clone(), answer: line }),
            }
        }
    }

    fn read_line(&mut self) -> Result<String, DbusError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
                self.bytes.drain(..end + 2);
                return Ok(line);
            }
            if self.bytes.len() > LONGEST_LINE {
                return Err(self.protocol("its line does not end"));
            }
            self.receive(deadline)?;
        }
    }

    /// Has the bus pass on a signal of systemd's; a direct peer sends them anyway.
    pub(crate) fn subscribe(&mut self, interface: &str, member: &str) -> Result<(), DbusError> {
        if self.address.direct {
            return Ok(());
        }
        let rule = format!("type='signal',interface='{interface}',member='{member}'");
        self.call_bus("AddMatch", &[Value::String(rule)]).map(drop)
    }

    fn call_bus(&mut self, member: &str, arguments: &[Value]) -> Result<Message, DbusError> {
        let name = "org.freedesktop.DBus";
        self.call(&Call { destination: name, path: "/org/freedesktop/DBus", interface: name, member, arguments })
    }

    /// Calls a method and waits for the answer.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Result<Message, DbusError> {
        let deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.encode(serial))?;
        loop {
            let message = self.next_message(deadline)?;
            match &message.kind {
                Kind::Return(to) if *to == serial => return Ok(message),
                Kind::Error(to, name) if *to == serial => {
                    let text = message.text().unwrap_or(name).to_owned();
                    return Err(DbusError::Answer { name: name.clone(), text });
                }
                Kind::Signal(..) => self.signals.push(message),
                // late answers, and calls of what we do not have
                _ => {}
            }
        }
    }

    /// Waits for a signal of which `pick` makes something; `None` when there was none in 30 s.
    pub(crate) fn wait_for<T>(
        &mut self,
        interface: &str,
        member: &str,
        mut pick: impl FnMut(&Message) -> Option<T>,
    ) -> Result<Option<T>, DbusError> {
        let deadline = Instant::now() + PATIENCE;
        let mut come = std::mem::take(&mut self.signals);
        loop {
            for message in come.drain(..) {
                let Kind::Signal(its_interface, its_member) = &message.kind else { continue };
                if its_interface == interface
                    && its_member == member
                    && let Some(picked) = pick(&message)
                {
                    return Ok(Some(picked));
                }
            }
            match self.next_message(deadline) {
                Ok(message) => come.push(message),
                Err(DbusError::Io { source, .. }) if source.kind() == ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// An error of what the peer says.
    pub(crate) fn protocol(&self, reason: &'static str) -> DbusError {
        DbusError::Protocol { address: self.address.text.clone(), reason }
    }

    fn next_message(&mut self, deadline: Instant) -> Result<Message, DbusError> {
        loop {
            match Message::decode(&self.bytes) {
                Ok((message, length)) => {
                    self.bytes.drain(..length);
                    return Ok(message);
                }
                Err(Incomplete::CutOff) => self.receive(deadline)?,
                Err(Incomplete::Broken(reason)) => return Err(self.protocol(reason)),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), DbusError> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|source| self.io(source))
    }

    /// Waits for more bytes, until the deadline.
    fn receive(&mut self, deadline: Instant) -> Result<(), DbusError> {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.io(ErrorKind::TimedOut.into()));
            }
            self.stream.set_read_timeout(Some(left)).map_err(|source| self.io(source))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.io(ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    self.bytes.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                // the deadline is looked at again
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(self.io(error)),
            }
        }
    }

    fn io(&self, source: io::Error) -> DbusError {
        DbusError::Io { address: self.address.text.clone(), source }
    }
}

/// Connects, without waiting for ever for a peer that accepts nobody.
fn dial(address: &Address) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let stream = UnixStream::from(fd);
    // which connect(2) heeds as well
    stream.set_write_timeout(Some(PATIENCE))?;
    loop {
        match connect(stream.as_raw_fd(), &address.socket) {
            Ok(()) => return Ok(stream),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
