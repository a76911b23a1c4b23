// SPDX-License-Identifier: Apache-2.0
//! Which commands are run once per record without being told so.

use std::ffi::OsString;
use std::path::Path;

/// The commands of `ctr-run` as an OCI runtime, which does not read records.
const RUNTIME_COMMANDS: [&str; 17] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

/// Whether a command would read one record from standard input: `ctr-shim`, and `ctr-run` at the end of
/// a pipeline. No other program's standard input is touched.
pub(crate) fn are_read_by(command: &[OsString]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let name = Path::new(program).file_name().unwrap_or_default();
    let mut words = arguments.iter().map(|word| word.to_string_lossy());
    let names_record = words.clone().any(|word| word == "--record" || word.starts_with("--record="));
    match name.to_str() {
        Some("ctr-shim") => !names_record,
        Some("ctr-run") => !names_record && !words.any(|word| RUNTIME_COMMANDS.contains(&&*word)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> bool {
        are_read_by(&command.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_would_read_one_record_gets_one_each() {
        for each in ["ctr-shim", "/usr/bin/ctr-shim --runtime runc", "ctr-run", "./ctr-run --root /x"] {
            assert!(read(each), "{each}");
        }
        for once in
            ["make x", "ctr-shim --record web.json", "ctr-run --record=web.json", "ctr-run --root r run -b b id"]
        {
            assert!(!read(once), "{once}");
        }
    }
}
