// SPDX-License-Identifier: Apache-2.0
//! Credential helpers: `docker-credential-NAME get`, the server on stdin, JSON on stdout.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Error;
use crate::credentials::Login;
use crate::error::printable;

const OUTPUT_LIMIT: u64 = 1 << 20;

/// Asks a helper for the login of a server. `None` when it says that it knows none.
pub(crate) fn get(name: &str, server: &str) -> Result<Option<Login>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let helper = format!("docker-credential-{name}");
    let failed = |reason: String| Error::Helper { helper: printable(&helper), reason };
    // The name completes the name of a program; it must not lead to another directory.
    if name.contains('/') {
        return Err(failed("the name has a slash in it".to_owned()));
    }
    let mut child = Command::new(&helper)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    // A helper that does not read its stdin says so by its answer; the pipe closes at the semicolon.
    let _ = stdin.expect("stdin is piped").write_all(server.as_bytes());
    let read = stdout.expect("stdout is piped").take(OUTPUT_LIMIT).read_to_end(&mut output);
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    read.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let reason = printable(&String::from_utf8_lossy(&output));
        return match reason.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(if reason.is_empty() { status.to_string() } else { reason })),
        };
    }
    let Answer { username, secret } = serde_json::from_slice(&output)
        .map_err(|_| failed("its answer is not that of a credential helper".to_owned()))?;
    Ok((!secret.is_empty()).then(|| Login::new(&username, &secret)))
}
