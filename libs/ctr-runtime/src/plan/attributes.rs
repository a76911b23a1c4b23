// SPDX-License-Identifier: Apache-2.0
//! The attributes of a mount: from words to what mount_setattr(2) sets and clears.

use ctr_sys::mount::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};

/// What a bind mount does not inherit from its source once any attribute is asked for.
const SETTABLE: u64 =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
/// What a user namespace may not take away from a mount that is not its own.
const LOCKABLE: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
const ACCESS_TIMES: u64 = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

/// `MOUNT_ATTR_*` to set and to clear.
///
/// The access times are one field of three values. When one is asked for, the whole field is in `clear`,
/// as mount_setattr(2) wants it; `relatime` is the value without a bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    pub set: u64,
    pub clear: u64,
}

/// Attributes that a mount in a user namespace has of its source and must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked(String);

impl std::fmt::Display for Locked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn access_time(&mut self, value: u64) {
        self.set = self.set & !MOUNT_ATTR__ATIME | value;
        self.clear |= MOUNT_ATTR__ATIME;
    }

    // As in mount(8), the opposite of an access time only takes back that very word.
    fn withdraw_access_time(&mut self, value: u64) {
        if self.clear & MOUNT_ATTR__ATIME != 0 && self.set & MOUNT_ATTR__ATIME == value {
            self.set &= !MOUNT_ATTR__ATIME;
            self.clear &= !MOUNT_ATTR__ATIME;
        }
    }

    fn set(&mut self, flag: u64) {
        self.set |= flag;
        self.clear &= !flag;
    }

    fn clear(&mut self, flag: u64) {
        self.clear |= flag;
        self.set &= !flag;
    }

    /// Takes a word about the mount itself; whether it is one.
    pub(super) fn take(&mut self, word: &str) -> bool {
        match word {
            "nodiratime" => self.set |= MOUNT_ATTR_NODIRATIME,
            "diratime" => self.set &= !MOUNT_ATTR_NODIRATIME,
            "noatime" => self.access_time(MOUNT_ATTR_NOATIME),
            "atime" => self.withdraw_access_time(MOUNT_ATTR_NOATIME),
            "strictatime" => self.access_time(MOUNT_ATTR_STRICTATIME),
            "nostrictatime" => self.withdraw_access_time(MOUNT_ATTR_STRICTATIME),
            "relatime" => self.access_time(MOUNT_ATTR_RELATIME),
            "norelatime" => self.withdraw_access_time(MOUNT_ATTR_RELATIME),
            _ => return self.take_flag(word),
        }
        true
    }

    /// Takes a word about a mount and all below it, without its leading r; whether it is one.
    pub(super) fn take_recursive(&mut self, word: &str) -> bool {
        match word {
            "nodiratime" => self.set(MOUNT_ATTR_NODIRATIME),
            "diratime" => self.clear(MOUNT_ATTR_NODIRATIME),
            "noatime" => self.access_time(MOUNT_ATTR_NOATIME),
            "strictatime" => self.access_time(MOUNT_ATTR_STRICTATIME),
            "relatime" | "atime" | "norelatime" | "nostrictatime" => self.access_time(MOUNT_ATTR_RELATIME),
            _ => return self.take_flag(word),
        }
        true
    }

    fn take_flag(&mut self, word: &str) -> bool {
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
            _ => return false,
        }
        true
    }

    fn names_access_time(self) -> bool {
        self.clear & MOUNT_ATTR__ATIME != 0 || self.set & MOUNT_ATTR_NODIRATIME != 0
    }

    /// What a bind mount becomes of which anything is asked: exactly that, as with runc and mount(2), and
    /// not what its source has besides. Only its access times stay unless they are named.
    pub fn exactly(self) -> Self {
        let times = if self.names_access_time() { ACCESS_TIMES & !MOUNT_ATTR_NODIRATIME } else { 0 };
        let not_dirs = if times != 0 { MOUNT_ATTR_NODIRATIME & !self.set } else { 0 };
        Self { set: self.set, clear: (SETTABLE & !self.set) | times | not_dirs }
    }

    /// The same in a user namespace, which has to leave the mount what the host gave it (`present`).
    pub fn with_locked(self, present: u64) -> Result<Self, Locked> {
        let refused = self.clear & present & LOCKABLE;
        if refused != 0 {
            return Err(Locked(format!("cannot clear locked flags {}", names(refused))));
        }
        let exact = self.exactly();
        if self.names_access_time() && self.set & ACCESS_TIMES != present & ACCESS_TIMES {
            return Err(Locked(format!("cannot change locked atime flags {}", access_time_names(present))));
        }
        let kept = present & LOCKABLE;
        Ok(Self { set: (self.set & !ACCESS_TIMES) | kept, clear: exact.clear & !(kept | ACCESS_TIMES) })
    }
}

fn names(flags: u64) -> String {
    let all = [
        (MOUNT_ATTR_RDONLY, "ro"),
        (MOUNT_ATTR_NOSUID, "nosuid"),
        (MOUNT_ATTR_NODEV, "nodev"),
        (MOUNT_ATTR_NOEXEC, "noexec"),
    ];
    let set: Vec<&str> = all.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect();
    set.join(",")
}

fn access_time_names(flags: u64) -> String {
    let time = match flags & MOUNT_ATTR__ATIME {
        MOUNT_ATTR_NOATIME => "noatime",
        MOUNT_ATTR_STRICTATIME => "strictatime",
        _ => "relatime",
    };
    let dirs = if flags & MOUNT_ATTR_NODIRATIME != 0 { ",nodiratime" } else { "" };
    format!("{time}{dirs}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(words: &[&str]) -> Change {
        let mut change = Change::default();
        words.iter().for_each(|word| assert!(change.take(word), "{word}"));
        change
    }

    #[test]
    fn a_bind_mount_has_what_is_asked_for_and_nothing_else() {
        let settable = SETTABLE & !MOUNT_ATTR_RDONLY;
        assert_eq!(change(&["ro"]).exactly(), Change { set: MOUNT_ATTR_RDONLY, clear: settable });
        assert_eq!(change(&["dev"]).exactly(), Change { set: 0, clear: SETTABLE });
        // The opposite of an access time changes none, but counts as something asked for.
        assert_eq!(change(&["atime"]).exactly(), Change { set: 0, clear: SETTABLE });
        assert_eq!(change(&["noatime", "atime"]).exactly(), Change { set: 0, clear: SETTABLE });
        let relative = change(&["relatime"]).exactly();
        assert_eq!(relative, Change { set: 0, clear: SETTABLE | ACCESS_TIMES });
        let directories = change(&["nodiratime"]).exactly();
        assert_eq!(directories, Change { set: MOUNT_ATTR_NODIRATIME, clear: SETTABLE | MOUNT_ATTR__ATIME });
    }

    #[test]
    fn the_last_access_time_is_the_only_one() {
        let recursive = |words: &[&str]| {
            let mut change = Change::default();
            words.iter().for_each(|word| assert!(change.take_recursive(word), "{word}"));
            change
        };
        let strict = Change { set: MOUNT_ATTR_STRICTATIME, clear: MOUNT_ATTR__ATIME };
        assert_eq!(recursive(&["noatime", "strictatime"]), strict);
        assert_eq!(change(&["noatime", "strictatime"]), strict);
        for word in ["atime", "relatime", "norelatime", "nostrictatime"] {
            assert_eq!(recursive(&["noatime", word]), Change { set: 0, clear: MOUNT_ATTR__ATIME });
        }
    }

    #[test]
    fn a_user_namespace_keeps_what_the_host_has_set() {
        let host = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOSYMFOLLOW;
        let kept = change(&["nodev"]).with_locked(host).unwrap();
        assert_eq!(kept.set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        assert_eq!(kept.clear, MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW);
        assert_eq!(change(&["rw", "suid"]).with_locked(host).unwrap_err().0, "cannot clear locked flags ro,nosuid");
        assert!(change(&["relatime"]).with_locked(host).is_err());
        assert!(change(&["noatime"]).with_locked(host).is_ok() && change(&["atime"]).with_locked(host).is_ok());
        assert!(change(&["exec", "dev"]).with_locked(host).is_ok());
    }
}
