// SPDX-License-Identifier: Apache-2.0
//! Snapshots that are made once, half, twice at once, and stacked.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use ctr_record::Digest;

use super::*;
use crate::Durability;

struct Scratch(StateDir);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

fn scratch(name: &str) -> (Scratch, Snapshots) {
    let root = std::env::temp_dir().join(format!("ctr-store-snapshot-{name}-{}", std::process::id()));
    let state = StateDir::open(&root).unwrap();
    let snapshots = Snapshots::of(&state);
    (Scratch(state), snapshots)
}

fn layer(name: &str) -> DiffId {
    DiffId(Digest::of(name.as_bytes()))
}

fn info(parent: Option<&ChainId>, name: &str) -> SnapshotInfo {
    SnapshotInfo { parent: parent.cloned(), diff_id: layer(name), size: 1, inodes: 2, opaque: false }
}

fn commit(snapshots: &Snapshots, info: &SnapshotInfo) -> ChainId {
    let chain = ChainId::extend(info.parent.as_ref(), &info.diff_id);
    let staged = snapshots.stage(&chain).unwrap().unwrap();
    nix::sys::stat::mkdirat(staged.directory(), "fs", nix::sys::stat::Mode::S_IRWXU).unwrap();
    staged.commit(info, Durability::PowerCut).unwrap();
    chain
}

fn names(state: &StateDir) -> Vec<String> {
    let entries = fs::read_dir(state.snapshots()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_snapshot_is_there_once_it_is_committed() {
    let (Scratch(state), snapshots) = &scratch("commit");
    let chain = ChainId(layer("a").0);
    assert_eq!(snapshots.find(&chain).unwrap(), None);
    let staged = snapshots.stage(&chain).unwrap().unwrap();
    assert_eq!(snapshots.find(&chain).unwrap(), None);
    staged.commit(&info(None, "a"), Durability::Process).unwrap();
    assert_eq!(snapshots.find(&chain).unwrap(), Some(info(None, "a")));
    assert!(snapshots.stage(&chain).unwrap().is_none());
    assert_eq!(names(state), [chain.0.hex()]);
}

#[test]
fn one_that_is_given_up_leaves_nothing() {
    let (Scratch(state), snapshots) = &scratch("drop");
    let staged = snapshots.stage(&ChainId(layer("a").0)).unwrap().unwrap();
    fs::create_dir_all(state.snapshots().join(names(state).remove(0)).join("fs/x")).unwrap();
    drop(staged);
    assert_eq!(names(state), [""; 0]);
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    let (Scratch(state), snapshots) = &scratch("killed");
    let (a, b) = (ChainId(layer("a").0), ChainId(layer("b").0));
    for chain in [&a, &b] {
        fs::create_dir_all(snapshots.staging(chain).join("fs/half")).unwrap();
        // Even a complete one: it was not renamed, so that it may not have reached the disk.
        fs::write(snapshots.staging(chain).join(MARKER), serde_json::to_vec(&info(None, "a")).unwrap()).unwrap();
    }
    let staged = snapshots.stage(&a).unwrap().unwrap();
    assert_eq!(fs::read_dir(snapshots.staging(&a)).unwrap().count(), 0);
    snapshots.sweep().unwrap();
    assert_eq!(names(state), [format!("@{}", a.0.hex())]);
    staged.commit(&info(None, "a"), Durability::Process).unwrap();
}

#[test]
fn others_wait_for_the_one_that_is_at_it() {
    let (_scratch, snapshots) = &scratch("wait");
    let chain = ChainId(layer("a").0);
    let staged = snapshots.stage(&chain).unwrap().unwrap();
    let (waiting, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (waiting, chain) = (waiting.clone(), chain.clone());
            scope.spawn(move || waiting.send(snapshots.stage(&chain).unwrap().is_none()).unwrap());
        }
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "one did not wait");
        staged.commit(&info(None, "a"), Durability::Process).unwrap();
        assert!(told.recv().unwrap() && told.recv().unwrap());
    });
}

#[test]
fn one_that_waits_goes_on_when_the_other_fails() {
    let (_scratch, snapshots) = &scratch("fails");
    let chain = ChainId(layer("a").0);
    let staged = snapshots.stage(&chain).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let staged = snapshots.stage(&chain).unwrap().unwrap();
            staged.commit(&info(None, "a"), Durability::Process).unwrap();
        });
        drop(staged);
        waiting.join().unwrap();
    });
    assert!(snapshots.find(&chain).unwrap().is_some());
}

#[test]
fn one_layer_is_a_bind_and_several_are_an_overlay() {
    let (Scratch(state), snapshots) = &scratch("mounts");
    let a = commit(snapshots, &info(None, "a"));
    let b = commit(snapshots, &info(Some(&a), "b"));
    let c = commit(snapshots, &info(Some(&b), "c"));
    let fs = |chain: &ChainId| format!("{}/{}/fs", state.snapshots().display(), chain.0.hex());
    let [bind] = &snapshots.mounts(&a).unwrap()[..] else { panic!("one mount") };
    assert_eq!((bind.kind.as_str(), &bind.source), ("bind", &fs(&a)));
    assert!(bind.options.contains(&"ro".to_owned()));
    let [overlay] = &snapshots.mounts(&c).unwrap()[..] else { panic!("one mount") };
    assert_eq!(overlay.kind, "overlay");
    assert_eq!(overlay.options[0], format!("lowerdir={}:{}:{}", fs(&c), fs(&b), fs(&a)));
}

#[test]
fn what_lies_below_an_opaque_layer_is_not_mounted() {
    let (_scratch, snapshots) = &scratch("opaque");
    let a = commit(snapshots, &info(None, "a"));
    let b = commit(snapshots, &SnapshotInfo { opaque: true, ..info(Some(&a), "b") });
    let c = commit(snapshots, &info(Some(&b), "c"));
    assert_eq!(snapshots.layers(&c).unwrap().len(), 2);
    assert_eq!(snapshots.mounts(&b).unwrap()[0].kind, "bind");
}

#[test]
fn a_stack_with_a_hole_is_no_snapshot() {
    let (_scratch, snapshots) = &scratch("hole");
    let a = commit(snapshots, &info(None, "a"));
    let b = commit(snapshots, &info(Some(&a), "b"));
    fs::remove_file(snapshots.path(&a).join(MARKER)).unwrap();
    assert!(matches!(snapshots.mounts(&b), Err(SnapshotError::Absent { chain }) if chain == a));
    assert_eq!(commit(snapshots, &info(None, "a")), a);
    assert!(snapshots.mounts(&b).is_ok());
    fs::write(snapshots.path(&a).join(MARKER), "{").unwrap();
    assert!(matches!(snapshots.mounts(&b), Err(SnapshotError::Store(StoreError::Damaged { .. }))));
}

#[test]
fn a_plain_directory_has_its_name_once_it_is_complete() {
    let (Scratch(state), _) = &scratch("plain");
    let path = state.root().join("flat");
    for round in 0..2 {
        let staged = StagedDirectory::create(&path).unwrap();
        assert!(matches!(StagedDirectory::create(&path), Err(SnapshotError::Busy { .. })));
        nix::sys::stat::mkdirat(staged.directory(), "fs", nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(path.exists(), round > 0); // the second time into the empty one
        assert_eq!(staged.commit().unwrap(), path);
        assert_eq!(fs::read_dir(state.root()).unwrap().count(), 1);
    }
    let staged = StagedDirectory::create(&path).unwrap();
    nix::sys::stat::mkdirat(staged.directory(), "fs", nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(path.join("meanwhile"), "").unwrap();
    assert!(matches!(staged.commit(), Err(SnapshotError::NotEmpty { .. })));
    assert!(matches!(StagedDirectory::create(&path), Err(SnapshotError::NotEmpty { .. })));
    assert!(matches!(StagedDirectory::create(&path.join("meanwhile")), Err(SnapshotError::NotEmpty { .. })));
    assert!(matches!(StagedDirectory::create(Path::new("/")), Err(SnapshotError::NotEmpty { .. })));
    assert_eq!(fs::read_dir(state.root()).unwrap().count(), 1);
}

#[test]
fn a_plain_directory_that_a_killed_process_left_half_made_is_removed() {
    let (Scratch(state), _) = &scratch("plain-killed");
    let (path, hidden) = (state.root().join("flat"), state.root().join(".flat.ctr-unpack"));
    fs::create_dir_all(hidden.join("fs/half")).unwrap();
    drop(StagedDirectory::create(&path).unwrap());
    assert_eq!(fs::read_dir(state.root()).unwrap().count(), 0);
}
