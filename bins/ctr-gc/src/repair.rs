// SPDX-License-Identifier: Apache-2.0
//! `--repair`: each thing that a killed process has left is removed and told of, one JSON object a line.
//!
//! What cannot be removed keeps nothing else from being removed.

use std::path::Path;
use std::process::ExitCode;

use ctr_cli::{Context, Error};
use ctr_store::StateDir;
use serde::Serialize;

/// What is told of each.
#[derive(Serialize)]
struct Repaired<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    path: &'a Path,
    action: &'a str,
}

/// A repair under way.
pub(crate) struct Repair {
    dry_run: bool,
    all_well: bool,
}

impl Repair {
    pub(crate) fn new(dry_run: bool) -> Self {
        Self { dry_run, all_well: true }
    }

    /// The containers of a state root of the runtime.
    pub(crate) fn containers(&mut self, root: &Path) -> Result<(), Error> {
        for leftover in ctr_runtime::leftovers(root).unable_to(|| "look for half-made containers")? {
            let Some(leftover) = self.note(leftover.unable_to(|| "examine a container")) else { continue };
            let (kind, id, path) = (leftover.kind(), leftover.id().to_owned(), leftover.path().to_owned());
            let removed = self.unless_dry(|| leftover.remove().map(|()| true));
            self.tell(Repaired { kind, id: Some(&id), path: &path, action: "" }, removed)?;
        }
        Ok(())
    }

    /// What is in a state directory, if there is one.
    pub(crate) fn state(&mut self, dir: &Path, namespace: &str) -> Result<(), Error> {
        if !dir.exists() {
            return Ok(());
        }
        let state = StateDir::open(dir)?;
        for leftover in ctr_store::leftovers(&state, namespace).unable_to(|| "look for half-made parts")? {
            let Some(leftover) = self.note(leftover.unable_to(|| "examine a part")) else { continue };
            let (kind, id, path) = (leftover.kind(), leftover.id().map(str::to_owned), leftover.path().to_owned());
            let removed = self.unless_dry(|| leftover.remove());
            self.tell(Repaired { kind: kind.as_str(), id: id.as_deref(), path: &path, action: "" }, removed)?;
        }
        Ok(())
    }

    /// What to exit with.
    pub(crate) fn finish(self) -> ExitCode {
        if self.all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn unless_dry<E>(&self, remove: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        if self.dry_run { Ok(true) } else { remove() }
    }

    fn tell<E: Into<Error>>(&mut self, what: Repaired<'_>, removed: Result<bool, E>) -> Result<(), Error> {
        let shown = || format!("clear up {}", what.path.display());
        match self.note(removed.unable_to(shown)) {
            Some(true) => {
                let action = if self.dry_run { "would remove" } else { "removed" };
                ctr_cli::emit(&Repaired { action, ..what })
            }
            // Who has come by meanwhile, or an error that was told.
            Some(false) | None => Ok(()),
        }
    }

    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                ctr_cli::render("ctr-gc", &error);
                self.all_well = false;
                None
            }
        }
    }
}
