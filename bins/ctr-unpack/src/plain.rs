// SPDX-License-Identifier: Apache-2.0
//! Layers into one plain directory, one over the other.

use std::path::Path;

use ctr_cli::{Context, Error};
use ctr_layer::{Options, Target, apply, create_root};
use ctr_record::Snapshot;
use ctr_store::bundle::stack;
use ctr_store::snapshot::StagedDirectory;

use crate::layers::Layers;
use crate::warn;

/// Makes the directory, and says how to mount it.
pub(crate) fn unpack(directory: &Path, layers: Layers) -> Result<Snapshot, Error> {
    let interrupt = layers.interrupt().clone();
    interrupt.guard(|| fill(directory, layers))
}

fn fill(directory: &Path, mut layers: Layers) -> Result<Snapshot, Error> {
    let staged = StagedDirectory::create(directory).unable_to(|| format!("unpack to {}", directory.display()))?;
    let root = create_root(staged.directory(), "fs").unable_to(|| format!("unpack to {}", directory.display()))?;
    for number in 0..layers.all().len() {
        let digest = layers.all()[number].descriptor.digest.clone();
        apply_one(&mut layers, number, &root).unable_to(|| format!("unpack layer {digest}"))?;
    }
    let path = staged.commit().unable_to(|| format!("unpack to {}", directory.display()))?;
    Ok(Snapshot { chain_id: None, mounts: vec![stack(&[path])?], extra: Default::default() })
}

fn apply_one(layers: &mut Layers, number: usize, root: &std::os::fd::OwnedFd) -> Result<(), Error> {
    let stream = layers.take(number)?;
    layers.begin(number + 1)?;
    let layer = &layers.all()[number];
    let options = Options { target: Target::Flatten, lowers: &[], diff_id: Some(&layer.diff_id) };
    warn(layer, &apply(stream, root, &options)?);
    Ok(())
}
