// SPDX-License-Identifier: Apache-2.0
//! `org.systemd.property.NAME` annotations: a property of the container's unit, its value as GVariant text.
//!
//! Of that format there are booleans, numbers, strings, arrays and tuples, and the words that fix a type:
//! what the properties of a scope are made of.

use super::Property;
use crate::cgroup::CgroupError;
use crate::dbus::{LONGEST_SIGNATURE, Value, first_type};

const PREFIX: &str = "org.systemd.property.";

/// Takes the properties from a config's annotations, in the order of their names.
pub(super) fn properties<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Property>, CgroupError> {
    let mut found: Vec<(&str, &str)> =
        annotations.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str()))).collect();
    found.sort_unstable();
    found.into_iter().map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<Property, CgroupError> {
    let refuse = |rule| CgroupError::Annotation { name: format!("{PREFIX}{name}"), value: text.to_owned(), rule };
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(refuse("a property's name is made of three letters or more"));
    }
    let value = parse(text).map_err(refuse)?;
    // What unit files call RuntimeMaxSec is RuntimeMaxUSec on the bus, and in microseconds.
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        None => Ok((name.to_owned(), value)),
        Some(stem) => {
            let value = microseconds(&value).ok_or_else(|| refuse("a duration is a number of seconds"))?;
            Ok((format!("{stem}USec"), Value::Uint64(value)))
        }
    }
}

fn microseconds(seconds: &Value) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    let whole = match *seconds {
        Value::Byte(n) => n.into(),
        Value::Uint16(n) => n.into(),
        Value::Uint32(n) => n.into(),
        Value::Uint64(n) => n,
        Value::Int16(n) => n.try_into().ok()?,
        Value::Int32(n) => n.try_into().ok()?,
        Value::Int64(n) => n.try_into().ok()?,
        Value::Double(n) if n.is_finite() && (0.0..1e12).contains(&n) => return Some((n * SECOND as f64) as u64),
        _ => return None,
    };
    whole.checked_mul(SECOND)
}

/// How deep arrays and tuples may be nested; the error is the rule that the text breaks.
const DEEPEST: usize = 8;

/// Reads GVariant text as a whole.
fn parse(text: &str) -> Result<Value, &'static str> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, DEEPEST)?;
    parser.skip_space();
    match parser.rest.is_empty() {
        false => Err("something comes after the value"),
        true if value.signature().len() > LONGEST_SIGNATURE => Err("its type is too long"),
        true => Ok(value),
    }
}

/// Types by the words that may stand before a value.
const WORDS: [(&str, &str); 11] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("handle", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
];

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes a character, and the space before it, if it comes next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        self.rest.strip_prefix(wanted).map(|rest| self.rest = rest).is_some()
    }

    /// Takes what is no space, bracket nor comma.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t', '\n', '\r', ',', ']', ')', '[', '(', '\'', '"']);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// Reads a value, of a type if one is asked for.
    fn value(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        let depth = depth.checked_sub(1).ok_or("its brackets are nested too deep")?;
        self.skip_space();
        match self.rest.chars().next().ok_or("a value is missing")? {
            '\'' | '"' => self.string().map(Value::String).and_then(|value| of_type(value, wanted)),
            '[' => self.array(wanted, depth),
            '(' => self.tuple(wanted, depth),
            '@' => {
                self.rest = &self.rest[1..];
                let end = self.rest.find([' ', '\t']).ok_or("a value is missing")?;
                let (signature, rest) = self.rest.split_at(end);
                self.rest = rest;
                self.value(Some(checked(signature)?), depth)
            }
            _ => {
                let word = self.word();
                match WORDS.iter().find(|(name, _)| *name == word) {
                    Some((_, signature)) => self.value(Some(signature), depth),
                    None => scalar(word, wanted),
                }
            }
        }
    }

    fn string(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        let mut characters = self.rest.chars();
        let quote = characters.next();
        loop {
            let next = characters.next();
            match next.ok_or("a string does not end")? {
                c if Some(c) == quote => break,
                '\\' => text.push(match characters.next().ok_or("a string does not end")? {
                    'n' => '\n',
                    't' => '\t',
                    c @ ('\\' | '\'' | '"') => c,
                    _ => return Err("a string has an escape that is not known"),
                }),
                '\0' => return Err("a string must not contain NUL"),
                c => text.push(c),
            }
        }
        self.rest = characters.as_str();
        Ok(text)
    }

    fn array(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        let mut element = match wanted {
            None => None,
            Some(signature) => Some(signature.strip_prefix('a').ok_or(WRONG_TYPE)?.to_owned()),
        };
        let mut items = Vec::new();
        self.take('[');
        while !self.take(']') {
            if !items.is_empty() && !self.take(',') {
                return Err("the elements of an array are separated by commas");
            }
            let item = self.value(element.as_deref(), depth)?;
            element.get_or_insert_with(|| item.signature());
            items.push(item);
        }
        Ok(Value::Array(element.ok_or("the type of an empty array must be given, as @as []")?, items))
    }

    fn tuple(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, &'static str> {
        let mut members = Vec::new();
        let mut types = wanted.map(|signature| signature.strip_prefix('(').ok_or(WRONG_TYPE)).transpose()?;
        self.take('(');
        while !self.take(')') {
            if !members.is_empty() && !self.take(',') {
                return Err("the members of a tuple are separated by commas");
            }
            let member_type = match &mut types {
                None => None,
                Some(rest) => {
                    let (first, others) = rest.split_at(first_type(rest, DEEPEST).ok_or(WRONG_TYPE)?);
                    *rest = others;
                    Some(first)
                }
            };
            members.push(self.value(member_type, depth)?);
        }
        match types {
            Some(")") | None if !members.is_empty() => Ok(Value::Struct(members)),
            _ => Err(WRONG_TYPE),
        }
    }
}

const WRONG_TYPE: &str = "a value is of another type than it must be";

/// A signature, if it is one of a type that there is here.
fn checked(signature: &str) -> Result<&str, &'static str> {
    let known = |b: u8| b"bynqiuxtdsa()".contains(&b);
    let whole = first_type(signature, DEEPEST) == Some(signature.len());
    if signature.bytes().all(known) && whole { Ok(signature) } else { Err("a type is none of those that are known") }
}

fn of_type(value: Value, wanted: Option<&str>) -> Result<Value, &'static str> {
    match wanted {
        Some(wanted) if wanted != value.signature() => Err(WRONG_TYPE),
        _ => Ok(value),
    }
}

/// A boolean or a number; one of no type is an int32, or a double if it is written as one.
fn scalar(word: &str, wanted: Option<&str>) -> Result<Value, &'static str> {
    const OUT_OF_RANGE: &str = "a number is out of the range of its type";
    if let "true" | "false" = word {
        return of_type(Value::Bool(word == "true"), wanted);
    }
    let is_double = word.contains(['.']) || (word.contains(['e', 'E']) && !word.contains(['x', 'X']));
    if wanted == Some("d") || (wanted.is_none() && is_double) {
        return match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            _ => Err("a value is no number"),
        };
    }
    let number = integer(word).ok_or("a value is neither a number, nor true, false, a string, array nor tuple")?;
    let value = match wanted.unwrap_or("i") {
        "y" => number.try_into().map(Value::Byte),
        "n" => number.try_into().map(Value::Int16),
        "q" => number.try_into().map(Value::Uint16),
        "i" => number.try_into().map(Value::Int32),
        "u" => number.try_into().map(Value::Uint32),
        "x" => number.try_into().map(Value::Int64),
        "t" => number.try_into().map(Value::Uint64),
        _ => return Err(WRONG_TYPE),
    };
    value.map_err(|_| OUT_OF_RANGE)
}

fn integer(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Value {
        Value::Array("s".into(), texts.iter().map(|text| Value::string(*text)).collect())
    }

    #[test]
    fn values_have_the_types_that_gvariant_gives_them() {
        for (text, value) in [
            ("true", Value::Bool(true)),
            (" false ", Value::Bool(false)),
            ("-5", Value::Int32(-5)),
            ("0x1F", Value::Int32(31)),
            ("uint64 123456789", Value::Uint64(123_456_789)),
            ("@t 18446744073709551615", Value::Uint64(u64::MAX)),
            ("byte 7", Value::Byte(7)),
            ("int16 -2", Value::Int16(-2)),
            ("uint32   9", Value::Uint32(9)),
            ("1.5", Value::Double(1.5)),
            ("1e3", Value::Double(1000.0)),
            ("double 2", Value::Double(2.0)),
            ("'inactive-or-failed'", Value::string("inactive-or-failed")),
            (r#""it's""#, Value::string("it's")),
            (r"'a\'b\\c\n'", Value::string("a'b\\c\n")),
            ("['a', \"b,]\"]", strings(&["a", "b,]"])),
            ("@as []", strings(&[])),
            ("[uint32 1, 2]", Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)])),
            (
                "[('/dev/null', 'rw')]",
                Value::Array("(ss)".into(), vec![Value::Struct(vec![Value::string("/dev/null"), Value::string("rw")])]),
            ),
            ("@(tb) (1, true)", Value::Struct(vec![Value::Uint64(1), Value::Bool(true)])),
            ("@aas [['x']]", Value::Array("as".into(), vec![strings(&["x"])])),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            " ",
            "abc",
            "'a",
            "'a\\",
            "'\\q'",
            "[",
            "[1",
            "[1 2]",
            "[1, 'a']",
            "[]",
            "()",
            "(1",
            "1 2",
            "tru",
            "uint64",
            "uint64 -1",
            "byte 256",
            "99999999999",
            "1e999",
            "nan",
            "@",
            "@as",
            "@a []",
            "@z 1",
            "@as 1",
            "@s 1",
            "@(s (",
            "@(s) ('a', 'b')",
            "@(ss) ('a')",
            "'a' 'b'",
            "--5",
            "+-5",
            "0x",
            "string 5",
            "é",
            "[[[[[[[[[[1]]]]]]]]]]",
            "'a\0b'",
            "<1>",
            "@a(a) []",
            &format!("@{}s []", "a".repeat(300)),
            &format!("({})", vec!["1"; 300].join(",")),
        ] {
            assert!(parse(text).is_err(), "{text:?}: {:?}", parse(text));
        }
    }

    #[test]
    fn seconds_become_microseconds_and_their_name_follows() {
        for (name, text, expected) in [
            ("TimeoutStopSec", "uint64 5", ("TimeoutStopUSec", Value::Uint64(5_000_000))),
            ("RuntimeMaxSec", "2", ("RuntimeMaxUSec", Value::Uint64(2_000_000))),
            ("RuntimeMaxSec", "1.5", ("RuntimeMaxUSec", Value::Uint64(1_500_000))),
            ("TimeoutStopUSec", "uint64 7", ("TimeoutStopUSec", Value::Uint64(7))),
            ("Sec", "5", ("Sec", Value::Int32(5))),
            ("CollectMode", "'inactive'", ("CollectMode", Value::string("inactive"))),
        ] {
            assert_eq!(property(name, text).expect(name), (expected.0.to_owned(), expected.1));
        }
        for (name, text) in [
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopSec", "-5"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("Ab", "1"),
            ("Memory-Max", "1"),
            ("", "1"),
            ("Memory1", "1"),
        ] {
            let error = property(name, text).expect_err(name).to_string();
            assert!(error.contains(&format!("org.systemd.property.{name}")), "{error}");
        }
    }
}
