// SPDX-License-Identifier: Apache-2.0
//! The other end of `ctr-sched`: the place that a command was started in.

use std::fs::{self, File};
use std::os::fd::RawFd;
use std::path::Path;

use super::PLACE_VARIABLE;

/// The place that `ctr-sched` started this process in.
#[derive(Debug)]
pub struct Inherited {
    file: File,
}

impl Inherited {
    /// Takes the place over from the environment, if there is one, so that no child inherits it.
    ///
    /// To be called first in `main`. Children should be given an environment without
    /// [`PLACE_VARIABLE`].
    pub fn take() -> Option<Self> {
        Self::take_number(std::env::var(PLACE_VARIABLE).ok()?.parse().ok()?)
    }

    pub(super) fn take_number(number: RawFd) -> Option<Self> {
        // The variable may be left over from a process further up, and the number mean something else here.
        let link = format!("/proc/self/fd/{number}");
        let is_place = is_slot(&fs::read_link(&link).ok()?) && fs::metadata(&link).ok()?.is_file();
        let file = if is_place { ctr_sys::inherit::take(number)?.into() } else { return None };
        Some(Self { file })
    }

    /// Gives the place to the next one, though other processes may still have its descriptor.
    pub fn release(self) {
        // Closing the file is no substitute: a process that was forked meanwhile would keep the lock. It
        // cannot fail for a descriptor that is a lock's.
        let _ = self.file.unlock();
    }
}

fn is_slot(path: &Path) -> bool {
    let parent = |path: &Path| path.parent().and_then(Path::file_name).map(|name| name.to_owned());
    let slots = path.parent().unwrap_or(path);
    parent(path).is_some_and(|name| name == "slots") && parent(slots).is_some_and(|name| name == "sched")
}
