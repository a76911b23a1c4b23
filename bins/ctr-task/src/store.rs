// SPDX-License-Identifier: Apache-2.0
//! The parts of the state directory that the verbs work on.

use std::process::ExitCode;

use ctr_cli::{Error, StateArgs};
use ctr_store::StateDir;
use ctr_store::bundle::Bundles;
use ctr_store::task::Tasks;

/// A namespace of a state directory.
pub(crate) struct Store {
    pub(crate) state: StateDir,
    pub(crate) namespace: String,
    pub(crate) tasks: Tasks,
    pub(crate) bundles: Bundles,
}

impl Store {
    /// Opens what the flags name.
    pub(crate) fn open(args: &StateArgs) -> Result<Self, Error> {
        let state = StateDir::open(&args.dir()?)?;
        let namespace = args.namespace()?;
        let (tasks, bundles) = (Tasks::of(&state, &namespace), Bundles::of(&state, &namespace));
        Ok(Self { state, namespace, tasks, bundles })
    }
}

/// Does something to each of several containers. What fails is reported, the others go on, and the exit
/// code is that of the first failure.
pub(crate) fn for_each(ids: &[String], mut verb: impl FnMut(&str) -> Result<(), Error>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        if let Err(error) = verb(id) {
            let failed = ctr_cli::render("ctr-task", &error);
            code = if code == ExitCode::SUCCESS { failed } else { code };
        }
    }
    code
}
