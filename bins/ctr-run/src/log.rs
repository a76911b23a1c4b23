// SPDX-License-Identifier: Apache-2.0
//! Messages as runc's callers read them: in the `--log` file as text or JSON, and on standard error.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use ctr_cli::Error;
use ctr_record::Timestamp;
use serde_json::json;

use crate::args::Global;

/// Reports the failure of a verb.
///
/// The file gets one JSON object (podman reads exactly one), and standard error one line.
pub(crate) fn report(global: &Global, error: &Error) {
    let message = error.to_line();
    if let Some(path) = &global.log {
        let time = Timestamp::now();
        let line = match global.log_format.as_str() {
            "json" => json!({"level": "error", "msg": message, "time": time}).to_string(),
            _ => format!("time=\"{time}\" level=error msg={message:?}"),
        };
        let file = File::options().append(true).create(true).mode(0o644).open(path);
        if let Err(failed) = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
            eprintln!("ctr-run: unable to write the log {}: {failed}", path.display());
        }
    }
    ctr_cli::render("ctr-run", error);
}
