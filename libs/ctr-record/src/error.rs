// SPDX-License-Identifier: Apache-2.0
//! What kind of failure an error is: the toolkit's exit codes, and how every library says which one.

use std::io;

/// The class of a failure, one per exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It did not work, and no other class fits.
    Failed,
    /// The caller asked in a way that is no request: bad flags, bad combination.
    Misuse,
    /// What the caller named does not exist.
    NotFound,
    /// It exists already, is in use, or is in the wrong state.
    Conflict,
    /// Not allowed: credentials, permissions.
    Denied,
    /// Malformed or hostile input: a digest that does not match, a bad manifest.
    Invalid,
    /// It may work when tried again: a server that is down, a rate limit, a full disk.
    Temporary,
}

impl ErrorKind {
    /// The exit code of a tool that fails with this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Misuse => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Denied => 5,
            Self::Invalid => 6,
            Self::Temporary => 75,
        }
    }

    /// The kind's name in JSON errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Misuse => "misuse",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Temporary => "temporary",
        }
    }

    /// The kind that an I/O error is by itself, where the operation says nothing more.
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::Conflict,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
            io::ErrorKind::InvalidData => Self::Invalid,
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted => Self::Temporary,
            _ => Self::Failed,
        }
    }
}

/// An error that knows its kind. Every library's error implements it; the tools' mains need nothing else.
pub trait Classify: std::error::Error + Send + Sync + 'static {
    /// The class of this failure.
    fn kind(&self) -> ErrorKind;

    /// What the user could do about it, as one sentence, where there is something.
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Classify for io::Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::of_io(self)
    }
}

macro_rules! invalid {
    ($($error:ty),*) => {$(
        impl Classify for $error {
            fn kind(&self) -> ErrorKind {
                ErrorKind::Invalid
            }
        }
    )*};
}

invalid!(
    crate::InvalidDigest,
    crate::InvalidName,
    crate::InvalidPlatform,
    crate::InvalidRecord,
    crate::InvalidReference,
    crate::InvalidTimestamp
);
