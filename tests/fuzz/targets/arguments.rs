// SPDX-License-Identifier: Apache-2.0
//! ctr-run's command line, one word a line: it is understood or refused, and never a panic.
#![no_main]

#[path = "../../../bins/ctr-run/src/args.rs"]
mod args;
#[path = "../../../bins/ctr-run/src/golang.rs"]
mod golang;

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let words: Vec<OsString> = std::iter::once("ctr-run").chain(text.lines()).map(OsString::from).collect();
    let _ = golang::command_of(&words);
    let _ = golang::parse(words);
});
