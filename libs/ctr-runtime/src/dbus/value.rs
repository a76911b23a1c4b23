// SPDX-License-Identifier: Apache-2.0
//! Values of D-Bus types, and how they are put into a message.

use serde::{Serialize, Serializer};

/// A value of one of the types that are sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Byte(u8),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    String(String),
    /// The signature of the elements, and the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub(crate) fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// A string of bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".to_owned(), bytes.iter().copied().map(Self::Byte).collect())
    }

    /// Its type.
    pub(crate) fn signature(&self) -> String {
        match self {
            Self::Bool(_) => "b".to_owned(),
            Self::Byte(_) => "y".to_owned(),
            Self::Int16(_) => "n".to_owned(),
            Self::Uint16(_) => "q".to_owned(),
            Self::Int32(_) => "i".to_owned(),
            Self::Uint32(_) => "u".to_owned(),
            Self::Int64(_) => "x".to_owned(),
            Self::Uint64(_) => "t".to_owned(),
            Self::Double(_) => "d".to_owned(),
            Self::String(_) => "s".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(members) => format!("({})", members.iter().map(Self::signature).collect::<String>()),
            Self::Variant(_) => "v".to_owned(),
        }
    }

    /// Appends it to the part of a message that begins at the start of `out`, which is aligned.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.signature().as_bytes()[0]));
        match self {
            Self::Bool(value) => out.extend(u32::from(*value).to_le_bytes()),
            Self::Byte(value) => out.push(*value),
            Self::Int16(value) => out.extend(value.to_le_bytes()),
            Self::Uint16(value) => out.extend(value.to_le_bytes()),
            Self::Int32(value) => out.extend(value.to_le_bytes()),
            Self::Uint32(value) => out.extend(value.to_le_bytes()),
            Self::Int64(value) => out.extend(value.to_le_bytes()),
            Self::Uint64(value) => out.extend(value.to_le_bytes()),
            Self::Double(value) => out.extend(value.to_le_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(element, items) => {
                let length_at = out.len();
                out.extend([0; 4]);
                // which the length does not count
                pad(out, alignment(element.as_bytes()[0]));
                let start = out.len();
                items.iter().for_each(|item| item.write(out));
                let length = length(out.len() - start);
                out[length_at..length_at + 4].copy_from_slice(&length);
            }
            Self::Struct(members) => members.iter().for_each(|member| member.write(out)),
            Self::Variant(value) => {
                write_signature(&value.signature(), out);
                value.write(out);
            }
        }
    }
}

/// Appends a string: its length, its bytes, a NUL.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend(length(text.len()));
    out.extend(text.as_bytes());
    out.push(0);
}

/// How long a signature may be.
pub(crate) const LONGEST_SIGNATURE: usize = 255;

/// Appends a signature, whose length is a byte.
pub(crate) fn write_signature(signature: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(signature.len()).expect("what could be longer is refused where it is read"));
    out.extend(signature.as_bytes());
    out.push(0);
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("config.json, where it comes from, is smaller").to_le_bytes()
}

/// Appends zeros up to a multiple.
pub(crate) fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// What the place of a value of a type is a multiple of, by the first letter of its signature.
pub(crate) fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// As plain JSON, for people to read.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Byte(value) => serializer.serialize_u8(*value),
            Self::Int16(value) => serializer.serialize_i16(*value),
            Self::Uint16(value) => serializer.serialize_u16(*value),
            Self::Int32(value) => serializer.serialize_i32(*value),
            Self::Uint32(value) => serializer.serialize_u32(*value),
            Self::Int64(value) => serializer.serialize_i64(*value),
            Self::Uint64(value) => serializer.serialize_u64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(_, items) | Self::Struct(items) => serializer.collect_seq(items),
            Self::Variant(value) => value.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(values: &[Value]) -> Vec<u8> {
        let mut out = Vec::new();
        values.iter().for_each(|value| value.write(&mut out));
        out
    }

    #[test]
    fn values_are_aligned_and_counted() {
        let values = [Value::Byte(1), Value::Uint32(2), Value::string("ab"), Value::Bool(true), Value::Uint64(3)];
        let expected = [
            &[1, 0, 0, 0][..],
            &[2, 0, 0, 0],
            &[2, 0, 0, 0, b'a', b'b', 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0][..4],
            &[3, 0, 0, 0, 0, 0, 0, 0],
        ];
        // the string ends at 15: one byte of padding; the u64 begins at 24: four more
        let mut flat = expected.concat();
        flat.splice(20..20, [0; 4]);
        assert_eq!(written(&values), flat);
    }

    #[test]
    fn an_array_does_not_count_the_padding_before_its_first_element() {
        let pair = |name: &str| Value::Struct(vec![Value::string(name), Value::Variant(Value::Bool(true).into())]);
        assert_eq!(
            written(&[Value::Array("(sv)".into(), vec![pair("A")])]),
            [&[16, 0, 0, 0][..], &[0; 4], &[1, 0, 0, 0, b'A', 0], &[1, b'b', 0], &[0, 0, 0], &[1, 0, 0, 0],].concat()
        );
        assert_eq!(written(&[Value::Array("t".into(), Vec::new())]), [0; 8]);
    }

    #[test]
    fn types_are_written_as_letters() {
        let devices = Value::Struct(vec![Value::string("/dev/null"), Value::string("rw")]);
        for (value, signature) in [
            (Value::Array("(ss)".into(), vec![devices]), "a(ss)"),
            (Value::bytes(b"ab"), "ay"),
            (Value::Variant(Value::Double(1.0).into()), "v"),
            (Value::Struct(vec![Value::Int16(1), Value::Uint16(2), Value::Int64(3), Value::Int32(4)]), "(nqxi)"),
        ] {
            assert_eq!(value.signature(), signature);
        }
    }
}
