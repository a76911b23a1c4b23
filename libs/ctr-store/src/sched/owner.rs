// SPDX-License-Identifier: Apache-2.0
//! What a place or a ticket says of its owner. Only people read it: the lock decides.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ctr_record::Timestamp;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The owner of a place or a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Its process.
    pub pid: i32,
    /// When that process was started, in clock ticks since boot.
    pub start_time: u64,
    /// Since when it has been waiting, or has had the place.
    pub since: Timestamp,
    /// What it is to run or runs.
    pub command: Vec<String>,
}

impl Owner {
    /// This process, as of now.
    pub(super) fn this(command: &[String]) -> Self {
        let pid = Pid::this();
        // Without /proc there is nothing to tell; the limiter works all the same.
        let start_time = ctr_sys::stat::start_time(pid).unwrap_or_default();
        Self { pid: pid.as_raw(), start_time, since: Timestamp::now(), command: command.to_vec() }
    }

    /// Best effort: a full disk must not keep anything from starting.
    pub(super) fn inscribe(&self, file: &File) {
        let text = serde_json::to_vec(self).expect("an owner has only string keys");
        let _ = file.write_all_at(&text, 0).and_then(|()| file.set_len(text.len() as u64));
    }

    /// `None` when it has not been written yet, or not whole.
    pub(super) fn read(file: &File) -> Option<Self> {
        let mut text = vec![0; 64 << 10];
        let length = file.read_at(&mut text, 0).ok()?;
        serde_json::from_slice(&text[..length]).ok()
    }
}
