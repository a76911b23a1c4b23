// SPDX-License-Identifier: Apache-2.0
//! A record's mounts, performed by the test as any consumer of a record may.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use crate::tool::Tool;
use crate::world::World;

/// A mounted root file system; it is unmounted when dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the list of mounts of a record's snapshot, or of a bundle's `mounts.json`, at a new directory.
    #[track_caller]
    pub fn at(world: &World, name: &str, mounts: &Value) -> Self {
        let dir = world.dir().join(name);
        std::fs::create_dir(&dir).expect("the name is new");
        Self::on(&dir, mounts)
    }

    /// The same, at a directory that is there.
    #[track_caller]
    pub fn on(dir: &Path, mounts: &Value) -> Self {
        for mount in mounts.as_array().expect("a list of mounts") {
            let text = |value: &Value| value.as_str().expect("a string").to_owned();
            let options: Vec<String> = mount["options"].as_array().into_iter().flatten().map(text).collect();
            let kind = text(&mount["type"]);
            let mut tool = Tool::new("mount").args(["-t", if kind == "bind" { "none" } else { &kind }]);
            if !options.is_empty() {
                tool = tool.args(["-o", &options.join(",")]);
            }
            tool.arg(text(&mount["source"])).arg(dir).run().success();
        }
        Self(dir.to_owned())
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        while umount2(&self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}
