// SPDX-License-Identifier: Apache-2.0
//! What the tests of the runtime have in common: a bundle whose config they change as they like.

use std::fs;
use std::path::{Path, PathBuf};

use ctr_tests::{Layer, Tool, World};
use serde_json::Value;

/// A bundle of the busybox image, and `ctr-run` to run it with.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) bundle: PathBuf,
    pub(crate) id: String,
}

impl Scene {
    /// A bundle that runs a shell script.
    pub(crate) fn new(script: &str) -> Self {
        Self::of(None, &[], script)
    }

    /// The same of an image with one more layer, and with flags for `ctr-bundle`.
    pub(crate) fn of(layer: Option<Layer>, flags: &[&str], script: &str) -> Self {
        let world = World::create();
        let id = world.id("t");
        let record = world.bundle(&world.busybox(layer), &id, flags, &["sh", "-c", script]);
        let record: Value = serde_json::from_str(&record).unwrap();
        let bundle = PathBuf::from(record["bundle"]["path"].as_str().unwrap());
        Self { world, bundle, id }
    }

    /// Changes config.json.
    pub(crate) fn edit(self, change: impl FnOnce(&mut Value)) -> Self {
        self.rewrite(change);
        self
    }

    /// The same in the midst of a test.
    pub(crate) fn rewrite(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// `ctr-run` with arguments.
    pub(crate) fn runtime(&self, args: &[&str]) -> Tool {
        self.world.tool("ctr-run").args(args)
    }

    /// `ctr-run VERB FLAGS --bundle BUNDLE ID`.
    pub(crate) fn make(&self, verb: &[&str]) -> Tool {
        self.runtime(verb).arg("--bundle").arg(&self.bundle).arg(&self.id)
    }

    /// `ctr-run exec ID sh -c SCRIPT`.
    pub(crate) fn exec(&self, script: &str) -> Tool {
        self.runtime(&["exec", &self.id, "sh", "-c", script])
    }

    /// Deletes the container, whatever it does; the world's end then finds what is left of it.
    pub(crate) fn delete(&self) {
        self.runtime(&["delete", "--force", &self.id]).run().success();
        assert!(!self.dir().exists());
    }

    /// The container's directory in the runtime's root.
    pub(crate) fn dir(&self) -> PathBuf {
        self.world.run_root().join(&self.id)
    }
}

/// Puts a shell script in a bundle's hooks.
pub(crate) fn add_hook(config: &mut Value, name: &str, script: &str) {
    config["hooks"][name] =
        serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
}

/// A path as a test passes it on.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
