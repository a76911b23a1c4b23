// SPDX-License-Identifier: Apache-2.0
//! The error that a main returns: one line for people, one object for programs.

use std::fmt::Display;

use ctr_record::{Classify, ErrorKind};
use serde_json::json;

/// A failure on its way to standard error: its class, and the chain of what failed and why.
///
/// Any library error becomes one by `?`; [`Context`] puts in front what the tool was about to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    /// What failed first, causes after it.
    chain: Vec<String>,
    hint: Option<String>,
    exit_code: Option<u8>,
}

impl Error {
    /// A failure that is the tool's own finding.
    pub fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self { kind, chain: vec![one_line(message)], hint: None, exit_code: None }
    }

    /// A request that makes no sense.
    pub fn misuse(message: impl Display) -> Self {
        Self::new(ErrorKind::Misuse, message)
    }

    /// Adds what the user could do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(one_line(hint));
        self
    }

    /// Puts what it was part of in front of the chain.
    #[must_use]
    pub fn within(mut self, whole: impl Display) -> Self {
        self.chain.insert(0, one_line(whole));
        self
    }

    /// Replaces the exit code that the kind implies: 125 to 127 of tools that relay a container's status.
    #[must_use]
    pub fn with_exit_code(mut self, code: u8) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// The failure's class.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code of a tool that ends with this failure.
    pub fn exit_code(&self) -> u8 {
        self.exit_code.unwrap_or_else(|| self.kind.exit_code())
    }

    /// The whole chain on one line, without the tool's name.
    pub fn to_line(&self) -> String {
        self.chain.join(": ")
    }

    pub(crate) fn to_json(&self, tool: &str) -> String {
        let (message, causes) = self.chain.split_first().expect("an error says something");
        let mut object = json!({ "tool": tool, "kind": self.kind.name(), "message": message, "causes": causes });
        if let Some(hint) = &self.hint {
            object["hint"] = json!(hint);
        }
        object.to_string()
    }

    pub(crate) fn to_text(&self, tool: &str) -> String {
        match &self.hint {
            Some(hint) => format!("{tool}: {} ({hint})", self.to_line()),
            None => format!("{tool}: {}", self.to_line()),
        }
    }
}

impl<E: Classify> From<E> for Error {
    fn from(error: E) -> Self {
        let (kind, hint) = (error.kind(), error.hint());
        let mut chain = vec![one_line(&error)];
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push(one_line(cause));
            source = cause.source();
        }
        Self { kind, chain, hint, exit_code: None }
    }
}

/// Says what a tool was doing when something failed.
pub trait Context<T> {
    /// Puts `unable to WHAT` in front of the causes.
    fn unable_to<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn unable_to<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, Error> {
        self.map_err(|error| error.into().within(format_args!("unable to {}", what())))
    }
}

// Messages quote names from images and servers: a newline or an escape sequence must not get through.
fn one_line(message: impl Display) -> String {
    message.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn refused() -> Result<(), io::Error> {
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused\nby \x1b[31mpeer"))
    }

    #[test]
    fn a_chain_is_one_line_without_control_characters() {
        let error = refused().unable_to(|| "fetch x").unwrap_err();
        assert_eq!(error.to_text("ctr-pull"), "ctr-pull: unable to fetch x: refused by  [31mpeer");
        assert_eq!(error.exit_code(), 75);
    }

    #[test]
    fn json_has_kind_causes_and_hint() {
        let error = refused().unable_to(|| "fetch x").unwrap_err().with_hint("start it");
        let object: serde_json::Value = serde_json::from_str(&error.to_json("ctr-pull")).unwrap();
        assert_eq!(object["kind"], "temporary");
        assert_eq!(object["message"], "unable to fetch x");
        assert_eq!(object["causes"].as_array().unwrap().len(), 1);
        assert_eq!(object["hint"], "start it");
    }
}
