// SPDX-License-Identifier: Apache-2.0
//! A container's directory: claimed, locked, written to and read, removed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ctr_record::TaskStatus;

use super::State;
use crate::{RuntimeError, criu, gate, notify};

/// The largest state.json: it holds the annotations of a config, and those are no larger.
const LARGEST: u64 = 16 << 20;
/// All names in a container's directory: what holds another one is somebody else's.
const NAMES: [&str; 11] = [
    "state.json",
    ".state.json",
    "config.json",
    ".config.json",
    CGROUP,
    PROCESS,
    COMPLETE,
    gate::START,
    "report.fifo", // of an earlier version
    notify::DIRECTORY,
    criu::DIRECTORY,
];
const CGROUP: &str = "cgroup";
const PROCESS: &str = "process";
const COMPLETE: &str = "complete";

/// A container's directory in the state root.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir {
    path: PathBuf,
    id: String,
}

impl ContainerDir {
    /// The directory of a container that may or may not exist.
    pub(crate) fn new(root: &Path, id: &str) -> Result<Self, RuntimeError> {
        ctr_record::check_container_id(id).map_err(|_| RuntimeError::InvalidId(id.to_owned()))?;
        Ok(Self { path: root.join(id), id: id.to_owned() })
    }

    /// Claims the id: makes the directory, which must not exist, and locks it.
    pub(crate) fn claim(root: &Path, id: &str) -> Result<(Self, File), RuntimeError> {
        let dir = Self::new(root, id)?;
        loop {
            dir.make(root)?;
            // Between the two it looks abandoned, and somebody may remove it: then once more.
            match dir.lock() {
                Err(RuntimeError::NotFound(_)) => {}
                lock => return Ok((dir, lock?)),
            }
        }
    }

    fn make(&self, root: &Path) -> Result<(), RuntimeError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Sticky: what clears up $XDG_RUNTIME_DIR leaves it alone (XDG Base Directory Specification).
                let mut roots = DirBuilder::new();
                roots.mode(0o1700).recursive(true).create(root).map_err(RuntimeError::io("make", root))?;
                builder.create(&self.path)
            }
            result => result,
        }
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RuntimeError::Exists(self.id.clone()),
            _ => RuntimeError::io("make", &self.path)(error),
        })
    }

    /// The container's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The copy of the bundle's config.json.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// Waits until nobody else changes the container. Held until the file, its directory, is dropped.
    pub(crate) fn lock(&self) -> Result<File, RuntimeError> {
        loop {
            let dir = self.open()?;
            dir.lock().map_err(RuntimeError::io("lock", &self.path))?;
            if self.is_at(&dir)? {
                return Ok(dir);
            }
        }
    }

    /// The same without waiting: `None` when somebody changes it, or it is gone.
    pub(crate) fn try_lock(&self) -> Result<Option<File>, RuntimeError> {
        let dir = match self.open() {
            Err(RuntimeError::NotFound(_)) => return Ok(None),
            dir => dir?,
        };
        match dir.try_lock() {
            Ok(()) => Ok(if self.is_at(&dir)? { Some(dir) } else { None }),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(RuntimeError::io("lock", &self.path)(error)),
        }
    }

    fn open(&self) -> Result<File, RuntimeError> {
        File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RuntimeError::NotFound(self.id.clone()),
            _ => RuntimeError::io("open", &self.path)(error),
        })
    }

    // Who held it before may have deleted the container, and somebody made another of its id.
    fn is_at(&self, dir: &File) -> Result<bool, RuntimeError> {
        let held = dir.metadata().map_err(RuntimeError::io("read", &self.path))?;
        Ok(fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
    }

    /// Writes state.json.
    pub(crate) fn save(&self, state: &State) -> Result<(), RuntimeError> {
        let path = self.path.join("state.json");
        let new = self.path.join(".state.json");
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
        let path = self.path.join(COMPLETE);
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
        let path = self.path.join(name);
        symlink(value, &path).map_err(RuntimeError::io("make", &path))
    }

    fn recorded(&self, name: &str) -> Option<String> {
        fs::read_link(self.path.join(name)).ok()?.into_os_string().into_string().ok()
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
        self.path.join(".config.json")
    }

    /// Reads state.json.
    pub(crate) fn load(&self) -> Result<State, RuntimeError> {
        let path = self.path.join("state.json");
        let bytes = match File::open(&path).and_then(read_whole) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RuntimeError::NotFound(self.id.clone()));
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

    /// Removes a directory without a state, which a killed runtime left; one that holds what no runtime puts there
    /// is not a container's, and is left alone.
    pub(crate) fn remove_leftovers(&self) -> Result<(), RuntimeError> {
        match self.foreign_name()? {
            Some(name) => Err(RuntimeError::Foreign { path: self.path.clone(), name }),
            None => self.remove(),
        }
    }

    /// A name in it that no runtime puts there, if there is one.
    pub(crate) fn foreign_name(&self) -> Result<Option<OsString>, RuntimeError> {
        for entry in fs::read_dir(&self.path).map_err(RuntimeError::io("read", &self.path))? {
            let name = entry.map_err(RuntimeError::io("read", &self.path))?.file_name();
            if !NAMES.iter().any(|known| name == *known) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Removes the directory; one that is not there is no failure.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        // What nearly all of them hold. The state goes last: without it the rest is what a killed runtime left.
        for name in ["config.json", PROCESS, CGROUP, "state.json"] {
            let _ = fs::remove_file(self.path.join(name));
        }
        if fs::remove_dir(&self.path).is_ok() {
            return Ok(());
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::io("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }

    /// What the container does at this moment.
    pub(crate) fn status(&self, state: &State) -> TaskStatus {
        if state.pid == 0 {
            return TaskStatus::Creating;
        }
        if !state.process_is_alive() {
            return TaskStatus::Stopped;
        }
        if gate::is_closed(&self.path) {
            return TaskStatus::Created;
        }
        match state.cgroup.is_frozen() {
            Ok(true) => TaskStatus::Paused,
            _ => TaskStatus::Running,
        }
    }
}

/// The directories of a state root, by id. Not all have a state: some are being made, or are what a killed
/// runtime left.
pub(crate) fn list(root: &Path) -> Result<Vec<ContainerDir>, RuntimeError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).map_err(RuntimeError::io("read", root))? {
        let entry = entry.map_err(RuntimeError::io("read", root))?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let id = entry.file_name().into_string().ok().filter(|_| is_directory);
        all.extend(id.and_then(|id| ContainerDir::new(root, &id).ok()));
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
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
    fn an_id_is_claimed_once() {
        let root = std::env::temp_dir().join(format!("ctr-state-claim-{}", std::process::id()));
        let (dir, _lock) = ContainerDir::claim(&root, "a").unwrap();
        assert!(matches!(ContainerDir::claim(&root, "a"), Err(RuntimeError::Exists(_))));
        assert!(matches!(ContainerDir::claim(&root, "../a"), Err(RuntimeError::InvalidId(_))));
        assert!(matches!(dir.load(), Err(RuntimeError::NotFound(_))));
        assert!(crate::Container::survey(&root, |_| ()).unwrap().is_empty());
        dir.remove().unwrap();
        dir.remove().unwrap();
        fs::remove_dir_all(root).unwrap();
    }

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
