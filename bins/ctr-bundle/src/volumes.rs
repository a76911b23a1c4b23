// SPDX-License-Identifier: Apache-2.0
//! The image's volumes: directories that the container can write to, whatever its root is like.
//!
//! A container has its own writable layer already, so a volume that exists in the image needs something
//! only when the root is read-only: then a writable directory of the bundle is laid over the image's. One
//! that the image lacks is a directory of the bundle in either case. A volume in or below another mount is
//! that mount's. Nothing is copied, and no path of an image's choosing leads out of its layers
//! (CVE-2022-23648).

use std::collections::BTreeSet;

use ctr_cli::{Context, Error};
use ctr_record::ErrorKind;
use ctr_store::bundle::{StagedBundle, stack};
use serde_json::{Value, json};

use crate::mounts::Wanted;
use crate::rootfs::{Found, Rootfs, clean, is_below};
use crate::spec::list;

/// What is done for a volume.
#[derive(Debug, PartialEq)]
enum Volume {
    /// Nothing: the root can be written to, and has it.
    Present,
    /// An empty directory.
    Empty,
    /// A writable layer over these directories, the uppermost first.
    Over(Vec<std::path::PathBuf>),
}

/// Adds the mounts of the image's volumes, with the directories of the bundle behind them, before those
/// that are `wanted`: these may lie inside a volume.
pub(crate) fn add_volumes<'a>(
    spec: &mut Value,
    volumes: impl Iterator<Item = &'a str>,
    wanted: &[Wanted],
    rootfs: &Rootfs,
    staged: &StagedBundle,
) -> Result<(), Error> {
    let read_only = spec["root"]["readonly"] == true;
    let destinations: BTreeSet<String> = volumes.map(clean).collect();
    let defaults = list(&mut spec["mounts"]).iter().filter_map(|mount| mount["destination"].as_str());
    let others: Vec<String> =
        defaults.chain(wanted.iter().map(|mount| mount.destination.as_str())).map(str::to_owned).collect();
    for (number, destination) in destinations.iter().enumerate() {
        if others.iter().any(|other| is_below(destination, other)) {
            continue;
        }
        let name = format!("volumes/{number}");
        let mount = match plan(destination, read_only, rootfs)? {
            Volume::Present => continue,
            Volume::Empty => {
                let source = staged.make_directory(&name, None)?;
                json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate"]})
            }
            Volume::Over(lower) => {
                let mount = staged.make_writable(&name, &[stack(&lower)?])?;
                json!({
                    "destination": destination,
                    "type": mount.kind,
                    "source": mount.source,
                    "options": mount.options,
                })
            }
        };
        list(&mut spec["mounts"]).push(mount);
    }
    Ok(())
}

fn plan(destination: &str, read_only: bool, rootfs: &Rootfs) -> Result<Volume, Error> {
    let invalid = |rule: &str| Error::new(ErrorKind::Invalid, format!("the image's volume {destination:?} {rule}"));
    if destination == "/" {
        return Err(invalid("is the root"));
    }
    match rootfs.find(destination).unable_to(|| format!("find the image's volume {destination:?}"))? {
        Found::Nothing => Ok(Volume::Empty),
        Found::Directory(lower) if read_only => Ok(Volume::Over(lower)),
        Found::Directory(_) => Ok(Volume::Present),
        Found::File(_) | Found::Special => Err(invalid("is not a directory")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::tests::Layers;

    #[test]
    fn volumes_are_made_where_they_are_needed() {
        let layers = Layers::create("volumes", 2);
        layers.file(0, "data/a", "").file(1, "data/b", "").file(0, "file", "");
        let (rootfs, both) = (layers.rootfs(), vec![layers.path(1, "data"), layers.path(0, "data")]);
        assert_eq!(plan("/data", false, &rootfs).unwrap(), Volume::Present);
        assert_eq!(plan("/data", true, &rootfs).unwrap(), Volume::Over(both));
        assert_eq!(plan("/none", false, &rootfs).unwrap(), Volume::Empty);
        assert_eq!(plan("/none", true, &rootfs).unwrap(), Volume::Empty);
        assert!(plan("/file", false, &rootfs).is_err());
        assert!(plan("/", false, &rootfs).is_err());
    }

    // CVE-2022-23648: a volume's path is the image's choice, and must not lead to the host's files.
    #[test]
    fn a_volume_does_not_reach_the_host() {
        let layers = Layers::create("volumes-host", 1);
        layers.link(0, "out", "/etc").link(0, "up", "../../../../../../../../etc").file(0, "etc/own", "");
        for path in ["/out", "/up", "/../../etc"] {
            assert_eq!(plan(&clean(path), true, &layers.rootfs()).unwrap(), Volume::Over(vec![layers.path(0, "etc")]));
        }
    }
}
