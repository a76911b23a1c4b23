// SPDX-License-Identifier: Apache-2.0
//! What every tool's main has in common: arguments, record I/O, errors and exit codes.
//!
//! A main is `ctr_cli::run(|args: Args| …)`. It prints no error and chooses no exit code itself: it
//! returns an [`Error`], and this crate renders it, once, on one line.

mod error;
mod records;
mod start;
mod state;

pub use error::{Context, Error};
pub use records::{emit, filter_records, no_record, read_lines, read_records, single_record};
pub use start::{Stop, begin, finish, parse, render, run, tell};
pub use state::StateArgs;
