// SPDX-License-Identifier: Apache-2.0
//! Messages: those that are sent, method calls, and those that come back.

use super::reader::Reader;
use super::value::{Value, pad, write_signature};

/// How large a message may be that is read; the specification's limit is 128 MiB, and systemd's answers are
/// hundreds of bytes.
const LARGEST: usize = 1 << 20;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A method to call: on which object of whom, and with what.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) arguments: &'a [Value],
}

impl Call<'_> {
    /// The bytes of the message.
    pub(crate) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        self.arguments.iter().for_each(|argument| argument.write(&mut body));
        let mut fields = Vec::new();
        let texts = [
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
            (DESTINATION, "s", self.destination),
        ];
        for (code, kind, text) in texts {
            pad(&mut fields, 8);
            fields.push(code);
            write_signature(kind, &mut fields);
            Value::string(text).write(&mut fields);
        }
        if !self.arguments.is_empty() {
            pad(&mut fields, 8);
            fields.push(SIGNATURE);
            write_signature("g", &mut fields);
            let signature: String = self.arguments.iter().map(Value::signature).collect();
            write_signature(&signature, &mut fields);
        }
        let mut message = vec![b'l', METHOD_CALL, 0, 1];
        for number in [body.len(), serial as usize, fields.len()] {
            message.extend(u32::try_from(number).expect("config.json is smaller").to_le_bytes());
        }
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body);
        message
    }
}

/// What a message that came in is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to the call of this serial number.
    Return(u32),
    /// The refusal, by its name, of the call of this serial number.
    Error(u32, String),
    /// A signal, by its interface and name.
    Signal(String, String),
    /// A call of a method of ours, of which there are none.
    Other,
}

/// A message that came in.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    signature: String,
    body: Vec<u8>,
    big_endian: bool,
}

/// A message of which not all is there, or that none can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incomplete {
    /// Its end has not come yet.
    CutOff,
    /// It breaks a rule.
    Broken(&'static str),
}

impl Message {
    /// Reads the message at the start of `bytes`; returns how long it is, too.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, usize), Incomplete> {
        const FIXED: usize = 16;
        let broken = Incomplete::Broken;
        let Some(fixed) = bytes.get(..FIXED) else { return Err(Incomplete::CutOff) };
        let big_endian = match fixed[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(broken("a message says neither that it is little-endian nor big-endian")),
        };
        if fixed[3] != 1 {
            return Err(broken("a message is of another version of the protocol"));
        }
        let number = |at: usize| Reader::new(&fixed[at..], big_endian).uint32().map_or(usize::MAX, |n| n as usize);
        let (body_length, fields_length) = (number(4), number(12));
        if body_length > LARGEST || fields_length > LARGEST {
            return Err(broken("a message is too large"));
        }
        let body_at = (FIXED + fields_length).next_multiple_of(8);
        let end = body_at + body_length;
        let Some(whole) = bytes.get(..end) else { return Err(Incomplete::CutOff) };
        let fields = Fields::read(&whole[FIXED..FIXED + fields_length], big_endian);
        let fields = fields.ok_or(broken("the fields of a message's header are damaged"))?;
        let message = Self {
            kind: fields.kind(fixed[1]).ok_or(broken("a message lacks a field that its kind must have"))?,
            signature: fields.signature,
            body: whole[body_at..].to_vec(),
            big_endian,
        };
        Ok((message, end))
    }

    /// The body, if its types are these.
    pub(crate) fn body(&self, signature: &str) -> Option<Reader<'_>> {
        (self.signature == signature).then(|| Reader::new(&self.body, self.big_endian))
    }

    /// The text that an error is explained with.
    pub(crate) fn text(&self) -> Option<&str> {
        self.signature.starts_with('s').then(|| Reader::new(&self.body, self.big_endian).string())?
    }
}

#[derive(Debug, Default)]
struct Fields {
    interface: Option<String>,
    member: Option<String>,
    error: Option<String>,
    reply_to: Option<u32>,
    signature: String,
}

impl Fields {
    /// Reads an array of structs of a code and a variant; codes that are not known are passed over.
    fn read(bytes: &[u8], big_endian: bool) -> Option<Self> {
        let mut fields = Self::default();
        let mut reader = Reader::new(bytes, big_endian);
        while reader.position() < bytes.len() {
            reader.align(8)?;
            let code = reader.byte()?;
            let signature = reader.signature()?;
            match (code, signature) {
                (INTERFACE, "s") => fields.interface = Some(reader.string()?.to_owned()),
                (MEMBER, "s") => fields.member = Some(reader.string()?.to_owned()),
                (ERROR_NAME, "s") => fields.error = Some(reader.string()?.to_owned()),
                (REPLY_SERIAL, "u") => fields.reply_to = Some(reader.uint32()?),
                (SIGNATURE, "g") => fields.signature = reader.signature()?.to_owned(),
                (INTERFACE | MEMBER | ERROR_NAME | REPLY_SERIAL | SIGNATURE, _) => return None,
                _ => reader.skip(signature)?,
            }
        }
        Some(fields)
    }

    fn kind(&self, kind: u8) -> Option<Kind> {
        match kind {
            METHOD_RETURN => Some(Kind::Return(self.reply_to?)),
            ERROR => Some(Kind::Error(self.reply_to?, self.error.clone()?)),
            SIGNAL => Some(Kind::Signal(self.interface.clone()?, self.member.clone()?)),
            _ => Some(Kind::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &[u8] = b"l\x01\0\x01\0\0\0\0\x05\0\0\0\x4b\0\0\0\
        \x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0\
        \x02\x01s\0\x15\0\0\0org.freedesktop.DBus.\0\0\0\
        \x03\x01s\0\x04\0\0\0Ping\0\0\0\0\x06\x01s\0\x02\0\0\0:1\0";

    /// A message of a peer that takes the same fields as a call, but for its kind.
    fn answer(kind: u8, fields: &[(u8, Value)], body: &[Value]) -> Vec<u8> {
        let mut encoded = Vec::new();
        let signature: String = body.iter().map(Value::signature).collect();
        for (code, value) in fields {
            pad(&mut encoded, 8);
            encoded.push(*code);
            Value::Variant(value.clone().into()).write(&mut encoded);
        }
        pad(&mut encoded, 8);
        encoded.push(SIGNATURE);
        write_signature("g", &mut encoded);
        write_signature(&signature, &mut encoded);
        let mut values = Vec::new();
        body.iter().for_each(|value| value.write(&mut values));
        let mut message = vec![b'l', kind, 0, 1];
        for number in [values.len(), 9, encoded.len()] {
            message.extend(u32::try_from(number).expect("small").to_le_bytes());
        }
        message.extend(encoded);
        pad(&mut message, 8);
        message.extend(values);
        message
    }

    #[test]
    fn a_call_is_as_the_specification_has_it() {
        let call =
            Call { destination: ":1", path: "/a", interface: "org.freedesktop.DBus.", member: "Ping", arguments: &[] };
        let mut expected = PING.to_vec();
        expected.resize(expected.len().next_multiple_of(8), 0);
        assert_eq!(call.encode(5), expected);
        let (message, length) = Message::decode(&call.encode(5)).expect("a message");
        assert_eq!((message.kind, length), (Kind::Other, expected.len()));
    }

    #[test]
    fn answers_are_told_apart() {
        let serial = (REPLY_SERIAL, Value::Uint32(7));
        let returned = answer(METHOD_RETURN, std::slice::from_ref(&serial), &[Value::string("/job/1")]);
        let (message, length) = Message::decode(&[&returned[..], b"next"].concat()).expect("a message");
        assert_eq!((&message.kind, length), (&Kind::Return(7), returned.len()));
        assert_eq!(message.body("s").and_then(|mut body| body.string()), Some("/job/1"));
        assert!(message.body("u").is_none());
        let name = (ERROR_NAME, Value::string("a.b.C"));
        let refused = answer(ERROR, &[serial, name], &[Value::string("why"), Value::Byte(1)]);
        let (message, _) = Message::decode(&refused).expect("a message");
        assert_eq!((&message.kind, message.text()), (&Kind::Error(7, "a.b.C".into()), Some("why")));
        let fields = [(INTERFACE, Value::string("i")), (MEMBER, Value::string("m")), (77, Value::bytes(b"x"))];
        let (message, _) = Message::decode(&answer(SIGNAL, &fields, &[])).expect("a message");
        assert_eq!(message.kind, Kind::Signal("i".into(), "m".into()));
    }

    #[test]
    fn what_is_cut_off_needs_more_and_what_is_damaged_is_refused() {
        let serial = (REPLY_SERIAL, Value::Uint32(7));
        let whole = answer(METHOD_RETURN, &[serial], &[Value::string("x")]);
        for cut in 0..whole.len() {
            assert_eq!(Message::decode(&whole[..cut]).err(), Some(Incomplete::CutOff), "{cut}");
        }
        // no byte of it, whatever it becomes, does more than change what is read
        for at in 0..whole.len() {
            for value in [0, 1, 7, 127, 255] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Ok((message, _)) = Message::decode(&damaged) {
                    let _ = message.body("s").and_then(|mut body| body.string().map(str::len));
                }
            }
        }
        let without_reply = answer(METHOD_RETURN, &[], &[]);
        assert!(matches!(Message::decode(&without_reply), Err(Incomplete::Broken(_))));
        let mut large = whole;
        large[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::decode(&large).err(), Some(Incomplete::Broken("a message is too large")));
    }
}
