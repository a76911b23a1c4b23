// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between here and a registry. Every variant names the request.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ctr_record::{Classify, ErrorKind};
use reqwest::StatusCode;

use crate::InvalidManifest;

/// A failure to get something from a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host could not be found or connected to.
    #[error("{request}: {reason}")]
    Connect {
        /// Method and URL.
        request: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The host's certificate is not trusted, or it speaks no TLS.
    #[error("{request}: {reason}")]
    Tls {
        /// Method and URL.
        request: String,
        /// The reason.
        reason: String,
    },
    /// The connection broke, or what came over it is no HTTP.
    #[error("{request}: {reason}")]
    Exchange {
        /// Method and URL.
        request: String,
        /// The reason.
        reason: String,
    },
    /// The server keeps the connection open and sends nothing, or next to nothing.
    #[error("{request}: the server sent too little in {} s", .waited.as_secs())]
    Stalled {
        /// Method and URL.
        request: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The server said no.
    #[error("{request}: {status}{detail}")]
    Status {
        /// Method and URL.
        request: String,
        /// The HTTP status.
        status: StatusCode,
        /// What the server said about it, with a leading separator; may be empty.
        detail: String,
        /// When it may be asked again.
        retry_after: Option<Duration>,
    },
    /// The body is shorter than the descriptor says.
    #[error("{request}: the body ended at byte {received} of {size}")]
    Truncated {
        /// Method and URL.
        request: String,
        /// Bytes of the content that are there.
        received: u64,
        /// Bytes that it has.
        size: u64,
    },
    /// The body is longer than it may be.
    #[error("{request}: the body is longer than {limit} bytes")]
    TooLong {
        /// Method and URL.
        request: String,
        /// The descriptor's size, or the limit for documents of this kind.
        limit: u64,
    },
    /// The server broke a rule of HTTP or of the distribution specification.
    #[error("{request}: {rule}")]
    Protocol {
        /// Method and URL.
        request: String,
        /// What it did.
        rule: &'static str,
    },
    /// The server pointed to a place that is not followed.
    #[error("{request}: refused to go to {target}: {rule}")]
    Refused {
        /// Method and URL.
        request: String,
        /// Where it pointed to: scheme, host and port.
        target: String,
        /// Why not.
        rule: &'static str,
    },
    /// What arrived is no usable manifest.
    #[error("{request}")]
    Manifest {
        /// Method and URL.
        request: String,
        /// What is wrong with it.
        source: InvalidManifest,
    },
    /// A file with credentials cannot be read.
    #[error("cannot read credentials from {path:?}")]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A credential helper did not give what was asked for.
    #[error("credential helper {helper}: {reason}")]
    Helper {
        /// The program.
        helper: String,
        /// What it said, or what happened to it.
        reason: String,
    },
    /// A file with certificate authorities cannot be used.
    #[error("cannot use {path:?} as a certificate authority")]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The TLS machinery could not be set up.
    #[error("cannot set up TLS: {0}")]
    TlsSetup(String),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } | Self::Exchange { .. } | Self::Stalled { .. } | Self::Truncated { .. } => {
                ErrorKind::Temporary
            }
            Self::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
                StatusCode::NOT_FOUND | StatusCode::GONE => ErrorKind::NotFound,
                status if is_temporary(status) => ErrorKind::Temporary,
                _ => ErrorKind::Failed,
            },
            Self::TooLong { .. } | Self::Protocol { .. } => ErrorKind::Invalid,
            Self::Tls { .. } | Self::Refused { .. } => ErrorKind::Denied,
            Self::Manifest { source, .. } => source.kind(),
            Self::CredentialsFile { source, .. } | Self::Authority { source, .. } => ErrorKind::of_io(source),
            Self::Helper { .. } | Self::TlsSetup(_) => ErrorKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Tls { .. } => {
                "--ca FILE trusts a certificate authority; --plain-http is for a registry that speaks no TLS"
            }
            Self::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
                "the image may not exist or may need credentials: --user, or a login kept in auth.json or config.json"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Whether a request that was answered so may be answered otherwise later.
pub(crate) fn is_temporary(status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => true,
        status => status.is_server_error(),
    }
}

/// Makes one printable line of bounded length out of what a stranger sent.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let visible = |c: char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let words: Vec<&str> = text.split(|c: char| !visible(c) || c == ' ').filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sent_stays_on_one_line() {
        assert_eq!(printable(" a\u{1b}[31m\n b\u{202e}c\0 "), "a [31m b c");
        assert_eq!(printable(&"é".repeat(300)).chars().count(), 201);
    }
}
