// SPDX-License-Identifier: Apache-2.0
//! Descriptors passed over Unix sockets, and the loopback interface switched on.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends a message with a descriptor beside it (`SCM_RIGHTS`).
pub fn send_fd(socket: BorrowedFd<'_>, message: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives a message and the descriptor beside it, if there is one. 0 bytes: the other end is closed.
pub fn receive_fd(socket: BorrowedFd<'_>, message: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(message)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut first = None;
    for control in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just put this descriptor into our table, and nobody else knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                first.get_or_insert(fd); // further ones are closed
            }
        }
    }
    Ok((received.bytes, first))
}

/// Switches the loopback interface of this network namespace on.
pub fn bring_loopback_up() -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let request = loopback_up();
    // SAFETY: SIOCSIFFLAGS reads an ifreq whose flags are set, which `request` is; it outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What SIOCSIFFLAGS is asked for that.
pub(crate) fn loopback_up() -> libc::ifreq {
    // SAFETY: an ifreq of zeros is a valid value: an empty name and a union of plain integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request
}
