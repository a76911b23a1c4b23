// SPDX-License-Identifier: Apache-2.0
//! Mount options: from fstab's words to attributes, propagation and file system data.

use nix::mount::MsFlags;
use serde::Serialize;

use super::attributes::Change;
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
    /// Whether any option is about those, be it only to say what is so anyway: `dev`, `atime`, `async`.
    #[serde(skip)]
    pub names_attributes: bool,
    /// Attributes of the mount and of all below it (`rro` and the like).
    pub recursive: Change,
    /// Propagation to give it afterwards, in order: the `MS_*` flag, and whether to those below as well.
    #[serde(serialize_with = "words::propagations")]
    pub propagation: Vec<(u64, bool)>,
    /// Words that every file system understands about itself: `sync`, `lazytime`. A bind mount has none.
    #[serde(skip)] // data, where they count
    pub superblock: Vec<String>,
    /// `remount`: no more than a bind mount is anyway, whose attributes are set once it is made.
    #[serde(skip)]
    pub remount: bool,
    /// What is left: the file system's own options.
    pub data: Vec<String>,
    /// Copy what the mount covers into it (runc's extension for tmpfs).
    pub copy_up: bool,
    /// See its ids mapped.
    #[serde(skip)] // the mount's own says it
    pub idmap: Option<IdmapOption>,
    /// A source that is a symlink is made one at the destination (`copy-symlink`, crun's extension).
    pub copy_symlink: bool,
    /// A source that is a symlink is mounted itself (`src-nofollow`, crun's extension).
    pub source_nofollow: bool,
    /// A destination that is a symlink is covered itself (`dest-nofollow`, crun's extension).
    pub destination_nofollow: bool,
}

/// `idmap` or `ridmap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdmapOption {
    /// Whether what is mounted below is mapped as well.
    pub recursive: bool,
    /// crun's mapping in the option itself: `uids=0-1000-10;gids=0-1000-10`.
    pub mapping: Option<String>,
}

impl MountOptions {
    /// Whether some of them take effect only once the mount is made and attached.
    pub(crate) fn is_settled_later(&self) -> bool {
        !self.recursive.is_empty() || !self.propagation.is_empty()
    }

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
            self.names_attributes = true;
            return;
        }
        match option {
            "" | "defaults" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_symlink = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.destination_nofollow = true,
            "sync" | "async" | "dirsync" | "lazytime" | "nolazytime" | "mand" | "nomand" => {
                self.names_attributes = true;
                self.superblock.push(option.to_owned());
            }
            // What mount(2) takes for them has no effect on a new mount.
            "silent" | "loud" | "iversion" | "noiversion" => self.names_attributes = true,
            "remount" => self.remount = true,
            _ => self.take_other(option),
        }
    }

    fn take_other(&mut self, option: &str) {
        if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation);
        } else if let Some(idmap) = idmap(option) {
            let recursive = idmap.recursive || self.idmap.as_ref().is_some_and(|before| before.recursive);
            self.idmap = Some(IdmapOption { recursive, ..idmap });
        } else if !option.strip_prefix('r').is_some_and(|word| self.recursive.take_recursive(word)) {
            self.data.push(option.to_owned());
        }
    }
}

fn idmap(option: &str) -> Option<IdmapOption> {
    let (word, mapping) = match option.split_once('=') {
        Some((word, mapping)) => (word, Some(mapping).filter(|mapping| !mapping.is_empty())),
        None => (option, None),
    };
    let recursive = match word {
        "idmap" => false,
        "ridmap" => true,
        _ => return None,
    };
    Some(IdmapOption { recursive, mapping: mapping.map(str::to_owned) })
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
    use ctr_sys::mount::{MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_fall_into_their_kinds() {
        let options = [
            "rbind",
            "ro",
            "nosuid",
            "rprivate",
            "rnoexec",
            "mode=755",
            "size=64k",
            "sync",
            "newinstance",
            "remount",
            "loud",
        ];
        let parsed = parse(&options);
        assert_eq!(parsed.bind, Some(true));
        assert_eq!(parsed.attributes, Change { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, clear: 0 });
        assert_eq!(parsed.recursive, Change { set: MOUNT_ATTR_NOEXEC, clear: 0 });
        assert_eq!(parsed.propagation, [(MsFlags::MS_PRIVATE.bits(), true)]);
        assert_eq!(parsed.superblock, ["sync"]);
        assert_eq!(parsed.data, ["mode=755", "size=64k", "newinstance"]);
    }

    #[test]
    fn the_last_of_two_contradictory_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).attributes, Change { set: 0, clear: MOUNT_ATTR_RDONLY });
        assert_eq!(parse(&["bind", "rbind"]).bind, Some(true));
    }

    #[test]
    fn an_option_that_clears_or_sets_nothing_still_names_an_attribute() {
        for option in ["dev", "atime", "async", "silent"] {
            assert!(parse(&["bind", option]).names_attributes, "{option}");
        }
        assert!(!parse(&["rbind", "rprivate", "rro", "idmap", "defaults", "remount"]).names_attributes);
    }

    #[test]
    fn a_mapping_may_stand_in_the_option() {
        let idmap = |options: &[&str]| parse(options).idmap.unwrap();
        assert_eq!(idmap(&["idmap"]), IdmapOption { recursive: false, mapping: None });
        assert_eq!(idmap(&["ridmap="]), IdmapOption { recursive: true, mapping: None });
        let given = idmap(&["idmap=uids=0-1-10;gids=0-1-10"]);
        assert_eq!(given, IdmapOption { recursive: false, mapping: Some("uids=0-1-10;gids=0-1-10".into()) });
        assert_eq!(parse(&["idmapped"]).data, ["idmapped"]);
    }
}
