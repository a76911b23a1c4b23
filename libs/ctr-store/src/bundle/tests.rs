// SPDX-License-Identifier: Apache-2.0
//! Bundles: whole or not at all.

use std::os::unix::fs::symlink;

use ctr_record::{Classify, ErrorKind};

use super::*;

struct Scratch {
    root: PathBuf,
    bundles: Bundles,
}

impl Scratch {
    fn create(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ctr-store-bundle-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let state = StateDir::open(&root).unwrap();
        Self { bundles: Bundles::of(&state, "default"), root }
    }

    fn snapshot(&self) -> Vec<Mount> {
        let layer = self.root.join("layer");
        fs::create_dir_all(&layer).unwrap();
        vec![Mount { kind: "bind".into(), source: layer.to_str().unwrap().into(), options: vec!["ro".into()] }]
    }

    fn entries(&self) -> Vec<String> {
        let mut names = list_names(&self.bundles.directory).unwrap();
        names.sort();
        names
    }

    fn make(&self, id: &str) -> Bundle {
        let staged = self.bundles.stage(id).unwrap();
        let mounts = [staged.make_writable("", &self.snapshot()).unwrap()];
        staged.commit(b"{}", Some(&mounts)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

#[test]
fn a_bundle_is_made_found_and_removed() {
    let scratch = Scratch::create("life");
    let path = scratch.make("web").path().to_owned();
    assert_eq!(scratch.bundles.list().unwrap(), ["web"]);
    let bundle = scratch.bundles.open("web").unwrap();
    assert_eq!(bundle.config().unwrap(), b"{}");
    let mounts = bundle.mounts().unwrap().unwrap();
    let layer = scratch.root.join("layer");
    assert_eq!(mounts.len(), 1);
    assert_eq!(
        mounts[0].options[..3],
        [
            format!("lowerdir={}", layer.display()),
            format!("upperdir={}/upper", path.display()),
            format!("workdir={}/work", path.display()),
        ]
    );
    for directory in ["rootfs", "upper", "work"] {
        assert!(path.join(directory).is_dir(), "{directory}");
    }
    scratch.bundles.remove("web").unwrap();
    assert!(scratch.entries().is_empty());
}

#[test]
fn an_id_in_use_is_a_conflict() {
    let scratch = Scratch::create("conflict");
    scratch.make("web");
    let error = scratch.bundles.stage("web").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Conflict, "a bundle with the id web exists already".into())
    );
    // The same when the other one was quicker by a moment.
    let (one, other) = (scratch.bundles.stage("db").unwrap(), scratch.bundles.directory.join("db"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("config.json"), "{}").unwrap();
    assert!(matches!(one.commit(b"{}", None), Err(BundleError::Exists { .. })));
    assert_eq!(scratch.entries(), ["db", "web"]);
}

#[test]
fn an_id_that_is_being_made_is_a_conflict() {
    let scratch = Scratch::create("busy");
    let staged = scratch.bundles.stage("web").unwrap();
    assert!(matches!(scratch.bundles.stage("web"), Err(BundleError::Busy { .. })));
    assert!(scratch.bundles.list().unwrap().is_empty());
    scratch.bundles.sweep().unwrap();
    staged.commit(b"{}", None).unwrap();
    assert_eq!(scratch.entries(), ["web"]);
}

#[test]
fn nothing_is_left_of_a_bundle_that_was_given_up() {
    let scratch = Scratch::create("drop");
    drop(scratch.bundles.stage("web").unwrap());
    let staged = scratch.bundles.stage("web").unwrap();
    assert!(staged.make_writable("", &[]).is_err());
    drop(staged);
    assert!(scratch.entries().is_empty());
}

#[test]
fn leftovers_of_killed_processes_are_cleared() {
    let scratch = Scratch::create("killed");
    // What remains of a maker, and of one that was removing, when they are killed: no lock.
    fs::create_dir_all(scratch.bundles.directory.join("@web/upper/etc")).unwrap();
    fs::create_dir_all(scratch.bundles.directory.join("@old/upper")).unwrap();
    scratch.make("web");
    assert_eq!(scratch.entries(), ["@old", "web"]);
    scratch.bundles.sweep().unwrap();
    assert_eq!(scratch.entries(), ["web"]);
    fs::create_dir_all(scratch.bundles.directory.join("@web/upper")).unwrap();
    scratch.bundles.remove("web").unwrap();
    assert!(scratch.entries().is_empty());
}

#[test]
fn a_directory_without_config_is_no_bundle() {
    let scratch = Scratch::create("config");
    fs::create_dir_all(scratch.bundles.directory.join("web")).unwrap();
    let error = scratch.bundles.open("web").unwrap_err();
    assert!(error.to_string().ends_with("is no bundle: it has no config.json"), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(matches!(scratch.bundles.open("other"), Err(BundleError::NotFound { .. })));
    assert!(matches!(scratch.bundles.remove("other"), Err(BundleError::NotFound { .. })));
    assert!(matches!(scratch.bundles.open("../default"), Err(BundleError::Name(_))));
    scratch.bundles.remove("web").unwrap();
}

#[test]
fn the_upper_directory_looks_like_the_images_root() {
    let scratch = Scratch::create("mode");
    let snapshot = scratch.snapshot();
    fs::set_permissions(&snapshot[0].source, std::os::unix::fs::PermissionsExt::from_mode(0o1751)).unwrap();
    if ctr_sys::process::is_root() {
        std::os::unix::fs::chown(&snapshot[0].source, Some(7), Some(8)).unwrap();
    }
    let path = scratch.make("web").path().to_owned();
    let (like, upper) = (fs::metadata(&snapshot[0].source).unwrap(), fs::metadata(path.join("upper")).unwrap());
    assert_eq!((upper.mode(), upper.uid(), upper.gid()), (like.mode(), like.uid(), like.gid()));
}

#[test]
fn removal_does_not_follow_links() {
    let scratch = Scratch::create("links");
    let (path, outside) = (scratch.make("web").path().to_owned(), scratch.root.join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    symlink(&outside, path.join("upper/link")).unwrap();
    scratch.bundles.remove("web").unwrap();
    assert!(outside.join("kept").exists());
}

#[test]
fn a_path_that_overlay_cannot_take_is_refused() {
    let scratch = Scratch::create("odd,path");
    let staged = scratch.bundles.stage("web").unwrap();
    let error = staged.make_writable("", &scratch.snapshot()).unwrap_err();
    assert!(matches!(error, BundleError::Unmountable { .. }), "{error}");
    drop(staged);
    assert!(scratch.entries().is_empty());
}

#[test]
fn a_snapshot_that_is_gone_is_named() {
    let scratch = Scratch::create("gone");
    let snapshot = scratch.snapshot();
    fs::remove_dir(&snapshot[0].source).unwrap();
    let staged = scratch.bundles.stage("web").unwrap();
    let error = staged.make_writable("", &snapshot).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("layer"), "{error}");
}

#[test]
fn a_mounted_root_is_not_removed() {
    if !ctr_sys::process::is_root() {
        println!("SKIP a_mounted_root_is_not_removed: needs root");
        return;
    }
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let scratch = Scratch::create("mounted");
    let path = scratch.make("web").path().to_owned();
    for directory in ["rootfs", "upper"] {
        let target = path.join(directory);
        mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::write(target.join("kept"), "x").unwrap();
        let error = scratch.bundles.remove("web").unwrap_err();
        assert!(matches!(error, BundleError::MountedOver { .. }), "{error}");
        // The mount went along when the removal had begun already.
        let moved = scratch.bundles.directory.join("@web").join(directory);
        let target = if moved.exists() { moved } else { target };
        assert!(target.join("kept").exists());
        umount2(&target, MntFlags::MNT_DETACH).unwrap();
    }
    scratch.bundles.sweep().unwrap();
    assert!(scratch.entries().is_empty());
}
