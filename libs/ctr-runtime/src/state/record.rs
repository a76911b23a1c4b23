// SPDX-License-Identifier: Apache-2.0
//! What a container's directory records: its state, marks of how far it has come, and a copy of its config.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{ContainerDir, State};
use crate::RuntimeError;

/// The largest state.json: it holds the annotations of a config, and those are no larger.
const LARGEST: u64 = 16 << 20;
/// The mark of a cgroup that was made.
pub(super) const CGROUP: &str = "cgroup";
/// The mark of the first process, which names it.
pub(super) const PROCESS: &str = "process";
/// The mark of a container that is there as a whole.
pub(super) const COMPLETE: &str = "complete";

impl ContainerDir {
    /// Writes state.json.
    pub(crate) fn save(&self, state: &State) -> Result<(), RuntimeError> {
        let path = self.path().join("state.json");
        let new = self.path().join(".state.json");
        let bytes = serde_json::to_vec(state).expect("a state has only string keys");
        fs::write(&new, bytes).map_err(RuntimeError::io("write", &new))?;
        fs::rename(&new, &path).map_err(RuntimeError::io("write", &path))
    }

    /// Records that the cgroup was made.
    pub(crate) fn record_cgroup(&self) -> Result<(), RuntimeError> {
        self.record(CGROUP, "made")
    }

    /// Records the first process.
    pub(crate) fn record_process(&self, state: &State) -> Result<(), RuntimeError> {
        let inode = state.pid_inode.zip(this_boot());
        let inode = inode.map(|(inode, boot)| format!(":{inode}:{boot}")).unwrap_or_default();
        self.record(PROCESS, &format!("{}:{}{inode}", state.pid, state.pid_start_time))
    }

    /// Records that it is there as a whole.
    pub(crate) fn record_complete(&self) -> Result<(), RuntimeError> {
        self.record(COMPLETE, "made")
    }

    /// Records that it is about to be deleted.
    pub(crate) fn record_deletion(&self) -> Result<(), RuntimeError> {
        let path = self.path().join(COMPLETE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Whether it is there as a whole, and nobody has begun to delete it.
    pub(crate) fn is_complete(&self, state: &State) -> bool {
        state.complete || self.recorded(COMPLETE).is_some()
    }

    // A symlink is made by one call, and is there whole or not at all; a file that is replaced costs four
    // calls, and on some file systems the wait for the disk.
    fn record(&self, name: &str, value: &str) -> Result<(), RuntimeError> {
        let path = self.path().join(name);
        symlink(value, &path).map_err(RuntimeError::io("make", &path))
    }

    fn recorded(&self, name: &str) -> Option<String> {
        fs::read_link(self.path().join(name)).ok()?.into_os_string().into_string().ok()
    }

    /// Makes ready to replace the copy of the config; [`Self::replace_config`] then does.
    pub(crate) fn prepare_config(&self, bytes: &[u8]) -> Result<PathBuf, RuntimeError> {
        let new = self.new_config();
        match fs::write(&new, bytes) {
            Ok(()) => Ok(new),
            Err(error) => {
                let _ = fs::remove_file(&new);
                Err(RuntimeError::io("write", &new)(error))
            }
        }
    }

    /// Replaces the copy of the config.
    pub(crate) fn replace_config(&self, new: &Path) -> Result<(), RuntimeError> {
        let path = self.config();
        fs::rename(new, &path).map_err(RuntimeError::io("write", &path))
    }

    /// Whether a new one was left unused.
    pub(crate) fn has_new_config(&self) -> bool {
        fs::symlink_metadata(self.new_config()).is_ok()
    }

    /// Removes the new one.
    pub(crate) fn drop_new_config(&self) -> Result<(), RuntimeError> {
        let new = self.new_config();
        fs::remove_file(&new).map_err(RuntimeError::io("remove", &new))
    }

    fn new_config(&self) -> PathBuf {
        self.path().join(".config.json")
    }

    /// Reads state.json.
    pub(crate) fn load(&self) -> Result<State, RuntimeError> {
        let path = self.path().join("state.json");
        let bytes = match File::open(&path).and_then(read_whole) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RuntimeError::NotFound(self.id().to_owned()));
            }
            Err(error) => return Err(RuntimeError::io("read", &path)(error)),
        };
        let mut state: State =
            serde_json::from_slice(&bytes).map_err(|source| RuntimeError::DamagedState { path, source })?;
        let process = self.recorded(PROCESS);
        if let Some(process) = process.as_deref().and_then(parse_process) {
            (state.pid, state.pid_start_time, state.pid_inode) = process;
        }
        state.cgroup_is_made |= state.pid != 0 || self.recorded(CGROUP).is_some();
        Ok(state)
    }
}

fn parse_process(text: &str) -> Option<(i32, u64, Option<u64>)> {
    let mut fields = text.split(':');
    let (pid, start) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let inode = fields.next().zip(fields.next()).filter(|(_, boot)| Some(*boot) == this_boot());
    Some((pid, start, inode.and_then(|(inode, _)| inode.parse().ok())))
}

// As long as numbers are given for the first time, inodes follow from them: those of two boots are often the same.
fn this_boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| ctr_sys::stat::boot_id().ok()).as_deref()
}

// Nearly all states come with the first call.
fn read_whole(mut file: File) -> io::Result<Vec<u8>> {
    const USUAL: usize = 4 << 10;
    let mut bytes = vec![0; USUAL];
    let n = file.read(&mut bytes)?;
    bytes.truncate(n);
    if n == USUAL {
        file.take(LARGEST).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::Manager;

    #[test]
    fn what_is_recorded_of_a_process_is_read_with_and_without_its_inode() {
        let boot = this_boot().unwrap();
        assert_eq!(parse_process(&format!("7:5:6:{boot}")), Some((7, 5, Some(6))));
        // Of another boot, in which another process may have it.
        assert_eq!(parse_process(&format!("7:5:6:x{boot}")), Some((7, 5, None)));
        assert_eq!(parse_process("7:5:6"), Some((7, 5, None)));
        assert_eq!(parse_process("7:5"), Some((7, 5, None)));
        assert_eq!(parse_process("7"), None);
    }

    /// As the first version that had it wrote state.json; what it says more is of a later one than this.
    #[test]
    fn states_of_other_versions_are_read() {
        let root = std::env::temp_dir().join(format!("ctr-state-load-{}", std::process::id()));
        let (dir, _lock) = ContainerDir::claim(&root, "a").unwrap();
        let mut written = json!({
            "ociVersion": "1.2.0", "id": "a", "pid": 7, "pidStartTime": 9, "bundle": "/b", "rootfs": "/b/rootfs",
            "created": "2026-01-02T03:04:05.000000006Z", "owner": 0,
            "cgroup": {"": "/sys/fs/cgroup/unified/a", "pids": "/sys/fs/cgroup/pids/a"}, "cgroupIsMade": true
        });
        fs::write(dir.path().join("state.json"), written.to_string()).unwrap();
        let state = dir.load().unwrap();
        assert_eq!((state.pid, state.pid_start_time, state.cgroup_is_made), (7, 9, true));
        assert_eq!(state.cgroup.v1_path("pids"), Some(Path::new("/sys/fs/cgroup/pids/a")));
        assert_eq!(state.cgroup_manager, Manager::Cgroupfs);
        assert!(dir.is_complete(&state));
        written["later"] = json!({"x": 1});
        fs::write(dir.path().join("state.json"), written.to_string()).unwrap();
        dir.load().unwrap();
        written["cgroup"]["pids"] = json!("/sys/fs/cgroup/../x");
        fs::write(dir.path().join("state.json"), written.to_string()).unwrap();
        assert!(matches!(dir.load(), Err(RuntimeError::DamagedState { .. })));
        fs::remove_dir_all(root).unwrap();
    }
}
