// SPDX-License-Identifier: Apache-2.0
//! ctr-run's command line, one word a line: it is understood or refused, and never a panic.
#![no_main]
#![expect(dead_code, reason = "the whole of a tool, of which only the beginning is called")]

#[path = "../../../bins/ctr-run/src/args.rs"]
mod args;
#[path = "../../../bins/ctr-run/src/called.rs"]
mod called;
#[path = "../../../bins/ctr-run/src/criu.rs"]
mod criu;
#[path = "../../../bins/ctr-run/src/default_spec.rs"]
mod default_spec;
#[path = "../../../bins/ctr-run/src/events.rs"]
mod events;
#[path = "../../../bins/ctr-run/src/exec.rs"]
mod exec;
#[path = "../../../bins/ctr-run/src/features.rs"]
mod features;
#[path = "../../../bins/ctr-run/src/golang.rs"]
mod golang;
#[path = "../../../bins/ctr-run/src/log.rs"]
mod log;
#[path = "../../../bins/ctr-run/src/output.rs"]
mod output;
#[path = "../../../bins/ctr-run/src/quantity.rs"]
mod quantity;
#[path = "../../../bins/ctr-run/src/update.rs"]
mod update;
#[path = "../../../bins/ctr-run/src/verbs.rs"]
mod verbs;

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let words: Vec<OsString> = std::iter::once("ctr-run").chain(text.lines()).map(OsString::from).collect();
    let _ = golang::command_of(&words);
    let _ = golang::parse(words);
});
