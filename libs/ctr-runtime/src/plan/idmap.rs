// SPDX-License-Identifier: Apache-2.0
//! Which ids an idmapped mount shows for those that are stored.

use std::path::PathBuf;

use oci_spec::runtime::Mount;
use serde::Serialize;

use super::namespaces::{IdMap, NamespacePlan, UserPlan, mappings};
use super::options::{IdmapOption, MountOptions};

/// How a mount's ids are mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdmapPlan {
    /// Whether what is mounted below it is mapped as well.
    pub recursive: bool,
    /// By what.
    pub mapping: Mapping,
}

/// What maps ids: those of a file system (`container`) to those of the host (`host`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mapping {
    /// These ids.
    Ids(UserPlan),
    /// The user namespace at a path, which the container joins.
    Namespace(PathBuf),
}

impl IdmapPlan {
    /// Plans the mapping of a mount, if it has one.
    pub(super) fn new(
        mount: &Mount,
        options: &MountOptions,
        namespaces: &NamespacePlan,
    ) -> Result<Option<Self>, String> {
        let ids = |field, list: &Option<Vec<_>>| mappings(field, list.as_deref()).map_err(|error| error.to_string());
        let (uids, gids) = (ids("uidMappings", mount.uid_mappings())?, ids("gidMappings", mount.gid_mappings())?);
        let option = options.idmap.clone();
        let recursive = option.as_ref().is_some_and(|option| option.recursive);
        let mapping = match (uids.is_empty(), gids.is_empty(), option) {
            (true, true, None) => return Ok(None),
            (false, false, _) => Mapping::Ids(UserPlan { uids, gids }),
            (true, true, Some(IdmapOption { mapping: Some(text), .. })) => {
                Mapping::Ids(parse(&text, namespaces.user.as_ref()).map_err(|why| format!("idmap={text}: {why}"))?)
            }
            (true, true, Some(_)) => of_container(namespaces)?,
            _ => return Err("an idmapped mount needs both uidMappings and gidMappings".into()),
        };
        Ok(Some(Self { recursive, mapping }))
    }
}

fn of_container(namespaces: &NamespacePlan) -> Result<Mapping, String> {
    let joined = namespaces.join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWUSER);
    match (&namespaces.user, joined) {
        (Some(user), _) => Ok(Mapping::Ids(user.clone())),
        (None, Some((_, path))) => Ok(Mapping::Namespace(path.clone())),
        (None, None) => {
            Err("idmap needs uidMappings and gidMappings, or a user namespace of the container's own".into())
        }
    }
}

// crun's form, `uids=0-1000-10#20-2000-5;gids=…`: stored id, id on the host, how many. With an @ the second
// id is one of the container's user namespace.
fn parse(text: &str, user: Option<&UserPlan>) -> Result<UserPlan, String> {
    let mut plan = UserPlan::default();
    for part in text.split(';') {
        let (of_container, ranges, list) = match part.split_once('=') {
            Some(("uids", ranges)) => (user.map(|user| &user.uids), ranges, &mut plan.uids),
            Some(("gids", ranges)) => (user.map(|user| &user.gids), ranges, &mut plan.gids),
            _ => return Err(format!("{part:?} is neither uids= nor gids=")),
        };
        for range in ranges.split('#') {
            list.push(parse_range(range, of_container)?);
        }
    }
    match plan.uids.is_empty() || plan.gids.is_empty() {
        true => Err("it needs both uids= and gids=".into()),
        false => Ok(plan),
    }
}

fn parse_range(text: &str, of_container: Option<&Vec<IdMap>>) -> Result<IdMap, String> {
    let (relative, numbers) = match text.strip_prefix('@') {
        Some(numbers) => (true, numbers),
        None => (false, text),
    };
    let malformed = || format!("{text:?} is not FIRST-HOST-SIZE");
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = numbers.split('-').collect();
    let [container, host, size] = parts[..] else { return Err(malformed()) };
    if ![container, host, size].into_iter().all(digits) {
        return Err(malformed());
    }
    let number = |part: &str| part.parse::<u32>().map_err(|_| malformed());
    let mut map = IdMap { container: number(container)?, host: number(host)?, size: number(size)? };
    if relative {
        map.host = host_id(map, of_container).ok_or_else(|| {
            format!("{text:?}: the container's user namespace has no one mapping for ids {} to it", map.host)
        })?;
    }
    Some(map).filter(IdMap::is_valid).ok_or_else(malformed)
}

fn host_id(map: IdMap, of_container: Option<&Vec<IdMap>>) -> Option<u32> {
    let wanted = u64::from(map.host)..u64::from(map.host) + u64::from(map.size);
    let around = of_container?.iter().find(|outer| {
        u64::from(outer.container) <= wanted.start && wanted.end <= u64::from(outer.container) + u64::from(outer.size)
    })?;
    Some(around.host + (map.host - around.container))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespaces(linux: serde_json::Value) -> NamespacePlan {
        NamespacePlan::new(&serde_json::from_value(linux).unwrap()).unwrap()
    }

    fn with_user() -> NamespacePlan {
        let ids = json!([{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 2, "size": 1000}]);
        namespaces(json!({
            "namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": ids, "gidMappings": ids
        }))
    }

    fn plan(options: &[&str], uids: bool, gids: bool, namespaces: &NamespacePlan) -> Result<Option<IdmapPlan>, String> {
        let ids = json!([{"containerID": 5, "hostID": 6, "size": 7}]);
        let mut mount = json!({"destination": "/d", "options": options});
        if uids {
            mount["uidMappings"] = ids.clone();
        }
        if gids {
            mount["gidMappings"] = ids;
        }
        let mount: Mount = serde_json::from_value(mount).unwrap();
        let options = MountOptions::parse(mount.options().iter().flatten());
        IdmapPlan::new(&mount, &options, namespaces)
    }

    #[test]
    fn both_mappings_or_none_or_those_of_the_container() {
        let host = namespaces(json!({"namespaces": [{"type": "mount"}]}));
        assert_eq!(plan(&["bind"], false, false, &host), Ok(None));
        let ids = UserPlan {
            uids: vec![IdMap { container: 5, host: 6, size: 7 }],
            gids: vec![IdMap { container: 5, host: 6, size: 7 }],
        };
        let given = Ok(Some(IdmapPlan { recursive: false, mapping: Mapping::Ids(ids) }));
        assert_eq!(plan(&["bind"], true, true, &host), given);
        assert_eq!(plan(&["bind", "idmap"], true, true, &host), given);
        assert!(plan(&["bind", "ridmap"], true, true, &host).unwrap().unwrap().recursive);
        assert!(plan(&["bind"], true, false, &host).is_err() && plan(&["bind"], false, true, &host).is_err());
        assert!(plan(&["bind", "idmap"], false, false, &host).unwrap_err().contains("user namespace"));
        let of_container = plan(&["idmap"], false, false, &with_user()).unwrap().unwrap().mapping;
        assert_eq!(of_container, Mapping::Ids(with_user().user.unwrap()));
        let joined = namespaces(json!({"namespaces": [{"type": "mount"}, {"type": "user", "path": "/u"}]}));
        let of_joined = plan(&["idmap"], false, false, &joined).unwrap().unwrap().mapping;
        assert_eq!(of_joined, Mapping::Namespace("/u".into()));
    }

    #[test]
    fn a_mapping_in_the_option_is_absolute_or_relative() {
        let ids = |text: &str| parse(text, with_user().user.as_ref());
        let map = |container, host, size| IdMap { container, host, size };
        let both = ids("uids=0-1-10#10-11-10;gids=0-100-10").unwrap();
        assert_eq!(both.uids, [map(0, 1, 10), map(10, 11, 10)]);
        assert_eq!(both.gids, [map(0, 100, 10)]);
        // crun's example: 3 is 1 + (2 - 1) further on the host.
        assert_eq!(ids("uids=@1-3-10;gids=@7-0-1").unwrap().uids, [map(1, 4, 10)]);
        for bad in [
            "",
            "uids=0-1-10",
            "uids=0-1-10;gids=",
            "uids=0-1;gids=0-0-1",
            "uids=0-1-0;gids=0-0-1",
            "uids=+0-1-2;gids=0-0-1",
            "uids=0-1-2x;gids=0-0-1",
            "uids=@0-995-10;gids=0-0-1",
            "uids=0-4294967295-1;gids=0-0-1",
            "other=0-1-2",
        ] {
            assert!(ids(bad).is_err(), "{bad}");
        }
        assert!(parse("uids=@0-0-1;gids=0-0-1", None).is_err());
    }
}
