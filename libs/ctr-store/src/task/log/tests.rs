// SPDX-License-Identifier: Apache-2.0
//! Output through a log and back.

use std::time::{Duration, UNIX_EPOCH};

use ctr_record::Timestamp;

use super::*;

fn encode(format: LogFormat, parts: &[(Stream, &[u8])]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(format), Vec::new());
    let now = Timestamp(UNIX_EPOCH + Duration::from_nanos(5));
    for (stream, bytes) in parts {
        encoder.encode(*stream, bytes, now, &mut out);
    }
    encoder.finish(now, &mut out);
    out
}

fn decode(format: LogFormat, log: &[u8], stream: Stream) -> Vec<u8> {
    let decoder = Decoder::new(format);
    let entries = log.split_inclusive(|&b| b == b'\n').map(|line| decoder.decode(line).unwrap());
    entries
        .filter(|entry| entry.stream.is_none_or(|of| of == stream))
        .flat_map(|entry| entry.text.into_owned())
        .collect()
}

#[test]
fn cri_lines_are_as_kubernetes_wants_them() {
    let log =
        encode(LogFormat::Cri, &[(Stream::Stdout, b"a b\nc"), (Stream::Stderr, b"\n"), (Stream::Stdout, b"d\ne")]);
    let time = "1970-01-01T00:00:00.000000005Z";
    let lines = format!("{time} stdout F a b\n{time} stderr F \n{time} stdout F cd\n{time} stdout P e\n");
    assert_eq!(String::from_utf8(log).unwrap(), lines);
}

#[test]
fn json_lines_are_as_docker_writes_them() {
    let log = encode(LogFormat::Json, &[(Stream::Stderr, b"a\"\nb")]);
    let time = "1970-01-01T00:00:00.000000005Z";
    let first = format!(r#"{{"log":"a\"\n","stream":"stderr","time":"{time}"}}"#);
    let second = format!(r#"{{"log":"b","stream":"stderr","time":"{time}"}}"#);
    assert_eq!(String::from_utf8(log).unwrap(), format!("{first}\n{second}\n"));
}

#[test]
fn any_bytes_come_back_however_they_arrived() {
    let mut output: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Lines around the limit of an entry, and no newline at the end.
    for length in [16_383, 16_384, 16_385, 32_768, 32_769, 0, 1] {
        output.extend(std::iter::repeat_n(b'x', length));
        output.push(b'\n');
    }
    output.extend_from_slice(b"no newline");
    for step in [1, 7, 4096, 16_384, 65_536, output.len()] {
        let parts: Vec<(Stream, &[u8])> = output.chunks(step).map(|chunk| (Stream::Stdout, chunk)).collect();
        for format in [LogFormat::Cri, LogFormat::Raw] {
            let log = encode(format, &parts);
            assert!(decode(format, &log, Stream::Stdout) == output, "{format:?} in steps of {step}");
        }
    }
}

#[test]
fn a_line_of_exactly_an_entrys_length_is_one_entry() {
    let mut line = vec![b'x'; 16_384];
    line.push(b'\n');
    let count = |line: &[u8]| encode(LogFormat::Cri, &[(Stream::Stdout, line)]).iter().filter(|&&b| b == b'\n').count();
    assert_eq!(count(&line), 1);
    line.insert(0, b'x');
    assert_eq!(count(&line), 2);
}

#[test]
fn json_cuts_no_character_in_two() {
    let text = "x".to_owned() + &"é€😀".repeat(20_000);
    let log = encode(LogFormat::Json, &[(Stream::Stdout, text.as_bytes())]);
    assert!(decode(LogFormat::Json, &log, Stream::Stdout) == text.as_bytes());
}

#[test]
fn damaged_lines_are_told_from_output() {
    let cri = Decoder::new(LogFormat::Cri);
    for bad in ["", "\n", "t stdout F\n", "t stdin F x\n", "t stdout X x\n", "t stdout F unfinished"] {
        assert!(cri.decode(bad.as_bytes()).is_none(), "{bad:?}");
    }
    assert_eq!(*cri.decode(b"t stdout P:later x\n").unwrap().text, *b"x");
    assert!(Decoder::new(LogFormat::Json).decode(b"{\"log\":1}\n").is_none());
}
