// SPDX-License-Identifier: Apache-2.0
//! Namespaces, and what depends on them: host name, id maps, kernel parameters.

use ctr_cli::Error;
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::args::Args;
use crate::quantity::key_value;
use crate::spec::{list, mount_on};

/// Which namespace of a kind a container is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice<'a> {
    /// The one of whoever starts the container.
    Host,
    /// One of its own.
    Private,
    /// One that a file leads to.
    Path(&'a str),
}

impl<'a> Choice<'a> {
    /// Reads a flag's value; without one it is private.
    pub(crate) fn parse(flag: &str, value: Option<&'a str>) -> Result<Self, Error> {
        match value {
            Some("host") => Ok(Self::Host),
            Some("private") | None => Ok(Self::Private),
            Some(path) if path.starts_with('/') => Ok(Self::Path(path)),
            Some(other) => {
                Err(Error::misuse(format!("{flag} {other:?} is neither host nor private nor an absolute path")))
            }
        }
    }
}

/// Sets the namespaces of all kinds but `user` and `mount`.
pub(crate) fn set_namespaces(spec: &mut Value, args: &Args) -> Result<(), Error> {
    for (flag, value, kind) in [
        ("--pid", &args.pid, "pid"),
        ("--net", &args.net, "network"),
        ("--ipc", &args.ipc, "ipc"),
        ("--uts", &args.uts, "uts"),
        ("--cgroupns", &args.cgroupns, "cgroup"),
    ] {
        put(spec, kind, Choice::parse(flag, value.as_deref())?);
    }
    Ok(())
}

fn put(spec: &mut Value, kind: &str, choice: Choice<'_>) {
    let namespaces = list(&mut spec["linux"]["namespaces"]);
    let at = namespaces.iter().position(|namespace| namespace["type"] == kind);
    let wanted = match choice {
        Choice::Host => None,
        Choice::Private => Some(json!({"type": kind})),
        Choice::Path(path) => Some(json!({"type": kind, "path": path})),
    };
    match (at, wanted) {
        (Some(at), Some(wanted)) => namespaces[at] = wanted,
        (Some(at), None) => drop(namespaces.remove(at)),
        (None, Some(wanted)) => namespaces.push(wanted),
        (None, None) => {}
    }
}

/// Sets the user namespace with its id maps, and takes away what cannot be had in one.
pub(crate) fn set_user_namespace(spec: &mut Value, args: &Args) -> Result<(), Error> {
    let mapped = !args.uid_map.is_empty() || !args.gid_map.is_empty();
    let is_root = ctr_sys::process::is_root();
    let choice = match &args.userns {
        None if is_root && !mapped => Choice::Host,
        given => Choice::parse("--userns", given.as_deref())?,
    };
    if mapped && choice != Choice::Private {
        return Err(Error::misuse("--uid-map and --gid-map are for --userns private"));
    }
    put(spec, "user", choice);
    if choice == Choice::Private {
        // What maps one kind of ids maps the other, where nothing else is said.
        let (uids, gids) = match (args.uid_map.is_empty(), args.gid_map.is_empty()) {
            (false, false) => (maps("--uid-map", &args.uid_map)?, maps("--gid-map", &args.gid_map)?),
            (false, true) => (maps("--uid-map", &args.uid_map)?, maps("--uid-map", &args.uid_map)?),
            (true, false) => (maps("--gid-map", &args.gid_map)?, maps("--gid-map", &args.gid_map)?),
            // The one map that the kernel lets everybody make.
            (true, true) if !is_root => {
                // It is to be had only without setgroups(2) (CVE-2014-8989).
                if let Some(user) = spec["process"]["user"].as_object_mut() {
                    user.shift_remove("additionalGids");
                }
                (vec![Map::one(geteuid().as_raw())], vec![Map::one(getegid().as_raw())])
            }
            (true, true) => return Err(Error::misuse("--userns private needs --uid-map CONTAINER:HOST:SIZE")),
        };
        let has_tty_group = gids.iter().any(|map| map.covers(5));
        spec["linux"]["uidMappings"] = uids.iter().map(Map::to_json).collect();
        spec["linux"]["gidMappings"] = gids.iter().map(Map::to_json).collect();
        if !has_tty_group && let Some(pts) = mount_on(spec, "/dev/pts") {
            list(&mut pts["options"]).retain(|option| option != "gid=5");
        }
        // The kernel lets only the owner of the network namespace mount its sysfs.
        if args.net.as_deref() == Some("host")
            && let Some(sys) = mount_on(spec, "/sys")
        {
            *sys = json!({
                "destination": "/sys",
                "type": "bind",
                "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
            });
        }
    }
    if !is_root && let Some(resources) = spec["linux"]["resources"].as_object_mut() {
        // Device rules need privileges on the host; without them there are no devices to restrict.
        resources.shift_remove("devices");
    }
    Ok(())
}

/// A range of ids.
#[derive(Debug)]
struct Map {
    container: u32,
    host: u32,
    size: u32,
}

impl Map {
    fn one(host: u32) -> Self {
        Self { container: 0, host, size: 1 }
    }

    fn covers(&self, id: u32) -> bool {
        id.checked_sub(self.container).is_some_and(|offset| offset < self.size)
    }

    fn to_json(&self) -> Value {
        json!({"containerID": self.container, "hostID": self.host, "size": self.size})
    }
}

/// The id on the host that the mappings of a config give an id, else the id itself.
pub(crate) fn mapped(mappings: &Value, id: u32) -> u32 {
    let number = |map: &Value, member: &str| map[member].as_u64().and_then(|number| u32::try_from(number).ok());
    let on_host = |map: &Value| {
        let offset = id.checked_sub(number(map, "containerID")?)?;
        if offset < number(map, "size")? { number(map, "hostID")?.checked_add(offset) } else { None }
    };
    mappings.as_array().into_iter().flatten().find_map(on_host).unwrap_or(id)
}

fn maps(flag: &str, values: &[String]) -> Result<Vec<Map>, Error> {
    let map = |text: &String| {
        let numbers: Vec<u32> = text.split(':').map_while(|number| number.parse().ok()).collect();
        match numbers[..] {
            [container, host, size] if size > 0 && text.split(':').count() == 3 => Ok(Map { container, host, size }),
            _ => Err(Error::misuse(format!("{flag} {text:?} is not CONTAINER:HOST:SIZE"))),
        }
    };
    values.iter().map(map).collect()
}

/// Sets the host name: the flag's, else the id as far as it is one.
pub(crate) fn set_hostname(spec: &mut Value, args: &Args, id: &str) -> Result<(), Error> {
    let uts = Choice::parse("--uts", args.uts.as_deref())?;
    let name = match (&args.hostname, uts) {
        (Some(name), _) if name.is_empty() => return Ok(()),
        (Some(_), Choice::Host) => return Err(Error::misuse("--hostname cannot be had with --uts host")),
        (Some(name), _) => {
            if name.len() > 64 || name.contains('\0') {
                return Err(Error::misuse(format!("--hostname {name:?} is longer than 64 characters")));
            }
            name.clone()
        }
        (None, Choice::Private) => hostname_of(id),
        // Somebody else's namespace has its name.
        (None, Choice::Host | Choice::Path(_)) => return Ok(()),
    };
    if !name.is_empty() {
        spec["hostname"] = json!(name);
    }
    Ok(())
}

// Letters, digits, hyphens and dots, neither first nor last a hyphen or dot (RFC 1123).
fn hostname_of(id: &str) -> String {
    let name: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(63).collect();
    name.trim_matches(['-', '.']).to_owned()
}

/// Sets kernel parameters.
pub(crate) fn set_sysctls(spec: &mut Value, args: &Args) -> Result<(), Error> {
    for text in &args.sysctl {
        let (key, value) = key_value("kernel parameter", text)?;
        spec["linux"]["sysctl"][key] = json!(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_spec::default_spec;
    use clap::Parser;

    fn with(flags: &[&str]) -> Result<Value, String> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        let mut spec = default_spec("default", "web_1");
        set_namespaces(&mut spec, &args)
            .and_then(|()| set_user_namespace(&mut spec, &args))
            .and_then(|()| set_hostname(&mut spec, &args, "web_1"))
            .and_then(|()| set_sysctls(&mut spec, &args))
            .map_err(|error| error.to_line())?;
        Ok(spec)
    }

    fn namespace(spec: &Value, kind: &str) -> Option<Value> {
        let all = spec["linux"]["namespaces"].as_array().unwrap();
        let found: Vec<&Value> = all.iter().filter(|namespace| namespace["type"] == kind).collect();
        assert!(found.len() < 2);
        found.first().map(|namespace| (*namespace).clone())
    }

    #[test]
    fn each_kind_is_private_shared_or_joined() {
        for (flag, kind) in
            [("--pid", "pid"), ("--net", "network"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")]
        {
            assert_eq!(namespace(&with(&[]).unwrap(), kind), Some(json!({"type": kind})));
            assert_eq!(namespace(&with(&[flag, "private"]).unwrap(), kind), Some(json!({"type": kind})));
            assert_eq!(namespace(&with(&[flag, "host"]).unwrap(), kind), None);
            let joined = with(&[flag, "/proc/1/ns/x"]).unwrap();
            assert_eq!(namespace(&joined, kind), Some(json!({"type": kind, "path": "/proc/1/ns/x"})));
            assert!(with(&[flag, "x"]).unwrap_err().starts_with(flag));
        }
    }

    #[test]
    fn id_maps_make_a_user_namespace() {
        let spec = with(&["--uid-map", "0:1000:65536"]).unwrap();
        assert_eq!(namespace(&spec, "user"), Some(json!({"type": "user"})));
        assert_eq!(spec["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 1000, "size": 65536}]));
        assert_eq!(spec["linux"]["gidMappings"], spec["linux"]["uidMappings"]);
        assert!(spec["mounts"][2]["options"].as_array().unwrap().contains(&json!("gid=5")));
        let few =
            with(&["--userns", "private", "--uid-map=0:1000:65536", "--gid-map=0:7:1", "--gid-map=9:9:2"]).unwrap();
        assert_eq!(few["linux"]["gidMappings"][1], json!({"containerID": 9, "hostID": 9, "size": 2}));
        assert!(!few["mounts"][2]["options"].as_array().unwrap().contains(&json!("gid=5")));
        for bad in ["0:1", "0:1:0", "0:1:2:3", "a:1:1", "-1:0:1", "0:1:4294967296"] {
            assert!(with(&[&format!("--uid-map={bad}")]).is_err(), "{bad}");
        }
        assert!(with(&["--userns", "host", "--uid-map", "0:1:1"]).is_err());
    }

    #[test]
    fn the_default_user_namespace_depends_on_who_asks() {
        let spec = with(&[]).unwrap();
        match ctr_sys::process::is_root() {
            true => {
                assert_eq!(namespace(&spec, "user"), None);
                assert!(with(&["--userns", "private"]).unwrap_err().contains("needs --uid-map"));
            }
            false => assert_eq!(spec["linux"]["uidMappings"][0]["hostID"], geteuid().as_raw()),
        }
    }

    #[test]
    fn sysfs_is_bound_where_it_cannot_be_mounted() {
        let sys = |flags: &[&str]| with(flags).unwrap()["mounts"][5]["type"].take();
        assert_eq!(sys(&["--uid-map", "0:0:10", "--net", "host"]), "bind");
        assert_eq!(sys(&["--uid-map", "0:0:10"]), "sysfs");
    }

    #[test]
    fn the_host_name_is_the_id_where_the_namespace_is_its_own() {
        let hostname = |flags: &[&str]| with(flags).unwrap().get("hostname").cloned();
        assert_eq!(hostname(&[]), Some(json!("web-1")));
        assert_eq!(hostname(&["--hostname", "db"]), Some(json!("db")));
        assert_eq!(hostname(&["--hostname", ""]), None);
        assert_eq!(hostname(&["--uts", "host"]), None);
        assert_eq!(hostname(&["--uts", "/ns"]), None);
        assert_eq!(hostname(&["--uts", "/ns", "--hostname", "db"]), Some(json!("db")));
        assert!(with(&["--uts", "host", "--hostname", "db"]).is_err());
        assert!(with(&["--hostname", &"x".repeat(65)]).is_err());
        assert_eq!(hostname_of(&format!("{}.-", "x".repeat(62))), "x".repeat(62));
        assert_eq!(hostname_of("+.+"), "");
    }

    #[test]
    fn kernel_parameters_are_set() {
        let spec = with(&["--sysctl", "net.core.somaxconn=1", "--sysctl", "kernel.shm_rmid_forced="]).unwrap();
        assert_eq!(spec["linux"]["sysctl"], json!({"net.core.somaxconn": "1", "kernel.shm_rmid_forced": ""}));
        assert!(with(&["--sysctl", "x"]).is_err());
    }
}
