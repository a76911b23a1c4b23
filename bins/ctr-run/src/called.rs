// SPDX-License-Identifier: Apache-2.0
//! The name that this program is called by. Installed as `runc`, for callers that know no other, it answers as
//! runc does where that can be told apart: in its help, its version, and its errors.

use std::path::Path;

use ctr_cli::Error;
use ctr_runtime::RuntimeError;

const RUNC: &str = "runc";

/// Whether it is called as `runc`.
pub(crate) fn as_runc() -> bool {
    std::env::args_os().next().is_some_and(|path| Path::new(&path).file_name().is_some_and(|name| name == RUNC))
}

/// The name for help and version.
pub(crate) fn name() -> &'static str {
    if as_runc() { RUNC } else { "ctr-run" }
}

/// The form of a help: runc's heading with the name in it and what follows that, and then clap's usual rest.
pub(crate) fn help(rest: &str) -> String {
    format!("NAME:\n   {} {rest}\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}", name())
}

/// A failure of `create`, `run` or `exec`, called `what`, with what runc has in front of it.
pub(crate) fn failed(what: &str, error: RuntimeError) -> Error {
    if !as_runc() {
        return error.into();
    }
    let place = match &error {
        RuntimeError::Init(failure) if failure.exec_status == 0 => {
            ": unable to start container process: error during container init"
        }
        RuntimeError::Init(_) => ": unable to start container process",
        _ => "",
    };
    Error::from(error).within(format_args!("{what} failed{place}"))
}
