// SPDX-License-Identifier: Apache-2.0
//! A container's output as it is kept in a file, and back.

mod read;
#[cfg(test)]
mod tests;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{Decoder, LogEntry};
pub use write::Encoder;

/// How output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Kubernetes': a line each, `TIME stdout F TEXT`; `P` instead of `F` where the line goes on. Any
    /// bytes come back as they were.
    #[default]
    Cri,
    /// Docker's `json-file`: `{"log":"TEXT\n","stream":"stdout","time":"TIME"}`. What is not UTF-8 is lost.
    Json,
    /// The bytes alone, of both streams as they come.
    Raw,
}

/// One of a container's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// The stream's name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
