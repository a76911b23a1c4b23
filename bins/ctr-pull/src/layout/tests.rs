// SPDX-License-Identifier: Apache-2.0
//! Layouts that are well-formed, unclear, or traps.

use std::fs;
use std::os::unix::fs::symlink;

use ctr_record::{Digest, media_type};

use super::*;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A layout with one entry for each (name, platform, content).
fn layout(test: &str, entries: &[(&str, &str, &str)]) -> Scratch {
    let directory = std::env::temp_dir().join(format!("ctr-pull-layout-{test}-{}", std::process::id()));
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let mut manifests = Vec::new();
    for (name, platform, content) in entries {
        let mut entry = blob(content);
        fs::write(directory.join("blobs/sha256").join(entry.digest.hex()), content).unwrap();
        entry.platform = Some(platform.parse().unwrap());
        if !name.is_empty() {
            entry.annotations.insert(REF_NAME.to_owned(), (*name).to_owned());
        }
        manifests.push(serde_json::to_value(entry).unwrap());
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    Scratch(directory)
}

fn blob(content: &str) -> Descriptor {
    Descriptor::new(media_type::OCI_MANIFEST, Digest::of(content.as_bytes()), content.len() as u64)
}

fn open(layout: &Scratch, name: Option<&str>, platform: &str) -> Result<Layout, LayoutError> {
    Layout::open(&layout.0, name, None, &platform.parse().unwrap())
}

const AMD64: &str = "linux/amd64";
const ARM64: &str = "linux/arm64";

#[test]
fn an_image_is_found_by_its_name_or_by_being_alone() {
    let two = layout("two", &[("a", AMD64, "one"), ("b", AMD64, "two")]);
    assert_eq!(open(&two, Some("b"), AMD64).unwrap().entry().digest, Digest::of(b"two"));
    assert!(matches!(open(&two, None, AMD64), Err(LayoutError::Unclear { count: 2, .. })));
    let error = open(&two, Some("c"), AMD64).unwrap_err();
    assert!(error.to_string().ends_with("names no image c; it names a, b"), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let alone = layout("alone", &[("a", AMD64, "one")]);
    assert_eq!(open(&alone, None, ARM64).unwrap().entry().digest, Digest::of(b"one"));
}

#[test]
fn of_one_name_for_several_platforms_the_wanted_one_is_found() {
    let both = layout("both", &[("a", AMD64, "one"), ("a", ARM64, "two")]);
    assert_eq!(open(&both, Some("a"), ARM64).unwrap().entry().digest, Digest::of(b"two"));
    assert_eq!(open(&both, None, AMD64).unwrap().entry().digest, Digest::of(b"one"));
    assert!(matches!(open(&both, None, "linux/s390x"), Err(LayoutError::Unclear { .. })));
}

#[test]
fn what_is_no_layout_is_refused() {
    let wrong = layout("wrong", &[("a", AMD64, "one")]);
    fs::write(wrong.0.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(open(&wrong, None, AMD64), Err(LayoutError::Version { .. })));
    fs::remove_file(wrong.0.join("oci-layout")).unwrap();
    assert_eq!(open(&wrong, None, AMD64).unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(wrong.0.join("oci-layout"), "{").unwrap();
    assert!(matches!(open(&wrong, None, AMD64), Err(LayoutError::Malformed { .. })));
}

#[test]
fn blobs_that_are_links_or_no_files_are_refused() {
    let trap = layout("trap", &[("a", AMD64, "one")]);
    let opened = open(&trap, None, AMD64).unwrap();
    let path = trap.0.join("blobs/sha256").join(Digest::of(b"one").hex());
    assert!(opened.open_blob(&blob("one")).is_ok());
    fs::rename(&path, trap.0.join("elsewhere")).unwrap();
    symlink(trap.0.join("elsewhere"), &path).unwrap();
    assert!(matches!(opened.open_blob(&blob("one")), Err(LayoutError::NotRegular { .. })));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(opened.open_blob(&blob("one")), Err(LayoutError::NotRegular { .. })));
    fs::remove_dir(&path).unwrap();
    // Opening a fifo for reading would wait for a writer.
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(matches!(opened.open_blob(&blob("one")), Err(LayoutError::NotRegular { .. })));
}

#[test]
fn blobs_of_another_size_or_content_are_refused() {
    let wrong = layout("content", &[("a", AMD64, "one")]);
    let opened = open(&wrong, None, AMD64).unwrap();
    let longer = Descriptor { size: 4, ..blob("one") };
    assert!(matches!(opened.open_blob(&longer), Err(LayoutError::Size { actual: 3, expected: 4, .. })));
    let path = wrong.0.join("blobs/sha256").join(Digest::of(b"one").hex());
    fs::write(&path, "two").unwrap();
    let error = opened.manifest(&blob("one")).unwrap_err();
    assert!(matches!(error, LayoutError::Manifest { source: InvalidManifest::Digest { .. }, .. }), "{error:?}");
}
