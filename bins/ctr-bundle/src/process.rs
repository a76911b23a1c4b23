// SPDX-License-Identifier: Apache-2.0
//! The container's process: arguments, environment, directory, terminal, limits.

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use ctr_store::read_bounded;
use ctr_sys::process::RLIMIT_NAMES;
use serde_json::{Value, json};

use crate::args::Args;
use crate::image_config::RunConfig;
use crate::quantity::key_value;
use crate::rootfs::clean;
use crate::spec::list;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MAX_ENV_FILE: u64 = 1 << 20;

/// Sets `process.args` by Docker's rules: arguments replace Cmd, a new entrypoint drops it.
pub(crate) fn set_args(spec: &mut Value, args: &Args, image: &RunConfig) {
    let given: Vec<&String> = args.arg.iter().chain(&args.command).collect();
    let mut words: Vec<&String> = match &args.entrypoint {
        Some(program) => Some(program).into_iter().filter(|program| !program.is_empty()).collect(),
        None => image.entrypoint.iter().collect(),
    };
    match given.is_empty() && args.entrypoint.is_none() {
        true => words.extend(&image.cmd),
        false => words.extend(given),
    }
    spec["process"]["args"] = json!(words);
}

/// Sets `process.env`: the image's, over it the defaults that it lacks, the files, the flags.
pub(crate) fn set_env(spec: &mut Value, args: &Args, image: &RunConfig) -> Result<(), Error> {
    let mut env = Environment { variables: Vec::new() };
    for variable in &image.env {
        // Without a value there is nothing to set (containerd unsets by that, and nothing is set yet).
        if let Some((name, value)) = variable.split_once('=') {
            env.set(name, value).unable_to(|| "use the image's Env")?;
        }
    }
    env.set_default("PATH", DEFAULT_PATH)?;
    if args.tty {
        env.set_default("TERM", "xterm")?;
    }
    for path in &args.env_file {
        let text = read_bounded(path, MAX_ENV_FILE).unable_to(|| "read the environment file")?;
        let text = String::from_utf8(text)
            .map_err(|_| Error::new(ErrorKind::Invalid, format!("{} is not UTF-8 text", path.display())))?;
        for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines() {
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                env.apply(line).unable_to(|| format!("use the environment file {}", path.display()))?;
            }
        }
    }
    for variable in &args.env {
        env.apply(variable)?;
    }
    spec["process"]["env"] = json!(env.variables.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>());
    Ok(())
}

/// Sets `process.cwd`: the flag's, the image's, the root.
pub(crate) fn set_cwd(spec: &mut Value, args: &Args, image: &RunConfig) -> Result<(), Error> {
    let cwd = match &args.cwd {
        Some(cwd) if !cwd.starts_with('/') => {
            return Err(Error::misuse(format!("--cwd {cwd:?} is not an absolute path")));
        }
        Some(cwd) => cwd.clone(),
        None if image.working_dir.starts_with('/') => image.working_dir.clone(),
        None => clean(&image.working_dir),
    };
    spec["process"]["cwd"] = json!(cwd);
    Ok(())
}

/// Sets `process.terminal`.
pub(crate) fn set_terminal(spec: &mut Value, args: &Args) {
    if args.tty {
        spec["process"]["terminal"] = json!(true);
    }
}

/// Sets `process.rlimits`; a limit that is there is replaced.
pub(crate) fn set_rlimits(spec: &mut Value, args: &Args) -> Result<(), Error> {
    for text in &args.rlimit {
        let invalid = |rule: &str| Error::misuse(format!("--rlimit {text:?}: {rule}"));
        let (name, limits) = text.split_once('=').ok_or_else(|| invalid("NAME=SOFT[:HARD] is expected"))?;
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("RLIMIT_").unwrap_or(&name);
        if !RLIMIT_NAMES.contains(&name) {
            return Err(invalid("there is no such limit"));
        }
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let limit = |text: &str| match text {
            "unlimited" | "-1" => Some(u64::MAX),
            digits => digits.parse().ok().filter(|_| !digits.starts_with('+')),
        };
        let (soft, hard) = limit(soft).zip(limit(hard)).ok_or_else(|| invalid("a limit is a number or unlimited"))?;
        if soft > hard {
            return Err(invalid("the soft limit is above the hard one"));
        }
        let kind = json!(format!("RLIMIT_{name}"));
        let rlimits = list(&mut spec["process"]["rlimits"]);
        rlimits.retain(|rlimit| rlimit["type"] != kind);
        rlimits.push(json!({"type": kind, "hard": hard, "soft": soft}));
    }
    Ok(())
}

/// Variables in the order of their first mention.
struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    // NAME=VALUE, or NAME for the caller's value; what the caller does not have is unset.
    fn apply(&mut self, variable: &str) -> Result<(), Error> {
        if variable.contains('=') {
            let (name, value) = key_value("environment variable", variable)?;
            return self.set(name, value);
        }
        match std::env::var(variable) {
            Ok(value) => self.set(variable, &value),
            Err(std::env::VarError::NotPresent) => {
                check_name(variable)?;
                self.variables.retain(|(name, _)| name != variable);
                Ok(())
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::new(ErrorKind::Invalid, format!("the value of {variable} is not UTF-8 text")))
            }
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_name(name)?;
        if value.contains('\0') {
            return Err(Error::new(ErrorKind::Invalid, format!("the value of {name} holds a NUL")));
        }
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_owned(),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    fn set_default(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match self.variables.iter().any(|(known, _)| known == name) {
            true => Ok(()),
            false => self.set(name, value),
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    match name.is_empty() || name.contains(['\0', ' ', '\t']) {
        true => Err(Error::new(ErrorKind::Invalid, format!("{name:?} is no name of an environment variable"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
