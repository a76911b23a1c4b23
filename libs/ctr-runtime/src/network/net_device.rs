// SPDX-License-Identifier: Apache-2.0
//! Moves network devices of the host into a container's network namespace.
//!
//! They stay there: what becomes of them with the namespace is the kernel's business (runtime-spec,
//! config-linux, "Namespace Lifecycle and Container Termination").

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use crate::RuntimeError;
use crate::network::netlink::{Netlink, Request, attributes, u32_at};
use crate::plan::NetDevice;

/// The sizes of `ifinfomsg` and `ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;

const NLM_F_CREATE_EXCL: u16 = 0x400 | 0x200;
/// What an address keeps of its flags: not to look for duplicates, and to have no route of its own.
const KEPT_FLAGS: u32 = 0x02 | 0x200;

/// Moves devices into the network namespace of a process.
pub(crate) fn move_all(devices: &[NetDevice], pid: i32) -> Result<(), RuntimeError> {
    if devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/net");
    let path = Path::new(&path);
    let namespace = File::open(path).map_err(RuntimeError::io("open the network namespace", path))?;
    let mut host = Netlink::open().map_err(RuntimeError::call("open rtnetlink"))?;
    let mut inside = Netlink::open_in(namespace.as_fd())
        .map_err(RuntimeError::call("open rtnetlink in the container's network namespace"))?;
    devices.iter().try_for_each(|device| move_one(device, &mut host, &mut inside, &namespace))
}

fn move_one(
    device: &NetDevice,
    host: &mut Netlink,
    inside: &mut Netlink,
    namespace: &File,
) -> Result<(), RuntimeError> {
    let during = |action| move |source| RuntimeError::NetDevice { action, name: device.name.clone(), source };
    let gone = || io::Error::from_raw_os_error(libc::ENODEV);
    let here = links(host).map_err(during("find"))?;
    let link = here.iter().find(|link| link.name == device.name).ok_or_else(gone).map_err(during("find"))?;
    let before = links(inside).map_err(during("find the place for"))?;
    if !device.is_template() && before.iter().any(|link| link.name == device.inside) {
        let reason = format!("{:?} exists in the container's network namespace already", device.inside);
        return Err(RuntimeError::config("linux.netDevices", reason));
    }
    // The kernel takes them away with the move, and with the device going down.
    let addresses = addresses(host, link.index).map_err(during("read the addresses of"))?;

    // Both in one request: on the way it could meet another one of its old name.
    let mut name = device.inside.clone().into_bytes();
    name.push(0);
    let request = Request::new(libc::RTM_NEWLINK, 0, &link_header(link.index, 0))
        .attribute(libc::IFLA_IFNAME, &name)
        .attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    host.perform(request).map_err(during("move"))?;

    let after = links(inside).map_err(during("set up"))?;
    let index = arrived(link.index, &before, &after).ok_or_else(gone).map_err(during("set up"))?;
    for address in addresses {
        inside.perform(address.request(index)).map_err(during("give its addresses to"))?;
    }
    let up = Request::new(libc::RTM_NEWLINK, 0, &link_header(index, libc::IFF_UP as u32));
    inside.perform(up).map_err(during("set up"))
}

// A device keeps its number, unless another one has it.
fn arrived(index: i32, before: &[Link], after: &[Link]) -> Option<i32> {
    let is_new = |link: &&Link| before.iter().all(|old| old.index != link.index);
    let mut new = after.iter().filter(is_new).map(|link| link.index);
    new.clone().find(|new| *new == index).or_else(|| new.next())
}

struct Link {
    index: i32,
    name: String,
}

fn links(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    let read = |answer: &Vec<u8>| {
        let index = u32_at(answer, 4)? as i32;
        let name = attributes(answer, LINK)?.into_iter().find(|(kind, _)| *kind == libc::IFLA_IFNAME);
        let name = name.and_then(|(_, name)| CStr::from_bytes_until_nul(name).ok());
        Ok(Link { index, name: name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default() })
    };
    netlink.list(Request::new(libc::RTM_GETLINK, 0, &[0; LINK]))?.iter().map(read).collect()
}

// `ifinfomsg`: of any family and type, the number, and the flags to set.
fn link_header(index: i32, flags: u32) -> [u8; LINK] {
    let mut header = [0; LINK];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Address, local address and broadcast address as there are: kind and value.
    parts: Vec<(u16, Vec<u8>)>,
}

impl Address {
    fn request(&self, index: i32) -> Request {
        let mut header = [self.family, self.prefix, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let request = Request::new(libc::RTM_NEWADDR, NLM_F_CREATE_EXCL, &header)
            .attribute(libc::IFA_FLAGS, &(self.flags & KEPT_FLAGS).to_ne_bytes());
        self.parts.iter().fold(request, |request, (kind, value)| request.attribute(*kind, value))
    }
}

// Those of a device that were given to it for good and are good everywhere.
fn addresses(netlink: &mut Netlink, index: i32) -> io::Result<Vec<Address>> {
    let mut found = Vec::new();
    for answer in netlink.list(Request::new(libc::RTM_GETADDR, 0, &[0; ADDRESS]))? {
        let parts = attributes(&answer, ADDRESS)?;
        let [family, prefix, flags, scope, ..] = answer[..] else { continue };
        if u32_at(&answer, 4)? as i32 != index || scope != libc::RT_SCOPE_UNIVERSE {
            continue;
        }
        let wide = parts.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS);
        let flags = wide.map_or(Ok(flags.into()), |(_, flags)| u32_at(flags, 0))?;
        if flags & libc::IFA_F_PERMANENT == 0 {
            continue;
        }
        let wanted = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST];
        let parts = parts.into_iter().filter(|(kind, _)| wanted.contains(kind));
        let parts = parts.map(|(kind, value)| (kind, value.to_vec())).collect();
        found.push(Address { family, prefix, flags, parts });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_again_where_it_arrives() {
        let links = |indices: &[i32]| -> Vec<Link> {
            indices.iter().map(|index| Link { index: *index, name: String::new() }).collect()
        };
        assert_eq!(arrived(5, &links(&[1]), &links(&[1, 5])), Some(5));
        assert_eq!(arrived(1, &links(&[1]), &links(&[1, 2])), Some(2));
        assert_eq!(arrived(5, &links(&[1]), &links(&[1, 2, 5])), Some(5));
        assert_eq!(arrived(5, &links(&[1]), &links(&[1])), None);
    }
}
