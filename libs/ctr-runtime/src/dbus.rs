// SPDX-License-Identifier: Apache-2.0
//! A D-Bus client as small as talking to systemd takes: a method call, its answer, a signal.
//!
//! [`Value`] is what a message carries, [`Connection`] sends one and waits for others. Messages are the
//! D-Bus Specification's, version 1, little-endian; a peer may answer in either order. What comes in is
//! hostile until read: [`Reader`] checks every length against what is there, and a message may not be
//! larger than a megabyte. Nothing here knows systemd but for its addresses.

mod address;
mod connection;
mod message;
mod reader;
mod value;

use std::io;

pub(crate) use address::Address;
pub(crate) use connection::Connection;
pub(crate) use message::{Call, Message};
pub(crate) use reader::first_type;
pub(crate) use value::{LONGEST_SIGNATURE, Value};

/// What can go wrong between here and a D-Bus peer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum DbusError {
    #[error("find the user's D-Bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR leads to it")]
    NoUserBus,
    #[error("use the D-Bus address {address:?}: only unix:path= and unix:abstract= are supported")]
    Address { address: String },
    #[error("connect to D-Bus at {address}")]
    Connect { address: String, source: io::Error },
    #[error("authenticate to D-Bus at {address}: it answers {answer:?}")]
    Refused { address: String, answer: String },
    #[error("talk to D-Bus at {address}")]
    Io { address: String, source: io::Error },
    #[error("understand D-Bus at {address}: {reason}")]
    Protocol { address: String, reason: &'static str },
    /// The peer's own refusal of a call, by its name.
    #[error("{text}")]
    Answer { name: String, text: String },
}

impl DbusError {
    /// Whether the peer refused a call with this error.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == wanted)
    }
}
