// SPDX-License-Identifier: Apache-2.0
//! Mount options: from fstab's words to attributes, propagation and file system data.

use ctr_sys::mount::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};
use nix::mount::MsFlags;
use serde::Serialize;

use super::words;

/// What a mount's options ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountOptions {
    /// `bind` (`false`) or `rbind` (`true`).
    #[serde(skip)] // the mount's kind says it
    pub bind: Option<bool>,
    /// Attributes of the mount itself.
    pub attributes: Change,
    /// Attributes of the mount and of all below it (`rro` and the like).
    pub recursive: Change,
    /// Propagation to give it afterwards, in order: the `MS_*` flag, and whether to those below as well.
    #[serde(serialize_with = "words::propagations")]
    pub propagation: Vec<(u64, bool)>,
    /// What is left: the file system's own options.
    pub data: Vec<String>,
    /// Copy what the mount covers into it (runc's extension for tmpfs).
    pub copy_up: bool,
    /// `idmap` (`false`) or `ridmap` (`true`).
    pub idmap: Option<bool>,
}

/// `MOUNT_ATTR_*` to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    pub set: u64,
    pub clear: u64,
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    // The access times are one field of three values, which has to be cleared before it is set.
    fn access_time(&mut self, value: u64) {
        self.set = self.set & !MOUNT_ATTR__ATIME | value;
        self.clear |= MOUNT_ATTR__ATIME;
    }

    fn set(&mut self, flag: u64) {
        self.set |= flag;
        self.clear &= !flag;
    }

    fn clear(&mut self, flag: u64) {
        self.clear |= flag;
        self.set &= !flag;
    }

    // Whether the word (without a leading r) is an attribute.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "ro" => self.set(MOUNT_ATTR_RDONLY),
            "rw" => self.clear(MOUNT_ATTR_RDONLY),
            "nosuid" => self.set(MOUNT_ATTR_NOSUID),
            "suid" => self.clear(MOUNT_ATTR_NOSUID),
            "nodev" => self.set(MOUNT_ATTR_NODEV),
            "dev" => self.clear(MOUNT_ATTR_NODEV),
            "noexec" => self.set(MOUNT_ATTR_NOEXEC),
            "exec" => self.clear(MOUNT_ATTR_NOEXEC),
            "nosymfollow" => self.set(MOUNT_ATTR_NOSYMFOLLOW),
            "symfollow" => self.clear(MOUNT_ATTR_NOSYMFOLLOW),
            "nodiratime" => self.set(MOUNT_ATTR_NODIRATIME),
            "diratime" => self.clear(MOUNT_ATTR_NODIRATIME),
            "noatime" => self.access_time(MOUNT_ATTR_NOATIME),
            "strictatime" => self.access_time(MOUNT_ATTR_STRICTATIME),
            "relatime" | "atime" | "norelatime" | "nostrictatime" => self.access_time(MOUNT_ATTR_RELATIME),
            _ => return false,
        }
        true
    }
}

impl MountOptions {
    /// Sorts options into their kinds.
    pub fn parse<'a>(options: impl IntoIterator<Item = &'a String>) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.take(option);
        }
        parsed
    }

    fn take(&mut self, option: &str) {
        if self.attributes.take(option) {
            return;
        }
        match option {
            "" | "defaults" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            _ => {
                if let Some(propagation) = propagation(option) {
                    self.propagation.push(propagation);
                } else if !option.strip_prefix('r').is_some_and(|word| self.recursive.take(word)) {
                    self.data.push(option.to_owned());
                }
            }
        }
    }
}

/// The `MS_*` flag of a propagation, and whether it is recursive.
pub fn propagation(word: &str) -> Option<(u64, bool)> {
    let (flag, recursive) = match word {
        "private" => (MsFlags::MS_PRIVATE, false),
        "rprivate" => (MsFlags::MS_PRIVATE, true),
        "slave" => (MsFlags::MS_SLAVE, false),
        "rslave" => (MsFlags::MS_SLAVE, true),
        "shared" => (MsFlags::MS_SHARED, false),
        "rshared" => (MsFlags::MS_SHARED, true),
        "unbindable" => (MsFlags::MS_UNBINDABLE, false),
        "runbindable" => (MsFlags::MS_UNBINDABLE, true),
        _ => return None,
    };
    Some((flag.bits(), recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_fall_into_their_kinds() {
        let parsed = parse(&["rbind", "ro", "nosuid", "rprivate", "rnoexec", "mode=755", "size=64k", "newinstance"]);
        assert_eq!(parsed.bind, Some(true));
        assert_eq!(parsed.attributes, Change { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, clear: 0 });
        assert_eq!(parsed.recursive, Change { set: MOUNT_ATTR_NOEXEC, clear: 0 });
        assert_eq!(parsed.propagation, [(MsFlags::MS_PRIVATE.bits(), true)]);
        assert_eq!(parsed.data, ["mode=755", "size=64k", "newinstance"]);
    }

    #[test]
    fn the_last_of_two_contradictory_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).attributes, Change { set: 0, clear: MOUNT_ATTR_RDONLY });
        assert_eq!(parse(&["bind", "rbind"]).bind, Some(true));
        let times = parse(&["noatime", "strictatime"]).attributes;
        assert_eq!(times, Change { set: MOUNT_ATTR_STRICTATIME, clear: MOUNT_ATTR__ATIME });
    }
}
