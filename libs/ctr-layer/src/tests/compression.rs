// SPDX-License-Identifier: Apache-2.0
//! The compressions, whole, in pieces, cut short and corrupted.

use std::io::{self, Read, Write};

use ctr_record::Digest;
use flate2::write::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&[0x57, 0x2a, 0x4d, 0x18][..], &length.to_le_bytes(), content].concat()
}

fn layer() -> Vec<u8> {
    let mut layer = Layer::default().dir("d");
    for i in 0..40 {
        layer = layer.file(&format!("d/{i}"), &format!("content {i} ").repeat(i * 37));
    }
    layer.end()
}

#[test]
fn the_magic_decides_and_the_digest_is_of_the_tar() {
    let tar = layer();
    let half = 20 * 512 + 77;
    for (what, stored) in [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("gzip of two members", [gzip(&tar[..half]), gzip(&tar[half..])].concat()),
        ("gzip of members with nothing in them", [gzip(b""), gzip(&tar), gzip(b"")].concat()),
        ("gzip with zeros behind", [gzip(&tar), vec![0; 3000]].concat()),
        ("zstd", zstd(&tar)),
        ("zstd of two frames", [zstd(&tar[..half]), zstd(&tar[half..])].concat()),
        (
            "zstd with skippable frames",
            [skippable(b"before"), zstd(&tar[..half]), skippable(&[7; 900]), zstd(&tar[half..]), skippable(b"")]
                .concat(),
        ),
    ] {
        let scratch = Scratch::create();
        let root = scratch.root("r");
        let applied = apply_bytes(stored, &root, &[], OVERLAY).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(applied.diff_id.0, Digest::of(&tar), "{what}");
        assert_eq!(applied.size, tar.len() as u64, "{what}");
        assert_eq!(applied.entries, 41, "{what}");
        assert_eq!(list(&root).len(), 41, "{what}");
    }
}

#[test]
fn nothing_at_all_is_an_empty_layer() {
    for stored in [Vec::new(), gzip(b""), zstd(b"")] {
        let scratch = Scratch::create();
        let root = scratch.root("r");
        let applied = apply_bytes(stored, &root, &[], OVERLAY).unwrap();
        assert_eq!(applied.diff_id.0, Digest::of(b""));
        assert_eq!(list(&root), [""; 0]);
    }
}

#[test]
fn the_digest_covers_what_follows_the_end_of_the_archive() {
    let tar = [layer(), b"padding of any length".repeat(50_000)].concat();
    let scratch = Scratch::create();
    let applied = apply_bytes(gzip(&tar), &scratch.root("r"), &[], OVERLAY).unwrap();
    assert_eq!(applied.diff_id.0, Digest::of(&tar));
}

#[test]
fn another_diff_id_than_the_expected_is_invalid() {
    let scratch = Scratch::create();
    let root = File::open(scratch.root("r")).unwrap();
    let expected = ctr_record::DiffId(Digest::of(b"something else"));
    let stream = Stream::open(io::Cursor::new(layer()), Algorithm::Sha256, &Limits::default()).unwrap();
    let options = Options { target: OVERLAY, lowers: &[], diff_id: Some(&expected) };
    let line = invalid(apply(stream, root, &options));
    assert!(line.contains(&expected.to_string()) && line.contains(&Digest::of(&layer()).to_string()), "{line}");
}

#[test]
fn a_stream_cut_short_anywhere_is_invalid() {
    let tar = layer();
    for (what, stored) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        let step = (stored.len() / 25).max(1);
        let cuts = (1..stored.len()).step_by(step).chain(stored.len() - 12..stored.len());
        for cut in cuts {
            let scratch = Scratch::create();
            let result = apply_bytes(stored[..cut].to_vec(), &scratch.root("r"), &[], OVERLAY);
            let line = invalid(result);
            assert!(cut < 4 || line.contains(what), "{what} cut at {cut}: {line}");
        }
    }
    // A plain tar may end where an entry does: only its digest tells.
    for cut in (1..tar.len() - 1024).filter(|cut| cut % 512 != 0).step_by(499) {
        let scratch = Scratch::create();
        let line = invalid(apply_bytes(tar[..cut].to_vec(), &scratch.root("r"), &[], OVERLAY));
        assert_eq!(line, "the tar ends in the middle of an entry", "cut at {cut}");
    }
}

#[test]
fn a_corrupt_stream_is_invalid_or_has_another_digest() {
    let tar = layer();
    for (what, stored) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        let step = (stored.len() / 25).max(1);
        for at in (0..stored.len()).step_by(step).chain(stored.len() - 8..stored.len()) {
            let mut corrupt = stored.clone();
            corrupt[at] ^= 0x55;
            let scratch = Scratch::create();
            match apply_bytes(corrupt, &scratch.root("r"), &[], OVERLAY) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{what} corrupt at {at}: {error}"),
                // The byte says nothing of the content: a time or an operating system in gzip's header.
                Ok(applied) => assert_eq!(applied.diff_id.0, Digest::of(&tar), "{what} corrupt at {at}"),
            }
        }
    }
}

#[test]
fn other_data_behind_gzip_is_invalid() {
    let scratch = Scratch::create();
    let line = invalid(apply_bytes([gzip(&layer()), b"\0\0x".to_vec()].concat(), &scratch.root("r"), &[], OVERLAY));
    assert_eq!(line, "the layer is no valid gzip stream: other data follows the last gzip member");
}

#[test]
fn what_is_no_tar_at_all_is_invalid() {
    let scratch = Scratch::create();
    let body = br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#.repeat(40);
    let line = invalid(apply_bytes(body, &scratch.root("r"), &[], OVERLAY));
    assert_eq!(line, "malformed tar header at byte 0: the checksum is wrong");
}

#[test]
fn a_failing_source_is_not_taken_for_a_corrupt_layer() {
    struct Failing(io::Cursor<Vec<u8>>);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                n => Ok(n),
            }
        }
    }
    let tar = layer();
    for stored in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let source = Failing(io::Cursor::new(stored[..stored.len() / 2].to_vec()));
        let stream = Stream::open(source, Algorithm::Sha256, &Limits::default()).unwrap();
        let scratch = Scratch::create();
        let root = File::open(scratch.root("r")).unwrap();
        let result = apply(stream, root, &Options { target: OVERLAY, lowers: &[], diff_id: None });
        let (kind, line) = failure(result);
        assert_eq!(kind, ErrorKind::Temporary, "{line}");
        assert!(line.starts_with("the layer cannot be read: "), "{line}");
    }
}

#[test]
fn sizes_and_counts_are_bounded() {
    let tar = layer();
    let limited = |limits: Limits| {
        let scratch = Scratch::create();
        let stream = Stream::open(io::Cursor::new(gzip(&tar)), Algorithm::Sha256, &limits).unwrap();
        let root = File::open(scratch.root("r")).unwrap();
        invalid(apply(stream, root, &Options { target: OVERLAY, lowers: &[], diff_id: None }))
    };
    let total = tar.len() as u64 - 1;
    assert_eq!(
        limited(Limits { total, ..Limits::default() }),
        format!("the layer's tar is larger than the limit of {total} bytes")
    );
    assert_eq!(limited(Limits { entries: 40, ..Limits::default() }), "the layer has more than the limit of 40 entries");
    assert!(limited(Limits { path: 2, ..Limits::default() }).ends_with("the name is longer than 2 bytes"));
}

#[test]
fn a_bomb_is_stopped_at_its_ratio() {
    let zeros = zstd(&vec![0; 64 << 20]);
    let limits = Limits { ratio_floor: 32 << 20, ..Limits::default() };
    let stream = Stream::open(io::Cursor::new(zeros), Algorithm::Sha256, &limits).unwrap();
    let scratch = Scratch::create();
    let root = File::open(scratch.root("r")).unwrap();
    let line = invalid(apply(stream, root, &Options { target: OVERLAY, lowers: &[], diff_id: None }));
    assert_eq!(line, "the layer's tar is more than 1100 times as large as its compressed form");
}
