// SPDX-License-Identifier: Apache-2.0
//! Sparse files in GNU's four formats.

use std::os::unix::fs::MetadataExt;

use super::*;

const SIZE: u64 = 40 << 20;

/// What all formats below describe: 600 `a` at 1 MiB, 5 `b` at 32 MiB, and a size of 40 MiB.
fn check(layer: Layer) {
    let scratch = Scratch::create();
    let root = scratch.root("r");
    layer.file("after", "x").apply_to(&root, OVERLAY).unwrap();
    let bytes = fs::read(root.join("sparse")).unwrap();
    let mut expected = vec![0; SIZE as usize];
    expected[1 << 20..(1 << 20) + 600].fill(b'a');
    expected[32 << 20..(32 << 20) + 5].fill(b'b');
    assert!(bytes == expected, "the content differs");
    assert!(fs::metadata(root.join("sparse")).unwrap().blocks() < 1000, "the holes are filled");
    assert_eq!(fs::read(root.join("after")).unwrap(), b"x");
}

fn data() -> Vec<u8> {
    [[b'a'; 600].as_slice(), b"bbbbb"].concat()
}

fn old_gnu(regions: &[(u64, u64)], size: u64) -> Header {
    let mut header = Header::new(b'S', "");
    header.block = ::tar::Header::new_gnu();
    header.block.set_path("sparse").unwrap();
    header.block.set_mode(0o644);
    header.block.as_old_mut().linkflag[0] = b'S';
    let gnu = header.block.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(regions) {
        slot.set_offset(*offset);
        slot.set_length(*length);
    }
    header
}

#[test]
fn gnu_old_format() {
    check(Layer::default().add(old_gnu(&[(1 << 20, 600), (32 << 20, 5), (SIZE, 0)], SIZE).content(&data())));
}

#[test]
fn gnu_old_format_with_more_blocks() {
    let mut header = old_gnu(&[(0, 0), (0, 0), (0, 0), (0, 0)], SIZE);
    header.block.as_gnu_mut().unwrap().set_is_extended(true);
    header.block.set_size(605);
    header.block.set_cksum();
    let mut bytes = header.block.as_bytes().to_vec();
    let mut regions = vec![(0_u64, 0_u64); 24];
    regions.extend([(1 << 20, 600), (32 << 20, 5)]);
    for (i, slots) in regions.chunks(21).enumerate() {
        let mut extension = ::tar::GnuExtSparseHeader::new();
        for (slot, (offset, length)) in extension.sparse_mut().iter_mut().zip(slots) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        extension.set_is_extended(i == 0);
        bytes.extend_from_slice(extension.as_bytes());
    }
    bytes.extend_from_slice(&data());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    check(Layer(bytes));
}

fn pax(version: &str) -> Header {
    let (size, name) = (SIZE.to_string(), "GNUSparseFile.1/sparse");
    let header = match version {
        "0.0" => return Header::new(b'0', "sparse").pax("GNU.sparse.size", size.as_bytes()),
        "0.1" => Header::new(b'0', name).pax("GNU.sparse.size", size.as_bytes()),
        _ => Header::new(b'0', name)
            .pax("GNU.sparse.major", b"1")
            .pax("GNU.sparse.minor", b"0")
            .pax("GNU.sparse.realsize", size.as_bytes()),
    };
    header.pax("GNU.sparse.name", b"sparse")
}

#[test]
fn pax_format_0_0() {
    let header = pax("0.0")
        .pax("GNU.sparse.numblocks", b"2")
        .pax("GNU.sparse.offset", b"1048576")
        .pax("GNU.sparse.numbytes", b"600")
        .pax("GNU.sparse.offset", b"33554432")
        .pax("GNU.sparse.numbytes", b"5");
    check(Layer::default().add(header.content(&data())));
}

#[test]
fn pax_format_0_1() {
    check(Layer::default().add(pax("0.1").pax("GNU.sparse.map", b"1048576,600,33554432,5").content(&data())));
}

#[test]
fn pax_format_1_0() {
    let mut content = b"2\n1048576\n600\n33554432\n5\n".to_vec();
    content.resize(512, 0);
    content.extend(data());
    check(Layer::default().add(pax("1.0").content(&content)));
}

#[test]
fn maps_that_lie_are_invalid() {
    let scratch = Scratch::create();
    let map = |map: &str| Layer::default().add(pax("0.1").pax("GNU.sparse.map", map.as_bytes()).content(&data()));
    let layers = [
        map("1048576,600"),
        map("1048576,600,33554432,6"),
        map("33554432,5,1048576,600"),
        map("1048576,600,41943038,5"),
        map("1048576,600,33554432"),
        map("-1,605"),
        map("x,605"),
        Layer::default().add(pax("1.0").content(b"2\n0\n")),
        Layer::default().add(pax("1.0").content(&[b'x'; 512])),
        Layer::default().add(old_gnu(&[(u64::from(u32::MAX), 605)], 10).content(&data())),
        Layer::default().add(Header::new(b'0', "f").pax("GNU.sparse.major", b"2").pax("GNU.sparse.minor", b"0")),
    ];
    for (i, layer) in layers.into_iter().enumerate() {
        let line = invalid(layer.apply_to(&scratch.root(&i.to_string()), OVERLAY));
        assert!(line.ends_with("the map of a sparse file is malformed"), "{i}: {line}");
    }
}

// A file of 8 EiB costs its image nothing; a file system may not hold it, but nothing else may happen.
#[test]
fn a_size_beyond_the_file_system_is_invalid() {
    let scratch = Scratch::create();
    let header = Header::new(b'0', "huge")
        .pax("GNU.sparse.size", i64::MAX.to_string().as_bytes())
        .pax("GNU.sparse.map", b"0,1")
        .content(b"x");
    match Layer::default().add(header).apply_to(&scratch.root("r"), OVERLAY) {
        Ok(_) => println!("SKIP a_size_beyond_the_file_system_is_invalid: this one holds 8 EiB"),
        result => assert!(invalid(result).starts_with(r#"entry "huge": cannot write it: "#)),
    }
}
