// SPDX-License-Identifier: Apache-2.0
//! The systemd driver: a container's cgroup is that of a transient scope, which systemd makes when asked to.
//!
//! A scope begins with a process. The container's does not exist yet, and is to be born where it belongs, so
//! a [`Holder`] is handed to systemd first and goes when the container's is there. Limits are the unit's
//! properties as far as systemd has them, and are written to the control files as well.

mod annotation;
mod attach;
mod manager;
mod properties;
mod scope;
mod unit;

use crate::dbus::Value;

pub(super) use attach::Attach;
pub(super) use properties::round_quota;
pub use scope::Holder;
pub use unit::{Unit, UnitPlan};
pub(super) use unit::{below, plan};

/// A property of a unit.
pub(super) type Property = (String, Value);
