// SPDX-License-Identifier: Apache-2.0
//! The flags that say which state directory and which namespace.

use std::path::PathBuf;

use ctr_record::{Record, check_namespace};

use crate::Error;

/// `--state-dir` and `--namespace`, for tools to flatten into their arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StateArgs {
    /// State directory [default: $CTR_STATE_DIR, /var/lib/ctr for root, else $XDG_STATE_HOME/ctr]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Namespace of names [default: $CTR_NAMESPACE, default]
    #[arg(long, value_name = "NAME", global = true)]
    pub namespace: Option<String>,
}

impl StateArgs {
    /// The state directory that is meant, as an absolute path.
    pub fn dir(&self) -> Result<PathBuf, Error> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home_state = || {
            let state = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")))?;
            Some(state.join("ctr"))
        };
        let dir = match self.state_dir.clone().or_else(|| var("CTR_STATE_DIR")) {
            Some(dir) => dir,
            None if ctr_sys::process::is_root() => PathBuf::from("/var/lib/ctr"),
            None => home_state().ok_or_else(|| {
                Error::misuse("no state directory: give --state-dir, or set CTR_STATE_DIR, XDG_STATE_HOME or HOME")
            })?,
        };
        Ok(std::path::absolute(dir)?)
    }

    /// The namespace that is meant.
    pub fn namespace(&self) -> Result<String, Error> {
        let from_env = || std::env::var("CTR_NAMESPACE").ok().filter(|name| !name.is_empty());
        let name = self.namespace.clone().or_else(from_env).unwrap_or_else(|| "default".to_owned());
        check_namespace(&name)?;
        Ok(name)
    }

    /// An empty record of this state directory and namespace.
    pub fn new_record(&self) -> Result<Record, Error> {
        Ok(Record::new(self.dir()?, &self.namespace()?))
    }

    /// Refuses a record that speaks of another state directory or namespace than the flags do.
    ///
    /// A record knows where it belongs, so tools that read one need neither flag.
    pub fn check(&self, record: &Record) -> Result<(), Error> {
        check_namespace(&record.namespace)?;
        if !record.state_dir.is_absolute() {
            return Err(Error::new(
                ctr_record::ErrorKind::Invalid,
                format!("the record's stateDir {:?} is not an absolute path", record.state_dir),
            ));
        }
        if let Some(dir) = &self.state_dir
            && std::path::absolute(dir)? != record.state_dir
        {
            return Err(Error::misuse(format!(
                "--state-dir {} contradicts the record, which is of {}",
                dir.display(),
                record.state_dir.display()
            )));
        }
        match &self.namespace {
            Some(name) if *name != record.namespace => Err(Error::misuse(format!(
                "--namespace {name} contradicts the record, which is of {}",
                record.namespace
            ))),
            _ => Ok(()),
        }
    }
}
