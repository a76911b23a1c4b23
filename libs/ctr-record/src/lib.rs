// SPDX-License-Identifier: Apache-2.0
//! Pure data of the ctr toolkit: what the tools say to one another and what they name things by.
//!
//! Nothing here opens a file or a socket. A [`Record`] is the line that travels down a pipeline; a
//! [`Digest`] and its kin are parsed once and never a bare string again; an [`Event`] is a line of the
//! event log; an [`ErrorKind`] is what the exit code of every tool is made of.

mod descriptor;
mod digest;
mod error;
mod event;
mod mount;
mod name;
mod platform;
mod record;
mod reference;
mod time;

pub use descriptor::{Descriptor, media_type};
pub use digest::{Algorithm, ChainId, DiffId, Digest, Hasher, InvalidDigest};
pub use error::{Classify, ErrorKind};
pub use event::{Event, Payload, TaskIo};
pub use mount::Mount;
pub use name::{InvalidName, check_container_id, check_namespace};
pub use platform::{InvalidPlatform, Platform};
pub use record::{Bundle, Image, InvalidRecord, Record, Snapshot, Task, TaskStatus};
pub use reference::{InvalidReference, Reference};
pub use time::{InvalidTimestamp, Timestamp};
