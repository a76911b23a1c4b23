// SPDX-License-Identifier: Apache-2.0
//! Layers into snapshots, from the lowest up, each with those below it at hand.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ctr_cli::{Context, Error};
use ctr_layer::{Options, Target, apply, create_root};
use ctr_record::{ChainId, Payload, Snapshot};
use ctr_store::event::EventLog;
use ctr_store::snapshot::{SnapshotInfo, Snapshots, StagedSnapshot, uses_user_xattrs};
use ctr_store::{Durability, StateDir};

use crate::layers::Layers;
use crate::warn;

/// Makes the snapshots that are missing, and says how to mount the whole stack.
pub(crate) fn unpack(
    state: &StateDir,
    namespace: &str,
    mut layers: Layers,
    durability: Durability,
) -> Result<Snapshot, Error> {
    let snapshots = Snapshots::of(state);
    let diff_ids: Vec<_> = layers.all().iter().map(|layer| layer.diff_id.clone()).collect();
    let chain = ChainId::stack(&diff_ids);
    let mut work = Work { snapshots: &snapshots, lowers: None, durability };
    let mut made = 0;
    for (number, id) in chain.iter().enumerate() {
        let digest = layers.all()[number].descriptor.digest.clone();
        let unpacked = work.unpack(&mut layers, &chain, number).unable_to(|| format!("unpack layer {digest}"))?;
        if unpacked {
            made += 1;
            let payload = Payload::SnapshotCommit { key: format!("@{}", id.0.hex()), name: id.to_string() };
            EventLog::open(state)?.append(namespace, payload)?;
        }
    }
    if made > 0 {
        snapshots.sweep()?;
    }
    let top = chain.last().expect("an image has layers");
    let mounts = snapshots.mounts(top)?;
    Ok(Snapshot { chain_id: Some(top.clone()), mounts, extra: Default::default() })
}

struct Work<'a> {
    snapshots: &'a Snapshots,
    /// The layers below the next one, topmost first, once they were needed.
    lowers: Option<Vec<OwnedFd>>,
    durability: Durability,
}

impl Work<'_> {
    // Whether there was anything to do.
    fn unpack(&mut self, layers: &mut Layers, chain: &[ChainId], number: usize) -> Result<bool, Error> {
        let Some(staged) = self.snapshots.stage(&chain[number])? else {
            self.lowers = None;
            return Ok(false);
        };
        let interrupt = layers.interrupt().clone();
        interrupt.guard(|| self.fill(staged, layers, chain, number)).map(|()| true)
    }

    fn fill(
        &mut self,
        staged: StagedSnapshot,
        layers: &mut Layers,
        chain: &[ChainId],
        number: usize,
    ) -> Result<(), Error> {
        let stream = layers.take(number)?;
        if let Some(next) = chain.get(number + 1)
            && self.snapshots.find(next)?.is_none()
        {
            layers.begin(number + 1)?;
        }
        let parent = number.checked_sub(1).map(|below| &chain[below]);
        let mut lowers = match (self.lowers.take(), parent) {
            (Some(lowers), _) => lowers,
            (None, Some(parent)) => self.open_layers(parent)?,
            (None, None) => Vec::new(),
        };
        let layer = &layers.all()[number];
        let root = create_root(staged.directory(), "fs")?;
        let borrowed: Vec<BorrowedFd<'_>> = lowers.iter().map(AsFd::as_fd).collect();
        let options = Options {
            target: Target::Overlay { userxattr: uses_user_xattrs() },
            lowers: &borrowed,
            diff_id: Some(&layer.diff_id),
        };
        let applied = apply(stream, &root, &options)?;
        warn(layer, &applied);
        let info = SnapshotInfo {
            parent: parent.cloned(),
            diff_id: applied.diff_id,
            size: applied.content,
            inodes: applied.inodes,
            opaque: applied.opaque_root,
        };
        StagedSnapshot::commit(staged, &info, self.durability)?;
        if info.opaque {
            lowers.clear();
        }
        lowers.insert(0, root);
        self.lowers = Some(lowers);
        Ok(())
    }

    fn open_layers(&self, chain: &ChainId) -> Result<Vec<OwnedFd>, Error> {
        let mut layers = Vec::new();
        for directory in self.snapshots.layers(chain)? {
            layers.push(File::open(directory)?.into());
        }
        Ok(layers)
    }
}
