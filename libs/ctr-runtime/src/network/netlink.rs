// SPDX-License-Identifier: Apache-2.0
//! As much of rtnetlink(7) as moving a network device takes: links and addresses, asked for and changed.
//!
//! A message is a header, a fixed part and attributes, each with its length in front. Whatever is received is
//! read with every length checked against what there is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ctr_sys::process::join_namespaces;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A network namespace's rtnetlink.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A request under construction.
#[derive(Debug)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request with its fixed part (`ifinfomsg`, `ifaddrmsg`); `flags` are `NLM_F_*` besides the usual.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self { kind, flags, body: fixed.to_vec() }
    }

    /// Adds an attribute. Those of this runtime are some bytes long.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("an attribute is short");
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self
    }

    fn encode(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.body.len()).expect("a request is short");
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(self.kind.to_ne_bytes());
        message.extend((self.flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes()); // the kernel
        message.extend(&self.body);
        message
    }
}

impl Netlink {
    /// Opens that of this process' network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // Then nobody but the kernel can send to it.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens that of another one.
    pub(crate) fn open_in(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let own = std::fs::File::open("/proc/self/ns/net")?;
        join_namespaces(namespace, libc::CLONE_NEWNET)?;
        let opened = Self::open();
        join_namespaces(own.as_fd(), libc::CLONE_NEWNET)?;
        opened
    }

    /// Performs a request that is answered by yes or no.
    pub(crate) fn perform(&mut self, mut request: Request) -> io::Result<()> {
        request.flags |= NLM_F_ACK;
        self.send(&request)?;
        self.receive().map(drop)
    }

    /// Asks for all of something; each answer begins with the fixed part.
    pub(crate) fn list(&mut self, mut request: Request) -> io::Result<Vec<Vec<u8>>> {
        const TRIES: u32 = 8;
        request.flags |= NLM_F_DUMP;
        let mut tries = 0;
        loop {
            self.send(&request)?;
            tries += 1;
            match self.receive()? {
                // Something changed meanwhile, and the list may lack something that was there all the time.
                (_, true) if tries < TRIES => {}
                (list, _) => return Ok(list),
            }
        }
    }

    fn send(&mut self, request: &Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = request.encode(self.sequence);
        let sent = send(self.raw(), &message, MsgFlags::empty())?;
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    // All answers to the last request, and whether they are of different moments.
    fn receive(&self) -> io::Result<(Vec<Vec<u8>>, bool)> {
        let mut answers = Answers { sequence: self.sequence, list: Vec::new(), interrupted: false };
        let mut packet = vec![0; 64 << 10];
        loop {
            // With this flag it is the length that the packet had, whatever of it found room.
            let length = recv(self.raw(), &mut packet, MsgFlags::MSG_TRUNC)?;
            let packet = packet.get(..length).ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
            if answers.take(packet)? {
                return Ok((answers.list, answers.interrupted));
            }
        }
    }

    fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

struct Answers {
    sequence: u32,
    list: Vec<Vec<u8>>,
    interrupted: bool,
}

impl Answers {
    // Whether the last one was in the packet.
    fn take(&mut self, mut packet: &[u8]) -> io::Result<bool> {
        while !packet.is_empty() {
            let length = u32_at(packet, 0)? as usize;
            let message = packet.get(..length).filter(|_| length >= HEADER).ok_or_else(malformed)?;
            packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
            if u32_at(message, 8)? != self.sequence {
                continue;
            }
            let (kind, flags) = (u16_at(message, 4)?, u16_at(message, 6)?);
            self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
            let body = &message[HEADER..];
            match kind {
                // Both begin with an errno, if the kernel has something to say there.
                NLMSG_ERROR | NLMSG_DONE if body.len() >= 4 && u32_at(body, 0)? != 0 => {
                    return Err(io::Error::from_raw_os_error((u32_at(body, 0)? as i32).wrapping_neg()));
                }
                NLMSG_ERROR | NLMSG_DONE => return Ok(true),
                _ => self.list.push(body.to_vec()),
            }
        }
        Ok(false)
    }
}

/// The attributes behind a fixed part of `fixed` bytes: kind and value.
pub(crate) fn attributes(answer: &[u8], fixed: usize) -> io::Result<Vec<(u16, &[u8])>> {
    /// Above it are flags.
    const KIND: u16 = 0x3fff;
    let mut rest = answer.get(fixed..).ok_or_else(malformed)?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length).ok_or_else(malformed)?;
        all.push((u16_at(rest, 2)? & KIND, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

/// Four bytes of an answer as a number.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_ne_bytes).ok_or_else(malformed)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_ne_bytes).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message from rtnetlink")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(packet: &[u8]) -> io::Result<(bool, Vec<Vec<u8>>)> {
        let mut answers = Answers { sequence: 7, list: Vec::new(), interrupted: false };
        answers.take(packet).map(|last| (last, answers.list))
    }

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = Request::new(kind, 0, body).encode(sequence);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn attributes_are_padded_and_read_again() {
        let request =
            Request::new(16, 0, &[0; 16]).attribute(3, b"eth0\0").attribute(0x8000 | 28, &9_u32.to_ne_bytes());
        let encoded = request.encode(1);
        assert_eq!(u32_at(&encoded, 0).unwrap() as usize, encoded.len());
        let found = attributes(&encoded[HEADER..], 16).unwrap();
        assert_eq!(found, [(3, &b"eth0\0"[..]), (28, &9_u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn answers_end_with_a_verdict() {
        let mut packet = message(16, 7, b"four");
        packet.extend(message(16, 6, b"of another request"));
        assert_eq!(answers(&packet).unwrap(), (false, vec![b"four".to_vec()]));
        packet.extend(message(NLMSG_DONE, 7, &[0; 4]));
        assert!(answers(&packet).unwrap().0);
        let refused = message(NLMSG_ERROR, 7, &(-libc::EEXIST).to_ne_bytes());
        assert_eq!(answers(&refused).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    }

    #[test]
    fn cve_2021_43784_lengths_that_lead_outside_are_refused() {
        let good = message(16, 7, b"four");
        for length in [0, 1, 15, 21, u32::MAX] {
            let mut bad = good.clone();
            bad[..4].copy_from_slice(&u32::to_ne_bytes(length));
            assert!(answers(&bad).is_err(), "{length}");
        }
        for end in 1..good.len() {
            assert!(answers(&good[..end]).is_err(), "{end}");
        }
        for length in [0_u16, 3, 9, u16::MAX] {
            let mut attribute = length.to_ne_bytes().to_vec();
            attribute.extend([0; 6]);
            assert!(attributes(&attribute, 0).is_err(), "{length}");
        }
        assert!(attributes(&[0; 15], 16).is_err());
    }

    #[test]
    fn the_loopback_device_is_listed() {
        let links = Netlink::open().unwrap().list(Request::new(libc::RTM_GETLINK, 0, &[0; 16])).unwrap();
        let is_loopback = |link: &Vec<u8>| attributes(link, 16).unwrap().contains(&(libc::IFLA_IFNAME, b"lo\0"));
        assert!(links.iter().any(is_loopback));
    }
}
