// SPDX-License-Identifier: Apache-2.0
//! The protocol buffers' wire format, as far as criu's messages use it.
//!
//! They have integers, booleans and enumerations, all of them varints, and strings and messages, which
//! are a length and bytes. A few dozen fields of two messages do not need a generator and its runtime.

/// Puts a message together, field by field.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

impl Writer {
    /// Adds an integer. A negative one is ten bytes long, whatever its type.
    pub(super) fn int(&mut self, field: u32, value: i64) {
        self.key(field, VARINT);
        self.varint(value as u64);
    }

    /// Adds a boolean.
    pub(super) fn bool(&mut self, field: u32, value: bool) {
        self.int(field, value.into());
    }

    /// Adds a string; paths go as the bytes that they are.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Adds a message that `write` puts together.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// The message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An integer, boolean or enumeration.
    Int(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As a signed integer of 32 bits, which is sent as one of 64.
    pub(super) fn int(self) -> i32 {
        match self {
            Self::Int(value) => value as i32,
            Self::Bytes(_) => 0,
        }
    }

    /// As text; what is no UTF-8 in it is replaced.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// As a message.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Int(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Splits a message into its fields, in order. `None`: it is not well formed.
pub(super) fn fields(mut message: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let field = u32::try_from(key >> 3).ok()?;
        match key & 7 {
            VARINT => all.push((field, Value::Int(take_varint(&mut message)?))),
            BYTES => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                all.push((field, Value::Bytes(take(&mut message, length)?)));
            }
            // Of a newer criu: nothing that is looked for.
            FIXED_64 => drop(take(&mut message, 8)?),
            FIXED_32 => drop(take(&mut message, 4)?),
            _ => return None,
        }
    }
    Some(all)
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_the_specification_says() {
        // The examples of the encoding guide of protocol buffers.
        let mut writer = Writer::default();
        writer.int(1, 150);
        writer.bytes(2, b"testing");
        writer.message(3, |inner| inner.int(1, 150));
        writer.int(4, -2);
        writer.bool(5, true);
        let expected =
            b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01\x20\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x01";
        assert_eq!(writer.finish(), expected);
    }

    #[test]
    fn what_was_written_is_read_and_other_kinds_are_passed_over() {
        let mut writer = Writer::default();
        writer.int(1, -1);
        writer.bytes(70, "ä".as_bytes());
        let mut message = writer.finish();
        message.extend(b"\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0"); // fields 3 and 4, fixed
        let read = fields(&message).unwrap();
        assert_eq!((read[0].0, read[0].1.int()), (1, -1));
        assert_eq!((read[1].0, read[1].1.text().as_str()), (70, "ä"));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_message_that_is_cut_short_is_refused() {
        let whole = b"\x12\x07testing\x1a\x03\x08\x96\x01";
        for length in [1, 2, 5, 8, 10, 11, 13] {
            assert_eq!(fields(&whole[..length]), None, "{length}");
        }
        assert_eq!(fields(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), None);
        assert_eq!(fields(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), None);
        assert_eq!(fields(b"\x0b"), None);
    }
}
