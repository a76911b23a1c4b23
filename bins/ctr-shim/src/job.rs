// SPDX-License-Identifier: Apache-2.0
//! What is to be done, as data: all that can be found out and refused before anything is done.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ctr_cli::{Context, Error};
use ctr_record::{ErrorKind, Mount, Record};
use ctr_store::bundle::Bundle;
use ctr_store::event::EventLog;
use ctr_store::task::{Order, Tasks};
use ctr_store::{StateDir, runtime_root};
use serde::Deserialize;

use crate::Args;

/// A container to start and keep.
pub(crate) struct Job {
    pub(crate) record: Record,
    pub(crate) tasks: Tasks,
    pub(crate) events: EventLog,
    pub(crate) order: Order,
    /// What the rootfs consists of, for the events and for a runtime that does not mount it itself.
    pub(crate) rootfs: Vec<Mount>,
    /// The bundle's config.json.
    pub(crate) config: Vec<u8>,
}

impl Job {
    /// What is left when the job is done.
    pub(crate) fn into_record(self) -> Record {
        self.record
    }

    /// Looks at everything that the record and the flags name.
    pub(crate) fn prepare(args: &Args, record: Record) -> Result<Self, Error> {
        let part = record.bundle.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the record has no bundle").with_hint("ctr-bundle adds one")
        })?;
        ctr_record::check_container_id(&part.id)?;
        let state = StateDir::open(&record.state_dir)?;
        let bundle = Bundle::open(&std::path::absolute(&part.path)?)?;
        let config = bundle.config()?;
        let rootfs = bundle.mounts()?.unwrap_or_default();
        let runtime = find_runtime(&args.runtime)?;
        // ctr-run mounts the root itself, where nobody else sees it.
        let mounts_itself = runtime.file_name().is_some_and(|name| name == "ctr-run");
        let order = Order {
            id: part.id.clone(),
            bundle: bundle.path().to_owned(),
            runtime,
            runtime_root: runtime_root(&record.namespace),
            log_path: args.log_path.as_ref().map(std::path::absolute).transpose()?,
            log_format: args.log_format.into(),
            terminal: wants_terminal(&bundle, &config)?,
            mounted: !rootfs.is_empty() && !mounts_itself,
        };
        let tasks = Tasks::of(&state, &record.namespace);
        Ok(Self { tasks, events: EventLog::open(&state)?, order, rootfs, config, record })
    }
}

fn wants_terminal(bundle: &Bundle, text: &[u8]) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Config {
        process: Option<Process>,
    }
    #[derive(Deserialize)]
    struct Process {
        #[serde(default)]
        terminal: bool,
    }
    let config: Config = serde_json::from_slice(text).map_err(|error| {
        let path = bundle.path().join("config.json");
        Error::new(ErrorKind::Invalid, format!("{} is not a valid config: {error}", path.display()))
    })?;
    Ok(config.process.is_some_and(|process| process.terminal))
}

/// The runtime's program: a path, a tool beside this one, or a name in `$PATH`.
fn find_runtime(name: &Path) -> Result<PathBuf, Error> {
    let executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if name.components().count() > 1 {
        let path = std::path::absolute(name)?;
        path.metadata().unable_to(|| format!("find the runtime {}", name.display()))?;
        return match executable(&path) {
            true => Ok(path),
            false => Err(Error::new(ErrorKind::Denied, format!("the runtime {} is not executable", name.display()))),
        };
    }
    let own = std::env::current_exe().ok().filter(|_| name == Path::new("ctr-run"));
    let beside = own.and_then(|exe| Some(exe.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        beside.into_iter().chain(std::env::split_paths(&path).filter(|directory| directory.is_absolute()));
    directories
        .map(|directory| directory.join(name))
        .find(executable)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no runtime {} in $PATH", name.display())))
}
