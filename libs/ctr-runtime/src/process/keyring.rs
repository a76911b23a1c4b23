// SPDX-License-Identifier: Apache-2.0
//! The session keyring of a container: its own, and the same for all of its processes.

use std::ffi::CString;

use ctr_sys::keyring::{Keyring, Searchable};

use crate::plan::Plan;
use crate::process::report::{Step, StepResult};

/// The session keyring that a container's processes share.
#[derive(Debug)]
pub(crate) struct SessionKeyring {
    name: CString,
    /// For the first process: who will look for it.
    searchable: Option<Searchable>,
}

impl SessionKeyring {
    /// The keyring that a container's first process makes.
    pub(crate) fn of_first(plan: &Plan) -> Self {
        let by = match plan.namespaces.is_private(libc::CLONE_NEWUSER) {
            true => Searchable::ByAll,
            false => Searchable::ByUser,
        };
        Self { searchable: Some(by), ..Self::of_further(plan) }
    }

    /// The same for a process beside it.
    pub(crate) fn of_further(plan: &Plan) -> Self {
        Self { name: CString::new(format!("_ses.{}", plan.id)).expect("an id has no NUL bytes"), searchable: None }
    }

    /// Makes it, or the one that there is, that of this process.
    pub(crate) fn join(&self) -> StepResult<()> {
        let keyring = match Keyring::join_session(&self.name) {
            // A kernel without keys, or a seccomp filter around us that forbids them.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => return Ok(()),
            result => result.step("make a session keyring")?,
        };
        self.searchable.map_or(Ok(()), |by| keyring.make_searchable(by)).step("make the session keyring searchable")
    }
}
