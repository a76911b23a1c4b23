// SPDX-License-Identifier: Apache-2.0
//! Who the container's process is: `USER[:GROUP]` looked up in the image's own passwd and group files.
//!
//! What is made of digits is a number and never looked up as a name, and a number out of range is an
//! error (CVE-2024-40635, CVE-2026-46680). The supplementary groups begin with the primary one
//! (CVE-2023-25173). The files are read within bounds, beneath the root (CVE-2026-47262, CVE-2024-9676).

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use serde_json::{Value, json};

use crate::rootfs::Rootfs;

/// The largest passwd and group files.
const MAX_FILE: u64 = 10 << 20;
/// The greatest id, as the kernel's and Go's signed types have it.
const MAX_ID: u64 = (1 << 31) - 1;

/// The user of a process.
#[derive(Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The supplementary groups, the primary one first.
    pub(crate) groups: Vec<u32>,
}

impl User {
    /// Looks up `USER[:GROUP]`; empty is root.
    ///
    /// Without a group, it and the supplementary groups are those that the files give the user; with one,
    /// there are no others (image-spec, config, `User`). `more` are groups in addition.
    pub(crate) fn look_up(rootfs: &Rootfs, user: &str, more: &[String]) -> Result<Self, Error> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let mut files = Files { rootfs, passwd: None, group: None };
        let (uid, entry) = match number(name)? {
            Some(uid) if group.is_some() => (uid, None),
            Some(uid) => (uid, files.user(|entry| entry.uid == uid)?),
            None => {
                let entry = files.user(|entry| entry.name == name)?;
                let entry = entry.ok_or_else(|| unknown("user", name, "/etc/passwd"))?;
                (entry.uid, Some(entry))
            }
        };
        let gid = match group {
            Some(group) => files.group(group)?,
            None => entry.as_ref().map_or(0, |entry| entry.gid),
        };
        let mut groups = vec![gid];
        if group.is_none()
            && let Some(entry) = &entry
        {
            groups.extend(files.groups_with(&entry.name)?);
        }
        for group in more {
            groups.push(files.group(group)?);
        }
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|gid| seen.insert(*gid));
        Ok(Self { uid, gid, groups })
    }

    /// As `process.user` of config.json.
    pub(crate) fn to_json(&self) -> Value {
        json!({"uid": self.uid, "gid": self.gid, "additionalGids": self.groups})
    }
}

// What looks like a number is one, or an error.
fn number(text: &str) -> Result<Option<u32>, Error> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(id) if id <= MAX_ID && !text.starts_with('+') => Ok(u32::try_from(id).ok()),
        _ => Err(Error::new(ErrorKind::Invalid, format!("{text} is not an id from 0 to {MAX_ID}"))),
    }
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the {what} {name:?} is not in the image's {file}"))
}

/// A line of /etc/passwd.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

/// The two files, read when first needed.
struct Files<'a> {
    rootfs: &'a Rootfs,
    passwd: Option<String>,
    group: Option<String>,
}

impl Files<'_> {
    fn user(&mut self, wanted: impl Fn(&Account) -> bool) -> Result<Option<Account>, Error> {
        let passwd = read(self.rootfs, "/etc/passwd", &mut self.passwd)?;
        let account = |line: &str| {
            let mut fields = line.trim().split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(Account { name: named(name)?, uid: id(uid)?, gid: id(gid)? })
        };
        Ok(passwd.lines().filter_map(account).find(wanted))
    }

    fn group(&mut self, group: &str) -> Result<u32, Error> {
        if let Some(gid) = number(group)? {
            return Ok(gid);
        }
        let found = self.groups()?.find(|(name, _, _)| *name == group);
        found.map(|(_, gid, _)| gid).ok_or_else(|| unknown("group", group, "/etc/group"))
    }

    fn groups_with(&mut self, user: &str) -> Result<Vec<u32>, Error> {
        let members = self.groups()?.filter(|(_, _, members)| members.split(',').any(|member| member == user));
        Ok(members.map(|(_, gid, _)| gid).collect())
    }

    // Name, gid and members of each group.
    fn groups(&mut self) -> Result<impl Iterator<Item = (&str, u32, &str)>, Error> {
        let file = read(self.rootfs, "/etc/group", &mut self.group)?;
        Ok(file.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            named(name)?;
            Some((name, id(gid)?, fields.next().unwrap_or_default()))
        }))
    }
}

fn read<'a>(rootfs: &Rootfs, path: &str, content: &'a mut Option<String>) -> Result<&'a str, Error> {
    if content.is_none() {
        let bytes = rootfs.read(path, MAX_FILE).unable_to(|| format!("read the image's {path}"))?;
        *content = Some(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned());
    }
    Ok(content.as_deref().expect("read above"))
}

// Comments and NIS's + and - lines are no entries.
fn named(name: &str) -> Option<String> {
    (!name.is_empty() && !name.starts_with(['#', '+', '-'])).then(|| name.to_owned())
}

// An entry whose id is no id is no entry: to read it as 0 would make its owner root.
fn id(field: &str) -> Option<u32> {
    let digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    field.parse().ok().filter(|id| digits && u64::from(*id) <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::tests::Layers;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
# comment:x:9:9::/:
+nis:x:0:0::/:
daemon:x:1:1:daemon:/:
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:5:5:a name of digits:/:
broken:x:zero:0::/:
negative:x:-1:0::/:
huge:x:4294967296:0::/:
short:x
";
    const GROUP: &str = "\
root:x:0:root
bin:x:1:root,daemon
audio:x:29:app,root
video:x:44:app
app:x:1001:app
4321:x:6:
broken:x:x:app
";

    fn files(name: &str) -> Layers {
        let layers = Layers::create(name, 1);
        layers.file(0, "etc/passwd", PASSWD).file(0, "etc/group", GROUP);
        layers
    }

    fn ids(user: &str, layers: &Layers) -> Result<(u32, u32, Vec<u32>), String> {
        let user = User::look_up(&layers.rootfs(), user, &[]).map_err(|error| error.to_line())?;
        Ok((user.uid, user.gid, user.groups))
    }

    #[test]
    fn looks_up_every_form() {
        let layers = files("user-forms");
        for (user, uid, gid, groups) in [
            ("", 0, 0, &[0, 1, 29][..]),
            ("root", 0, 0, &[0, 1, 29]),
            ("0", 0, 0, &[0, 1, 29]),
            ("daemon", 1, 1, &[1]),
            ("app", 1000, 1001, &[1001, 29, 44]),
            ("1000", 1000, 1001, &[1001, 29, 44]),
            ("app:video", 1000, 44, &[44]),
            ("app:7", 1000, 7, &[7]),
            ("1000:audio", 1000, 29, &[29]),
            ("5:6", 5, 6, &[6]),
            ("77", 77, 0, &[0]),
            ("2147483647", 2_147_483_647, 0, &[0]),
            ("1234", 1234, 0, &[0]),
            ("app:4321", 1000, 4321, &[4321]),
        ] {
            assert_eq!(ids(user, &layers), Ok((uid, gid, groups.to_vec())), "{user}");
        }
    }

    // They must not wrap round to root, nor be names.
    #[test]
    fn cve_2024_40635_and_2026_46680_numbers_out_of_range_are_refused() {
        let layers = files("user-range");
        layers.file(0, "etc/passwd", "4294967296:x:0:0::/:\n-1:x:0:0::/:\n");
        for user in ["2147483648", "4294967296", "-1", "+1", "99999999999999999999999", "0:4294967296", "0:-1"] {
            let error = ids(user, &layers).unwrap_err();
            assert!(error.contains("is not an id from 0 to 2147483647"), "{error}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let layers = files("user-unknown");
        for user in ["nobody", "broken", "negative", "huge", "short", "+nis", "# comment", "app:nogroup", "app:broken"]
        {
            let error = ids(user, &layers).unwrap_err();
            assert!(error.contains("is not in the image's /etc/"), "{user}: {error}");
        }
        assert!(ids("app:", &layers).is_err());
    }

    #[test]
    fn numbers_need_no_files() {
        let layers = Layers::create("user-empty", 1);
        assert_eq!(ids("", &layers), Ok((0, 0, vec![0])));
        assert_eq!(ids("5:6", &layers), Ok((5, 6, vec![6])));
        assert!(ids("app", &layers).is_err());
    }

    // CVE-2026-47262: a giant file must not fill the memory.
    #[test]
    fn a_giant_file_is_refused() {
        let layers = files("user-giant");
        let giant = std::fs::File::create(layers.path(0, "etc/passwd")).unwrap();
        giant.set_len(MAX_FILE + 1).unwrap();
        let error = ids("app", &layers).unwrap_err();
        assert_eq!(error, "unable to read the image's /etc/passwd: larger than 10485760 bytes");
        assert!(ids("5:6", &layers).is_ok());
    }

    #[test]
    fn groups_can_be_added() {
        let layers = files("user-more");
        let more = ["video".to_owned(), "7".to_owned(), "audio".to_owned(), "0".to_owned()];
        let user = User::look_up(&layers.rootfs(), "daemon:audio", &more).unwrap();
        assert_eq!(user.groups, [29, 44, 7, 0]);
        assert!(User::look_up(&layers.rootfs(), "0", &["nogroup".to_owned()]).is_err());
        assert!(User::look_up(&layers.rootfs(), "0", &["2147483648".to_owned()]).is_err());
    }
}
