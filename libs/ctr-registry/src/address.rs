// SPDX-License-Identifier: Apache-2.0
//! Which hosts are this machine or its private surroundings, judged by the literal address in a URL.
//!
//! Names are not resolved for the judgement: a name that resolves to a private address is an
//! administrator's business, a literal private address in what a stranger sends is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a host (without its port) is this machine by its very name: `localhost`, 127.0.0.0/8, `::1`.
pub(crate) fn is_loopback(host: &str) -> bool {
    match literal(host) {
        Some(IpAddr::V4(address)) => address.is_loopback(),
        Some(IpAddr::V6(address)) => embedded(address).map_or(address.is_loopback(), |v4| v4.is_loopback()),
        None => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Whether a host is a literal that a public server has no business naming: loopback, private,
/// link-local, shared, unspecified, multicast.
pub(crate) fn is_local(host: &str) -> bool {
    match literal(host) {
        Some(IpAddr::V4(address)) => is_local_v4(address),
        Some(IpAddr::V6(address)) => embedded(address).map_or_else(
            || {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
            },
            is_local_v4,
        ),
        None => is_loopback(host),
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
}

fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}

// ::ffff:a.b.c.d and 64:ff9b::a.b.c.d reach the IPv4 address that they carry.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let carries = |prefix: [u16; 6]| address.segments()[..6] == prefix;
    let [.., a, b, c, d] = address.octets();
    (carries([0, 0, 0, 0, 0, 0xffff]) || carries([0x64, 0xff9b, 0, 0, 0, 0])).then(|| Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_machine() {
        for host in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(host) && is_local(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "10.0.0.1", "[::2]", "example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn knows_private_surroundings() {
        for host in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "[2001:db8::1]", "registry.example"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
