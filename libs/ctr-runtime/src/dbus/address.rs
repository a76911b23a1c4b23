// SPDX-License-Identifier: Apache-2.0
//! Where a D-Bus peer listens (D-Bus Specification, "Server Addresses").

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::UnixAddr;

use super::DbusError;

/// A Unix socket, and what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) socket: UnixAddr,
    /// Whether it is systemd itself: no bus is between, which would have to be greeted and asked for signals.
    pub(crate) direct: bool,
    /// As it is said in messages.
    pub(crate) text: String,
}

impl Address {
    /// systemd itself, or a bus, at a path.
    pub(crate) fn of_path(path: &Path, direct: bool) -> Result<Self, DbusError> {
        let text = path.display().to_string();
        let socket = UnixAddr::new(path).map_err(|_| DbusError::Address { address: text.clone() })?;
        Ok(Self { socket, direct, text })
    }

    /// Reads a list of addresses of a bus, `unix:path=…;…`; those of other transports are passed over.
    pub(crate) fn parse(list: &str) -> Result<Vec<Self>, DbusError> {
        let found: Vec<Self> = list.split(';').filter_map(parse_one).collect();
        match found.is_empty() {
            true => Err(DbusError::Address { address: list.to_owned() }),
            false => Ok(found),
        }
    }
}

fn parse_one(address: &str) -> Option<Address> {
    let value_of = |wanted: &str| {
        let mut pairs = address.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
        unescape(pairs.find(|(key, _)| *key == wanted)?.1)
    };
    let socket = match value_of("path") {
        Some(path) => UnixAddr::new(OsStr::from_bytes(&path)).ok()?,
        None => UnixAddr::new_abstract(&value_of("abstract")?).ok()?,
    };
    Some(Address { socket, direct: false, text: address.to_owned() })
}

/// `%XX` is a byte.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    Some(bytes)
}

/// The addresses at which systemd can be reached, best first.
///
/// The system's is reached directly where root may, as systemctl does it: a bus that hangs or has not
/// started is then no matter.
pub(super) fn of_systemd(
    user: bool,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Vec<Address>, DbusError> {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty());
    let own = if user { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" };
    if let Some(list) = named(own) {
        let list =
            String::from_utf8(list.into_vec()).map_err(|error| DbusError::Address { address: error.to_string() })?;
        return Address::parse(&list);
    }
    if user {
        let runtime = named("XDG_RUNTIME_DIR").map(PathBuf::from).ok_or(DbusError::NoUserBus)?;
        return Ok(vec![
            Address::of_path(&runtime.join("bus"), false)?,
            Address::of_path(&runtime.join("systemd/private"), true)?,
        ]);
    }
    Ok(vec![
        Address::of_path(Path::new("/run/systemd/private"), true)?,
        Address::of_path(Path::new("/run/dbus/system_bus_socket"), false)?,
    ])
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn places(user: bool, variables: &[(&str, &str)]) -> Result<Vec<(String, bool)>, DbusError> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| OsString::from(v));
        let shown = |address: Address| (address.socket.to_string(), address.direct);
        of_systemd(user, variable).map(|addresses| addresses.into_iter().map(shown).collect())
    }

    #[test]
    fn systemd_is_reached_by_what_the_environment_says_or_at_its_usual_places() {
        let system = places(false, &[("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")]).expect("addresses");
        assert!(system[0].0.contains("/run/systemd/private") && system[0].1);
        assert!(system[1].0.contains("/run/dbus/system_bus_socket") && !system[1].1);
        let named = places(false, &[("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=a;unix:path=/a%20b,guid=1")]);
        let named = named.expect("addresses");
        assert!(named.len() == 1 && named[0].0.contains("/a b"), "{named:?}");
        let user = places(true, &[("XDG_RUNTIME_DIR", "/run/user/7")]).expect("addresses");
        assert!(user[0].0.contains("/run/user/7/bus") && user[1].0.contains("/run/user/7/systemd/private"));
        assert!(places(true, &[("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/tmp/x")]).is_ok());
        assert!(matches!(places(true, &[("XDG_RUNTIME_DIR", "")]), Err(DbusError::NoUserBus)));
    }

    #[test]
    fn addresses_that_lead_nowhere_are_refused() {
        let long = format!("unix:path=/{}", "x".repeat(200));
        for bad in ["", "tcp:host=x", "unix:", "unix:path=%", "unix:path=%zz", "unix:dir=/tmp", &long] {
            assert!(matches!(Address::parse(bad), Err(DbusError::Address { .. })), "{bad}");
        }
    }
}
