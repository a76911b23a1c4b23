// SPDX-License-Identifier: Apache-2.0
//! Stopping all processes of a container in their tracks, and letting them go on.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::control::{open_directory, read_file, read_word, wait_for_event, write_file, write_file_at};
use super::tree::walk;
use super::{Cgroup, CgroupError, Version};

const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Freezes every process and returns once they are frozen.
    ///
    /// When some process cannot be frozen within ten seconds, all go on and it is an error.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.freeze_within(PATIENCE)
    }

    pub(super) fn freeze_within(&self, patience: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + patience;
        let (version, path) = self.freezer().ok_or(CgroupError::NoFreezer)?;
        let frozen = match version {
            Version::V2 => {
                set(path, "cgroup.freeze", "1")?;
                wait_for_event(path, "frozen", "1", deadline)
                    .map_err(|source| CgroupError::Read { path: path.join("cgroup.events"), source })?
            }
            Version::V1 => freeze_v1(path, deadline)?,
        };
        if !frozen {
            self.thaw()?;
            return Err(CgroupError::FreezeTimeout { path: path.to_owned(), seconds: patience.as_secs() });
        }
        Ok(())
    }

    /// Lets frozen processes go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match self.freezer().ok_or(CgroupError::NoFreezer)? {
            (Version::V2, path) => set(path, "cgroup.freeze", "0"),
            (Version::V1, path) => set(path, "freezer.state", "THAWED"),
        }
    }

    /// Lets go on whoever is frozen by v1, in cgroups below as well: not even `SIGKILL` ends those. That some
    /// cannot be is for whoever waits for their end to find.
    pub(crate) fn thaw_v1(&self) {
        let Some(top) = self.v1_path("freezer").and_then(|path| open_directory(path).ok()) else { return };
        let thaw = |directory: BorrowedFd<'_>| {
            let _ = write_file_at(directory, "freezer.state", "THAWED");
            Ok(())
        };
        let _ = walk(top, thaw, |_, _| Ok(()));
    }

    /// Whether the processes are frozen or about to be; not when the cgroup is gone, or has no freezer.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let (path, thawed) = match self.freezer() {
            Some((Version::V2, path)) => (path.join("cgroup.freeze"), "0"),
            Some((Version::V1, path)) => (path.join("freezer.state"), "THAWED"),
            None => return Ok(false),
        };
        match read_word(&path) {
            Ok(state) => Ok(state != thawed),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
            Err(source) => Err(CgroupError::Read { path, source }),
        }
    }

    /// v2's where there is one, also beside v1: it tells when it is done, and frozen processes can be killed.
    fn freezer(&self) -> Option<(Version, &Path)> {
        let v2 = self.v2_path().map(|path| (Version::V2, path));
        v2.or_else(|| self.v1_path("freezer").map(|path| (Version::V1, path)))
    }
}

/// v1 may stay half-way (`FREEZING`) for ever when a process forks at the wrong moment, or waits for one that
/// is frozen already; asked again it goes on, and at times only after having been thawed.
fn freeze_v1(path: &Path, deadline: Instant) -> Result<bool, CgroupError> {
    let file = path.join("freezer.state");
    while Instant::now() < deadline {
        let mut pause = Duration::from_micros(10);
        while pause < Duration::from_millis(10) {
            set(path, "freezer.state", "FROZEN")?;
            let state = read_file(&file).map_err(|source| CgroupError::Read { path: file.clone(), source })?;
            if state.trim() == "FROZEN" {
                return Ok(true);
            }
            sleep(pause);
            pause *= 2;
        }
        set(path, "freezer.state", "THAWED")?;
        sleep(Duration::from_millis(1));
    }
    Ok(false)
}

fn set(path: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let file = path.join(file);
    write_file(&file, value).map_err(|errno| CgroupError::Write { file, value: value.to_owned(), source: errno.into() })
}
