// SPDX-License-Identifier: Apache-2.0
//! Mounts: the flags' own, and what they and others change about the default ones.

use std::path::{Path, PathBuf};

use ctr_cli::Error;
use ctr_record::ErrorKind;
use serde_json::{Value, json};

use crate::args::Args;
use crate::quantity::size;
use crate::rootfs::{clean, is_below};
use crate::spec::{list, mount_on};

/// The options that any mount may have (mount(8), runtime-spec config-linux).
const OPTIONS: [&str; 36] = [
    "ro",
    "rw",
    "rro",
    "rrw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "symfollow",
    "nosymfollow",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
    "idmap",
    "ridmap",
    "tmpcopyup",
];
const PROPAGATION: [&str; 8] =
    ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];

/// A mount that a flag asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Wanted {
    kind: String,
    source: String,
    pub(crate) destination: String,
    options: Vec<String>,
}

impl Wanted {
    fn to_json(&self) -> Value {
        json!({"destination": self.destination, "type": self.kind, "source": self.source, "options": self.options})
    }
}

/// The mounts of `--mount`, `--volume` and `--tmpfs`, and of the host's /etc/hosts and /etc/resolv.conf
/// where its network is shared.
pub(crate) fn wanted(args: &Args) -> Result<Vec<Wanted>, Error> {
    let mut mounts = Vec::new();
    for text in &args.mount {
        mounts.push(parse_mount(text)?);
    }
    for text in &args.volume {
        mounts.push(parse_volume(text)?);
    }
    for text in &args.tmpfs {
        mounts.push(parse_tmpfs(text)?);
    }
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index].iter().any(|other| other.destination == mount.destination) {
            return Err(Error::misuse(format!("there are two mounts on {}", mount.destination)));
        }
    }
    if args.net.as_deref() == Some("host") {
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            if Path::new(file).exists() && !mounts.iter().any(|mount| is_below(file, &mount.destination)) {
                let options = ["rbind", "rprivate", "ro"].map(str::to_owned).to_vec();
                mounts.push(Wanted { kind: "bind".into(), source: file.into(), destination: file.into(), options });
            }
        }
    }
    // What lies inside another mount's destination has to be mounted after it.
    mounts.sort_by_key(|mount| mount.destination.matches('/').count());
    Ok(mounts)
}

/// Adds the wanted mounts. A default one with the same destination, or below it, gives way.
pub(crate) fn add_mounts(spec: &mut Value, mounts: &[Wanted]) {
    let all = list(&mut spec["mounts"]);
    all.retain(|default| {
        let destination = default["destination"].as_str().unwrap_or_default();
        !mounts.iter().any(|mount| is_below(destination, &mount.destination))
    });
    all.extend(mounts.iter().map(Wanted::to_json));
}

/// Makes the root read-only. The runtime does so when all is mounted: mount points can still be made.
pub(crate) fn set_read_only(spec: &mut Value, args: &Args) {
    if args.read_only {
        spec["root"]["readonly"] = json!(true);
    }
}

/// Sets the size of /dev/shm, which is the host's when its IPC namespace is shared.
pub(crate) fn set_shm(spec: &mut Value, args: &Args) -> Result<(), Error> {
    let shared = args.ipc.as_deref() == Some("host");
    let bytes = match &args.shm_size {
        Some(_) if shared => return Err(Error::misuse("--shm-size cannot be had with --ipc host")),
        Some(text) => Some(size("--shm-size", text)?),
        None => None,
    };
    let Some(shm) = mount_on(spec, "/dev/shm") else { return Ok(()) };
    if shared {
        *shm = json!({
            "destination": "/dev/shm",
            "type": "bind",
            "source": "/dev/shm",
            "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev"],
        });
    } else if let Some(bytes) = bytes {
        let options = list(&mut shm["options"]);
        options.retain(|option| option.as_str().is_none_or(|option| !option.starts_with("size=")));
        options.push(json!(format!("size={bytes}")));
    }
    Ok(())
}

// type=bind|tmpfs|…,src=…,dst=… and options, each by itself or in options=a:b as ctr has them.
fn parse_mount(text: &str) -> Result<Wanted, Error> {
    let invalid = |rule: String| Error::misuse(format!("--mount {text:?}: {rule}"));
    let (mut kind, mut source, mut destination) = (None, None, None);
    let mut options: Vec<String> = Vec::new();
    for item in text.split(',') {
        match item.split_once('=').unwrap_or((item, "")) {
            ("type", value) => kind = Some(value),
            ("src" | "source", value) => source = Some(value),
            ("dst" | "destination" | "target", value) => destination = Some(value),
            ("options", value) => options.extend(value.split(':').map(str::to_owned)),
            ("readonly", "" | "true" | "1") => options.push("ro".into()),
            ("readonly", "false" | "0") => options.push("rw".into()),
            ("bind-propagation", value) if PROPAGATION.contains(&value) => options.push(value.into()),
            ("tmpfs-size", value) => options.push(format!("size={}", size("tmpfs-size", value)?)),
            ("tmpfs-mode", value) => options.push(format!("mode={value}")),
            _ if item.is_empty() => return Err(invalid("an option is empty".into())),
            _ => options.push(item.to_owned()),
        }
    }
    let kind = kind.unwrap_or("bind");
    let destination = destination_of(destination.unwrap_or_default()).map_err(invalid)?;
    match kind {
        "bind" => {
            bind(source.unwrap_or_default(), destination, options).map_err(|error| error.in_flag("--mount", text))
        }
        "volume" => Err(invalid("there are no named volumes".into())),
        kind => {
            let source = source.unwrap_or(kind).to_owned();
            Ok(Wanted { kind: kind.to_owned(), source, destination, options })
        }
    }
}

// SRC:DST[:OPTIONS]
fn parse_volume(text: &str) -> Result<Wanted, Error> {
    let invalid = |rule: String| Error::misuse(format!("--volume {text:?}: {rule}"));
    let (source, destination, options) = match text.split(':').collect::<Vec<_>>()[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(invalid("SRC:DST[:OPTIONS] is expected".into())),
    };
    if !source.starts_with(['/', '.']) {
        return Err(invalid("there are no named volumes; a path begins with / or .".into()));
    }
    let destination = destination_of(destination).map_err(invalid)?;
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    bind(source, destination, options).map_err(|error| error.in_flag("--volume", text))
}

// DST[:OPTIONS], with Docker's defaults.
fn parse_tmpfs(text: &str) -> Result<Wanted, Error> {
    let (destination, given) = text.split_once(':').unwrap_or((text, ""));
    let destination = destination_of(destination).map_err(|rule| Error::misuse(format!("--tmpfs {text:?}: {rule}")))?;
    let given: Vec<String> = given.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    let mut options = Vec::new();
    for (option, opposite) in [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("mode=1777", "mode=")] {
        let decided = |given: &String| given == option || given.starts_with(opposite);
        if !given.iter().any(decided) {
            options.push(option.to_owned());
        }
    }
    options.extend(given);
    Ok(Wanted { kind: "tmpfs".into(), source: "tmpfs".into(), destination, options })
}

fn destination_of(path: &str) -> Result<String, String> {
    match clean(path) {
        _ if !path.starts_with('/') => Err(format!("the destination {path:?} is not an absolute path")),
        root if root == "/" => Err("the destination is the root".into()),
        destination => Ok(destination),
    }
}

/// Why something cannot be bound.
enum BindError {
    Rule(String),
    Missing(PathBuf),
}

impl BindError {
    fn in_flag(self, flag: &str, text: &str) -> Error {
        match self {
            Self::Rule(rule) => Error::misuse(format!("{flag} {text:?}: {rule}")),
            Self::Missing(path) => {
                Error::new(ErrorKind::NotFound, format!("{flag} {text:?}: there is no {}", path.display()))
            }
        }
    }
}

fn bind(source: &str, destination: String, mut options: Vec<String>) -> Result<Wanted, BindError> {
    if source.is_empty() {
        return Err(BindError::Rule("the source is missing".into()));
    }
    if let Some(unknown) = options.iter().find(|option| !OPTIONS.contains(&option.as_str())) {
        return Err(BindError::Rule(format!("a bind mount has no option {unknown:?}")));
    }
    let path = std::path::absolute(source).map_err(|error| BindError::Rule(error.to_string()))?;
    if !path.exists() {
        return Err(BindError::Missing(path));
    }
    let source = path.to_str().ok_or_else(|| BindError::Rule("the source is not UTF-8 text".into()))?.to_owned();
    let has = |names: &[&str]| options.iter().any(|option| names.contains(&option.as_str()));
    let (bound, propagated) = (has(&["bind", "rbind"]), has(&PROPAGATION));
    if !propagated {
        options.insert(0, "rprivate".into());
    }
    if !bound {
        options.insert(0, "rbind".into());
    }
    Ok(Wanted { kind: "bind".into(), source, destination, options })
}

#[cfg(test)]
mod tests;
