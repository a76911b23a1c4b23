// SPDX-License-Identifier: Apache-2.0
//! What runtimes have left that were killed: found by the locks that nobody holds any more, and cleared up.
//!
//! A container is whole when its directory says so ([`ContainerDir::is_complete`]); whoever makes, changes or
//! deletes one holds its lock. So one that is not whole, and not locked, is finished by nobody: it is taken
//! back, or its deletion is brought to its end, unless its program runs by now. One that is whole stays, stopped
//! or not: what is cleared up there is what an interrupted change of it has left.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ctr_record::TaskStatus;
use nix::unistd::Pid;

use crate::RuntimeError;
use crate::container::Container;
use crate::process::fate;
use crate::state::{self, ContainerDir, State};

/// Something that a killed runtime has left. Nobody else changes the container as long as this is kept.
#[derive(Debug)]
pub struct Leftover {
    dir: ContainerDir,
    what: What,
    _lock: File,
}

#[derive(Debug)]
enum What {
    /// A directory in which nothing is recorded yet, or nothing any more.
    Directory,
    /// A container that is half-made or half-deleted.
    Container(Box<State>),
    /// The new config of an update of a container that is whole.
    Update,
}

impl Leftover {
    /// What it is of: `container` or `update`.
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::Directory | What::Container(_) => "container",
            What::Update => "update",
        }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        self.dir.id()
    }

    /// The container's directory in the state root.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Clears it up, with everything on the machine that belongs to it.
    pub fn remove(self) -> Result<(), RuntimeError> {
        match self.what {
            What::Directory => self.dir.remove_leftovers(),
            What::Container(state) => Container::new(self.dir, *state).remove(),
            What::Update => self.dir.drop_new_config(),
        }
    }
}

/// All that killed runtimes have left in a state root, by the containers' ids.
pub fn leftovers(root: &Path) -> Result<impl Iterator<Item = Result<Leftover, RuntimeError>>, RuntimeError> {
    let dirs = match state::list(root) {
        Err(RuntimeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        dirs => dirs?,
    };
    Ok(dirs.into_iter().filter_map(|dir| examine(dir).transpose()))
}

fn examine(dir: ContainerDir) -> Result<Option<Leftover>, RuntimeError> {
    let Some(lock) = dir.try_lock()? else { return Ok(None) };
    let what = match dir.load() {
        Err(RuntimeError::NotFound(_)) => is_ours(&dir, &lock)?.then_some(What::Directory),
        Ok(state) if dir.is_complete(&state) => dir.has_new_config().then_some(What::Update),
        Ok(state) => (!runs(&dir, &state)).then(|| What::Container(Box::new(state))),
        Err(error) => return Err(error),
    };
    Ok(what.map(|what| Leftover { dir, what, _lock: lock }))
}

// The state root may be any directory, by mistake.
fn is_ours(dir: &ContainerDir, open: &File) -> Result<bool, RuntimeError> {
    let metadata = open.metadata().map_err(RuntimeError::io("read", dir.path()))?;
    let is_private = metadata.mode() & 0o077 == 0 && metadata.uid() == nix::unistd::geteuid().as_raw();
    Ok(is_private && dir.foreign_name()?.is_none())
}

// Whoever killed its runtime at the last moment has a container that can be used all the same.
fn runs(dir: &ContainerDir, state: &State) -> bool {
    let is_alive = matches!(dir.status(state), TaskStatus::Running | TaskStatus::Paused);
    is_alive && fate::was_executed(Pid::from_raw(state.pid))
}
