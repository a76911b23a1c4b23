// SPDX-License-Identifier: Apache-2.0
//! What keeps a container in: seccomp, no new privileges, hidden and read-only paths.

use std::path::Path;

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use ctr_store::read_bounded;
use serde_json::{Value, json};

use crate::args::Args;
use crate::seccomp_profile::default_profile;
use crate::spec::{list, mount_on};

/// The largest seccomp profile; the default one has some ten thousand bytes.
const MAX_PROFILE: u64 = 4 << 20;

/// Lets a privileged container write to /sys and its cgroups.
pub(crate) fn set_privileged(spec: &mut Value, args: &Args) {
    if !args.privileged {
        return;
    }
    for destination in ["/sys", "/sys/fs/cgroup"] {
        if let Some(mount) = mount_on(spec, destination) {
            list(&mut mount["options"]).retain(|option| option != "ro");
        }
    }
}

/// Sets `process.noNewPrivileges`; a privileged container may gain some unless the flag says otherwise.
pub(crate) fn set_no_new_privileges(spec: &mut Value, args: &Args) {
    if let Some(value) = args.no_new_privileges.or(args.privileged.then_some(false)) {
        spec["process"]["noNewPrivileges"] = json!(value);
    }
}

/// Sets the hidden and the read-only paths; a privileged container has none but those of the flags.
pub(crate) fn set_paths(spec: &mut Value, args: &Args) -> Result<(), Error> {
    for (flag, paths, member) in
        [("--masked-path", &args.masked_path, "maskedPaths"), ("--readonly-path", &args.readonly_path, "readonlyPaths")]
    {
        let all = list(&mut spec["linux"][member]);
        if args.privileged {
            all.clear();
        }
        for path in paths {
            match path.as_str() {
                "none" => all.clear(),
                path if path.starts_with('/') => all.push(json!(path)),
                path => return Err(Error::misuse(format!("{flag} {path:?} is neither an absolute path nor none"))),
            }
        }
    }
    Ok(())
}

/// Sets `linux.seccomp`: the default profile for the capabilities that the container has, a file's, none.
pub(crate) fn set_seccomp(spec: &mut Value, args: &Args) -> Result<(), Error> {
    let profile = match args.seccomp.as_deref() {
        None if args.privileged => return Ok(()),
        Some("unconfined") => return Ok(()),
        None | Some("default") => {
            let held = spec["process"]["capabilities"]["bounding"].as_array().into_iter().flatten();
            let held: Vec<&str> = held.filter_map(Value::as_str).collect();
            default_profile(&held)
        }
        Some(path) => read_profile(Path::new(path))?,
    };
    spec["linux"]["seccomp"] = profile;
    Ok(())
}

fn read_profile(path: &Path) -> Result<Value, Error> {
    let invalid =
        |cause: String| Error::new(ErrorKind::Invalid, format!("{} is not a seccomp profile: {cause}", path.display()));
    let text = read_bounded(path, MAX_PROFILE).unable_to(|| "read the seccomp profile")?;
    let profile: Value = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    // Docker's form has conditions that a runtime would not see: every rule would hold always.
    let conditional = |rule: &Value| rule.get("includes").is_some() || rule.get("excludes").is_some();
    if profile.get("archMap").is_some()
        || profile["syscalls"].as_array().is_some_and(|rules| rules.iter().any(conditional))
    {
        return Err(invalid("archMap, includes and excludes are Docker's, not the runtime specification's".into()));
    }
    let parsed = serde_json::from_value::<oci_spec::runtime::LinuxSeccomp>(profile.clone());
    parsed.map_err(|error| invalid(error.to_string()))?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_spec::default_spec;
    use clap::Parser;

    fn with(flags: &[&str]) -> Result<Value, String> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        let mut spec = default_spec("default", "id");
        set_privileged(&mut spec, &args);
        set_no_new_privileges(&mut spec, &args);
        set_paths(&mut spec, &args).and_then(|()| set_seccomp(&mut spec, &args)).map_err(|error| error.to_line())?;
        Ok(spec)
    }

    #[test]
    fn paths_are_added_or_forgotten() {
        let masked = |flags: &[&str]| with(flags).unwrap()["linux"]["maskedPaths"].as_array().unwrap().len();
        let all = masked(&[]);
        assert_eq!(masked(&["--masked-path", "/x"]), all + 1);
        assert_eq!(masked(&["--masked-path", "none"]), 0);
        let spec = with(&["--readonly-path", "/x", "--readonly-path", "none", "--readonly-path", "/y"]).unwrap();
        assert_eq!(spec["linux"]["readonlyPaths"], json!(["/y"]));
        assert!(with(&["--masked-path", "x"]).is_err());
    }

    #[test]
    fn new_privileges_are_refused_unless_wanted() {
        let value = |flags: &[&str]| with(flags).unwrap()["process"]["noNewPrivileges"].clone();
        assert_eq!(value(&[]), true);
        assert_eq!(value(&["--no-new-privileges", "false"]), false);
        assert_eq!(value(&["--privileged"]), false);
        assert_eq!(value(&["--privileged", "--no-new-privileges=true"]), true);
    }

    #[test]
    fn the_filter_is_on_unless_privileged() {
        let filter = |flags: &[&str]| with(flags).unwrap()["linux"].get("seccomp").cloned();
        assert_eq!(filter(&[]).unwrap()["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(filter(&["--seccomp", "default"]), filter(&[]));
        assert_eq!(filter(&["--seccomp", "unconfined"]), None);
        assert_eq!(filter(&["--privileged"]), None);
        assert_eq!(filter(&["--privileged", "--seccomp", "default"]), filter(&[]));
    }

    #[test]
    fn a_profile_of_ones_own_is_taken_as_it_is() {
        let path = std::env::temp_dir().join(format!("ctr-bundle-seccomp-{}", std::process::id()));
        let with_file = |profile: Value| {
            std::fs::write(&path, profile.to_string()).unwrap();
            with(&["--seccomp", path.to_str().unwrap()]).map(|spec| spec["linux"]["seccomp"].clone())
        };
        let own = json!({"defaultAction": "SCMP_ACT_ALLOW", "future": 1, "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]});
        assert_eq!(with_file(own.clone()), Ok(own));
        for bad in [
            json!([]),
            json!({}),
            json!({"defaultAction": "NONSENSE"}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "archMap": []}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "includes": {}}]}),
        ] {
            assert!(with_file(bad.clone()).is_err(), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(with(&["--seccomp", "/not/there"]).is_err());
    }

    #[test]
    fn a_privileged_container_sees_and_writes_what_the_host_does() {
        let mut spec = with(&["--privileged"]).unwrap();
        for destination in ["/sys", "/sys/fs/cgroup"] {
            assert!(!list(&mut mount_on(&mut spec, destination).unwrap()["options"]).contains(&json!("ro")));
        }
        assert_eq!((&spec["linux"]["maskedPaths"], &spec["linux"]["readonlyPaths"]), (&json!([]), &json!([])));
        assert_eq!(with(&["--privileged", "--masked-path", "/x"]).unwrap()["linux"]["maskedPaths"], json!(["/x"]));
    }
}
