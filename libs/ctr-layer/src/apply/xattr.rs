// SPDX-License-Identifier: Apache-2.0
//! Which extended attributes an image may set, and under which names.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;

use ctr_sys::xattr;
use nix::errno::Errno;

use super::{Applier, Warning};
use crate::error::{Fault, printable};

/// The attributes of a kind of target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// The attributes that the overlay reads; `None` for a plain directory.
    overlay: Option<&'static str>,
}

impl Policy {
    pub(super) fn overlay(userxattr: bool) -> Self {
        Self { overlay: Some(if userxattr { "user.overlay." } else { "trusted.overlay." }) }
    }

    pub(super) fn plain() -> Self {
        Self { overlay: None }
    }

    /// The name on disk of an attribute of an image; `None`: the image has no say in it.
    ///
    /// What the overlay would read as an instruction is escaped, and comes out of the mount (kernel 6.7
    /// and later) as the image has it.
    fn on_disk<'a>(&self, name: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if let Some(prefix) = self.overlay
            && let Some(rest) = name.strip_prefix(prefix.as_bytes())
        {
            return Some([prefix.as_bytes(), b"overlay.", rest].concat().into());
        }
        // Labels and ACLs of this host, and what only its administrator may say.
        let of_host = matches!(name, b"security.selinux" | b"security.evm" | b"security.ima" | b"system.nfs4_acl");
        if of_host || name.starts_with(b"trusted.") { None } else { Some(name.into()) }
    }

    /// Whether an attribute on disk came from an image, so that it is copied and cleared with the rest.
    pub(super) fn is_of_image(&self, name: &[u8]) -> bool {
        match self.overlay.and_then(|prefix| name.strip_prefix(prefix.as_bytes())) {
            Some(rest) => rest.starts_with(b"overlay."),
            None => self.on_disk(name).is_some(),
        }
    }

    /// Makes a directory hide what the layers below have in it.
    pub(super) fn set_opaque(&self, directory: BorrowedFd<'_>) -> Result<(), Fault> {
        match self.overlay {
            Some(prefix) => xattr::set(directory, &opaque(prefix), b"y").map_err(Fault::std("make it opaque")),
            None => Ok(()),
        }
    }

    pub(super) fn is_opaque(&self, directory: BorrowedFd<'_>) -> nix::Result<bool> {
        let Some(prefix) = self.overlay else { return Ok(false) };
        match xattr::get(directory, &opaque(prefix)) {
            Ok(value) => Ok(value.as_deref() == Some(b"y")),
            Err(error) => match errno(&error) {
                Errno::EOPNOTSUPP => Ok(false),
                errno => Err(errno),
            },
        }
    }
}

fn opaque(prefix: &str) -> Vec<u8> {
    [prefix.as_bytes(), b"opaque"].concat()
}

pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

impl Applier<'_> {
    /// Sets the attributes that an entry has. `inode` may be open with `O_PATH` only.
    pub(super) fn set_xattrs(
        &mut self,
        inode: BorrowedFd<'_>,
        entry: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), Fault> {
        for (name, value) in xattrs {
            let Some(on_disk) = self.xattrs.on_disk(name) else { continue };
            let Err(error) = xattr::set(inode, &on_disk, value) else { continue };
            match errno(&error) {
                Errno::EOPNOTSUPP => self.warn(Warning::XattrsUnsupported { entry: printable(entry) }),
                // Only files and directories can have these (xattr(7)); it is said with this number.
                Errno::EPERM if name.starts_with(b"user.") => {}
                Errno::EPERM => {
                    self.warn(Warning::XattrRefused { entry: printable(entry), attribute: printable(name) });
                }
                _ => return Err(Fault::Io { operation: "set an extended attribute", source: error }),
            }
        }
        Ok(())
    }

    /// Removes the attributes that an earlier layer or entry gave to a directory.
    pub(super) fn clear_xattrs(&self, directory: BorrowedFd<'_>) -> Result<(), Fault> {
        let names = match xattr::list(directory) {
            Err(error) if errno(&error) == Errno::EOPNOTSUPP => return Ok(()),
            names => names.map_err(Fault::std("list its extended attributes"))?,
        };
        for name in names.iter().filter(|name| self.xattrs.is_of_image(name)) {
            xattr::remove(directory, name).map_err(Fault::std("remove an extended attribute"))?;
        }
        Ok(())
    }
}

/// Copies the attributes that an image gave to `from`.
pub(super) fn copy(policy: Policy, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<()> {
    let names = match xattr::list(from) {
        Err(error) if errno(&error) == Errno::EOPNOTSUPP => return Ok(()),
        names => names?,
    };
    for name in names.iter().filter(|name| policy.is_of_image(name)) {
        if let Some(value) = xattr::get(from, name)? {
            xattr::set(to, name, &value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_instruct_the_overlay_are_escaped() {
        let on_disk = |policy: Policy, name: &str| {
            policy.on_disk(name.as_bytes()).map(|name| String::from_utf8(name.into_owned()).unwrap())
        };
        let (root, user, plain) = (Policy::overlay(false), Policy::overlay(true), Policy::plain());
        assert_eq!(on_disk(root, "trusted.overlay.opaque").as_deref(), Some("trusted.overlay.overlay.opaque"));
        assert_eq!(on_disk(root, "user.overlay.opaque").as_deref(), Some("user.overlay.opaque"));
        assert_eq!(on_disk(user, "user.overlay.redirect").as_deref(), Some("user.overlay.overlay.redirect"));
        assert_eq!(on_disk(user, "trusted.overlay.opaque"), None);
        assert_eq!(on_disk(plain, "trusted.overlay.opaque"), None);
        for policy in [root, user, plain] {
            assert_eq!(on_disk(policy, "trusted.x"), None);
            assert_eq!(on_disk(policy, "security.selinux"), None);
            assert_eq!(on_disk(policy, "security.capability").as_deref(), Some("security.capability"));
        }
        assert!(root.is_of_image(b"trusted.overlay.overlay.opaque"));
        assert!(!root.is_of_image(b"trusted.overlay.opaque"));
        assert!(root.is_of_image(b"user.x"));
    }
}
