// SPDX-License-Identifier: Apache-2.0
//! Session keyrings (keyrings(7)).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;

/// What a new session keyring allows: everything to who possesses it, and to its user viewing, reading and
/// linking.
const NEW: u32 = 0x3f13_0000;

/// Who besides its possessors finds a keyring by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Searchable {
    /// Processes of the user that it belongs to.
    ByUser = 0x0008_0000,
    /// Everybody: in a user namespace its user may have another number.
    ByAll = 0x0000_0008,
}

/// A keyring.
#[derive(Clone, Copy, Debug)]
pub struct Keyring(libc::c_long);

impl Keyring {
    /// Gives this process the session keyring of a name that it may search, or else a new one of that name.
    pub fn join_session(name: &CStr) -> io::Result<Self> {
        // SAFETY: `name` is a NUL-terminated string that outlives the call.
        let id = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
        if id < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(id)) }
    }

    /// Lets others find it by its name, with the permissions of a new keyring otherwise.
    pub fn make_searchable(self, by: Searchable) -> io::Result<()> {
        // SAFETY: integers are passed, no memory.
        let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, self.0, NEW | by as u32) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
