// SPDX-License-Identifier: Apache-2.0
//! Reads what a message holds, whatever somebody has put there.

use super::value::alignment;

/// How deep containers may be nested (D-Bus Specification, "Valid Signatures", allows 64 in all).
const DEEPEST: usize = 64;

/// A place in the header or body of a message. `None` of any method: it is not what it should be.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    /// The start of a part of a message, which is aligned.
    pub(crate) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian }
    }

    /// How far it has come.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Goes on to a multiple.
    pub(crate) fn align(&mut self, alignment: usize) -> Option<()> {
        let to = self.at.checked_next_multiple_of(alignment)?;
        self.take(to - self.at).map(drop)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn uint32(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A string or an object path.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let length = self.uint32()?;
        self.text(usize::try_from(length).ok()?)
    }

    pub(crate) fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        self.text(length.into())
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let text = str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0 && !text.contains('\0')).then_some(text)
    }

    /// A string in a variant.
    pub(crate) fn string_variant(&mut self) -> Option<&'a str> {
        (self.signature()? == "s").then(|| self.string())?
    }

    /// Passes over values of these types.
    pub(crate) fn skip(&mut self, signature: &str) -> Option<()> {
        let mut rest = signature.as_bytes();
        while !rest.is_empty() {
            rest = self.skip_one(rest, DEEPEST)?;
        }
        Some(())
    }

    /// Passes over a value of the first type of a signature; returns the other types.
    fn skip_one<'s>(&mut self, signature: &'s [u8], depth: usize) -> Option<&'s [u8]> {
        let depth = depth.checked_sub(1)?;
        let (&kind, mut rest) = signature.split_first()?;
        self.align(alignment(kind))?;
        match kind {
            b'y' => drop(self.take(1)?),
            b'n' | b'q' => drop(self.take(2)?),
            b'b' | b'i' | b'u' | b'h' => drop(self.take(4)?),
            b'x' | b't' | b'd' => drop(self.take(8)?),
            b's' | b'o' => drop(self.string()?),
            b'g' => drop(self.signature()?),
            b'v' => {
                let inner = self.signature()?;
                if !self.skip_one(inner.as_bytes(), depth)?.is_empty() {
                    return None;
                }
            }
            b'a' => {
                let length = usize::try_from(self.uint32()?).ok()?;
                let element = *rest.first()?;
                self.align(alignment(element))?;
                self.take(length)?;
                rest = end_of_type(rest, depth)?;
            }
            b'(' | b'{' => {
                while *rest.first()? != closing(kind) {
                    rest = self.skip_one(rest, depth)?;
                }
                rest = &rest[1..];
            }
            _ => return None,
        }
        Some(rest)
    }
}

/// How long the first type of a signature is, if there is one that is nested less than `depth` deep.
pub(crate) fn first_type(signature: &str, depth: usize) -> Option<usize> {
    end_of_type(signature.as_bytes(), depth).map(|others| signature.len() - others.len())
}

fn closing(opening: u8) -> u8 {
    if opening == b'(' { b')' } else { b'}' }
}

/// What comes after the first type of a signature.
fn end_of_type(signature: &[u8], depth: usize) -> Option<&[u8]> {
    let depth = depth.checked_sub(1)?;
    let (&kind, mut rest) = signature.split_first()?;
    match kind {
        b'a' => end_of_type(rest, depth),
        b'(' | b'{' => {
            while *rest.first()? != closing(kind) {
                rest = end_of_type(rest, depth)?;
            }
            Some(&rest[1..])
        }
        b')' | b'}' => None,
        _ => Some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;

    #[test]
    fn what_was_written_is_passed_over_as_a_whole() {
        let strings = Value::Array("s".into(), vec![Value::string("a"), Value::string("bc")]);
        let pair = Value::Struct(vec![Value::string("x"), Value::Variant(strings.clone().into())]);
        let values = [
            Value::Byte(7),
            strings,
            Value::Uint64(1),
            Value::Array("(sv)".into(), vec![pair.clone(), pair]),
            Value::Variant(Value::Struct(vec![Value::Double(1.5), Value::Int16(-1)]).into()),
            Value::Bool(true),
        ];
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.write(&mut bytes));
        let signature: String = values.iter().map(Value::signature).collect();
        let mut reader = Reader::new(&bytes, false);
        reader.skip(&signature).expect("it is well-formed");
        assert_eq!(reader.position(), bytes.len());
        for cut in 0..bytes.len() {
            assert_eq!(Reader::new(&bytes[..cut], false).skip(&signature), None, "cut off at {cut}");
        }
    }

    #[test]
    fn lengths_and_ends_are_checked() {
        for (bytes, what) in [
            (&[255, 255, 255, 255, b'a', 0][..], "longer than all"),
            (&[1, 0, 0, 0, b'a', b'b'], "no NUL at the end"),
            (&[2, 0, 0, 0, b'a', 0, 0], "NUL inside"),
            (&[1, 0, 0, 0, 0xff, 0], "no UTF-8"),
            (&[1, 0, 0], "no length"),
        ] {
            assert_eq!(Reader::new(bytes, false).string(), None, "{what}");
        }
        assert_eq!(Reader::new(&[0, 0, 0, 1, b'a', 0], true).string(), Some("a"));
    }

    #[test]
    fn no_signature_leads_astray() {
        let bytes = [0; 64];
        let deep = "(".repeat(300);
        for signature in ["(", "a", "(y", "y)", "{", "a(", "a)", "z", "a{", &deep, &"a".repeat(300)] {
            assert_eq!(Reader::new(&bytes, false).skip(signature), None, "{signature}");
        }
        // variants in variants, each of which names the next
        let nested = [1, b'v', 0].repeat(100);
        assert_eq!(Reader::new(&nested, false).skip("v"), None);
    }
}
