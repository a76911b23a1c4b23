// SPDX-License-Identifier: Apache-2.0
//! Blobs that come whole, in pieces, twice at once, or wrong.

use std::sync::mpsc;

use ctr_record::media_type;

use super::*;

const CONTENT: &[u8] = b"the content of a layer";

struct Scratch(StateDir);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

fn scratch(name: &str) -> (Scratch, ContentStore) {
    let root = std::env::temp_dir().join(format!("ctr-store-content-{name}-{}", std::process::id()));
    let state = StateDir::open(&root).unwrap();
    let store = ContentStore::open(&state).unwrap();
    (Scratch(state), store)
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(content), content.len() as u64)
}

fn left_over(state: &StateDir) -> usize {
    fs::read_dir(state.ingest()).map_or(0, Iterator::count)
}

#[test]
fn a_blob_gets_its_name_once_it_is_whole() {
    let (Scratch(state), store) = &scratch("whole");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    for piece in CONTENT.chunks(5) {
        assert!(!store.contains(&blob(CONTENT)).unwrap());
        ingest.write(piece).unwrap();
    }
    ingest.commit().unwrap();
    assert!(store.contains(&blob(CONTENT)).unwrap());
    assert_eq!(store.read_blob(&Digest::of(CONTENT), 100).unwrap().unwrap(), CONTENT);
    assert_eq!(fs::metadata(store.path(&Digest::of(CONTENT))).unwrap().mode() & 0o7777, 0o444);
    assert_eq!(left_over(state), 0);
    assert!(store.ingest(&blob(CONTENT)).unwrap().is_none());
    assert!(!store.write_blob(&blob(CONTENT), CONTENT).unwrap());
}

#[test]
fn an_interrupted_download_is_continued() {
    let (Scratch(state), store) = &scratch("resume");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    ingest.write(&CONTENT[..9]).unwrap();
    drop(ingest);
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    assert_eq!(ingest.written(), 9);
    ingest.write(&CONTENT[9..]).unwrap();
    ingest.commit().unwrap();
    assert_eq!(store.read_blob(&Digest::of(CONTENT), 100).unwrap().unwrap(), CONTENT);
    assert_eq!(left_over(state), 0);
}

#[test]
fn an_incomplete_blob_is_kept_but_not_committed() {
    let (_scratch, store) = &scratch("incomplete");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    ingest.write(&CONTENT[..9]).unwrap();
    assert!(matches!(ingest.commit(), Err(ContentError::Incomplete { written: 9, .. })));
    assert_eq!(store.ingest(&blob(CONTENT)).unwrap().unwrap().written(), 9);
}

#[test]
fn wrong_content_leaves_nothing() {
    let (Scratch(state), store) = &scratch("wrong");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    ingest.write(&[b'x'; CONTENT.len()]).unwrap();
    assert!(matches!(ingest.commit(), Err(ContentError::Digest { resumed: false, .. })));
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    assert_eq!(ingest.written(), 0);
    assert!(matches!(ingest.write(&[b'x'; CONTENT.len() + 1]), Err(ContentError::TooLong { .. })));
    drop(ingest);
    assert!(!store.contains(&blob(CONTENT)).unwrap());
    assert_eq!(left_over(state), 0);
}

#[test]
fn a_wrong_prefix_is_told_from_wrong_content() {
    let (_scratch, store) = &scratch("prefix");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    ingest.write(b"zeros").unwrap();
    drop(ingest);
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    ingest.write(&CONTENT[5..]).unwrap();
    assert!(matches!(ingest.commit(), Err(ContentError::Digest { resumed: true, .. })));
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    assert_eq!(ingest.written(), 0);
    ingest.write(CONTENT).unwrap();
    ingest.commit().unwrap();
}

#[test]
fn one_brings_a_blob_in_and_the_others_wait() {
    let (Scratch(state), store) = &scratch("single");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    let (done, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let done = done.clone();
            scope.spawn(move || done.send(store.ingest(&blob(CONTENT)).unwrap().is_none()).unwrap());
        }
        ingest.write(CONTENT).unwrap();
        assert!(outcomes.try_recv().is_err());
        ingest.commit().unwrap();
        assert!(outcomes.iter().take(4).all(|is_there| is_there));
    });
    assert_eq!(left_over(state), 0);
}

#[test]
fn one_that_waits_continues_when_the_first_gives_up() {
    let (_scratch, store) = &scratch("inherit");
    let mut ingest = store.ingest(&blob(CONTENT)).unwrap().unwrap();
    std::thread::scope(|scope| {
        let heir = scope.spawn(|| store.ingest(&blob(CONTENT)).unwrap().unwrap().written());
        ingest.write(&CONTENT[..9]).unwrap();
        drop(ingest);
        assert_eq!(heir.join().unwrap(), 9);
    });
}

#[test]
fn leftovers_of_a_killed_process_are_swept() {
    let (Scratch(state), store) = &scratch("leftovers");
    store.write_blob(&blob(CONTENT), CONTENT).unwrap();
    let directory = store.ingest_directory(&Digest::of(CONTENT));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("lock"), "").unwrap();
    assert!(store.ingest(&blob(CONTENT)).unwrap().is_none());
    assert_eq!(left_over(state), 0);
}

#[test]
fn a_torn_blob_of_a_foreign_writer_is_replaced() {
    let (_scratch, store) = &scratch("torn");
    fs::write(store.path(&Digest::of(CONTENT)), &CONTENT[..3]).unwrap();
    assert!(matches!(store.read_blob(&Digest::of(CONTENT), 100), Err(ContentError::Damaged { .. })));
    assert!(store.write_blob(&blob(CONTENT), CONTENT).unwrap());
    assert_eq!(store.read_blob(&Digest::of(CONTENT), 100).unwrap().unwrap(), CONTENT);
}

#[test]
fn reading_is_bounded_and_absence_is_no_error() {
    let (_scratch, store) = &scratch("bounded");
    assert!(store.read_blob(&Digest::of(CONTENT), 100).unwrap().is_none());
    assert!(matches!(store.open_blob(&Digest::of(CONTENT)), Err(ContentError::Absent { .. })));
    store.write_blob(&blob(CONTENT), CONTENT).unwrap();
    assert!(matches!(store.read_blob(&Digest::of(CONTENT), 3), Err(ContentError::Store(StoreError::TooLarge { .. }))));
}

#[test]
fn sha512_has_a_directory_of_its_own() {
    let (_scratch, store) = &scratch("sha512");
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(CONTENT);
    let descriptor = Descriptor::new("x/y", hasher.finish(), CONTENT.len() as u64);
    assert!(store.write_blob(&descriptor, CONTENT).unwrap());
    assert!(store.path(&descriptor.digest).starts_with(store.directory(Algorithm::Sha512)));
}
