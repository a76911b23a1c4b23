// SPDX-License-Identifier: Apache-2.0
//! Capabilities: added, dropped, all of them.

use ctr_cli::{Context, Error};
use serde_json::{Value, json};

use crate::args::Args;
use crate::default_spec::CAPABILITIES;

/// The names of all capabilities; a name's place is its number (capabilities(7)).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Sets the capability sets: the default ones or all, less the dropped, and the added.
pub(crate) fn set_capabilities(spec: &mut Value, args: &Args) -> Result<(), Error> {
    let mut held: Vec<&str> = match args.privileged {
        true => grantable()?,
        false => CAPABILITIES.to_vec(),
    };
    let (dropped, added) = (named(&args.cap_drop)?, named(&args.cap_add)?);
    // What is dropped by name stays dropped when ALL are added, and the other way round.
    let all = |names: &[&str]| names.contains(&"ALL");
    if all(&dropped) {
        held.clear();
    }
    if all(&added) {
        held = grantable()?;
    }
    held.retain(|name| !dropped.contains(name));
    for name in added {
        if name != "ALL" && !held.contains(&name) {
            held.push(name);
        }
    }
    spec["process"]["capabilities"] = json!({"bounding": held, "effective": held, "permitted": held});
    Ok(())
}

// Root can give what it has; in a user namespace of its own, a container has them all.
fn grantable() -> Result<Vec<&'static str>, Error> {
    let own = match ctr_sys::process::is_root() {
        true => ctr_sys::capability::permitted().unable_to(|| "read the capabilities of this process")?,
        false => u64::MAX,
    };
    Ok(NAMES.iter().enumerate().filter(|(number, _)| own >> number & 1 == 1).map(|(_, name)| *name).collect())
}

// Names in any case, with or without CAP_.
fn named(flags: &[String]) -> Result<Vec<&'static str>, Error> {
    let known = |flag: &String| {
        let name = flag.to_ascii_uppercase();
        let bare = name.strip_prefix("CAP_").unwrap_or(&name);
        if bare == "ALL" {
            return Ok("ALL");
        }
        let found = NAMES.iter().find(|known| known.strip_prefix("CAP_") == Some(bare));
        found.copied().ok_or_else(|| Error::misuse(format!("there is no capability {flag:?}")))
    };
    flags.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn bounding(flags: &[&str]) -> Result<Vec<String>, String> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        let mut spec = json!({});
        set_capabilities(&mut spec, &args).map_err(|error| error.to_line())?;
        let sets = &spec["process"]["capabilities"];
        assert_eq!((&sets["bounding"], &sets["bounding"]), (&sets["effective"], &sets["permitted"]));
        assert_eq!(sets.get("ambient"), None);
        Ok(serde_json::from_value(sets["bounding"].clone()).unwrap())
    }

    #[test]
    fn added_and_dropped_by_name() {
        assert_eq!(bounding(&[]).unwrap(), CAPABILITIES);
        let flags = ["--cap-add", "net_admin", "--cap-add", "CAP_SYS_PTRACE", "--cap-drop", "mknod"];
        let held = bounding(&flags).unwrap();
        assert!(held.contains(&"CAP_NET_ADMIN".into()) && held.contains(&"CAP_SYS_PTRACE".into()));
        assert!(!held.contains(&"CAP_MKNOD".into()));
        assert_eq!(held.len(), CAPABILITIES.len() + 1);
        assert_eq!(bounding(&["--cap-add", "frob"]).unwrap_err(), "there is no capability \"frob\"");
    }

    #[test]
    fn all_is_all_that_can_be_given() {
        assert_eq!(bounding(&["--cap-drop", "all"]).unwrap(), Vec::<String>::new());
        assert_eq!(bounding(&["--cap-drop=ALL", "--cap-add=KILL"]).unwrap(), ["CAP_KILL"]);
        let all = bounding(&["--cap-add=ALL"]).unwrap();
        assert_eq!(all, grantable().unwrap());
        assert_eq!(bounding(&["--privileged"]).unwrap(), all);
        let less = bounding(&["--cap-add=ALL", "--cap-drop=KILL"]).unwrap();
        assert_eq!(less.len(), all.len() - 1);
        assert!(!less.contains(&"CAP_KILL".into()));
    }

    #[test]
    fn every_name_is_one_of_the_specification() {
        for name in NAMES {
            let parsed: Result<oci_spec::runtime::Capability, _> = serde_json::from_value(json!(name));
            assert!(parsed.is_ok(), "{name}");
        }
    }
}
