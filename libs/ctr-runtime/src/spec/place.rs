// SPDX-License-Identifier: Apache-2.0
//! Where in a JSON text a decoder has stopped, as a person would name it: `process.args[0]`.

/// The member that line `line`, column `column` (both from 1) of a text is in; empty for the whole.
pub(super) fn member_at(text: &[u8], line: usize, column: usize) -> String {
    let start = match line {
        0 | 1 => 0,
        _ => text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let end = start.saturating_add(column).min(text.len());
    let mut path: Vec<Step> = Vec::new();
    let mut rest = text[..end].iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' => path.push(Step::Object { key: String::new(), named: false }),
            b'[' => path.push(Step::Array(0)),
            b'}' | b']' => drop(path.pop()),
            b',' => match path.last_mut() {
                Some(Step::Array(index)) => *index += 1,
                Some(Step::Object { named, .. }) => *named = false,
                None => {}
            },
            b':' => {
                if let Some(Step::Object { named, .. }) = path.last_mut() {
                    *named = true;
                }
            }
            b'"' => {
                let string = string(&mut rest);
                if let Some(Step::Object { key, named: false }) = path.last_mut() {
                    *key = string;
                }
            }
            _ => {}
        }
    }
    let mut shown = String::new();
    for step in path {
        match step {
            Step::Array(index) => shown += &format!("[{index}]"),
            Step::Object { key, named: true } => {
                let dot = if shown.is_empty() { "" } else { "." };
                shown += &format!("{dot}{key}");
            }
            Step::Object { .. } => {}
        }
    }
    shown
}

enum Step {
    /// In a member whose key was read, `named` once its value has begun.
    Object {
        key: String,
        named: bool,
    },
    Array(usize),
}

// What follows an opening quote.
fn string<'a>(rest: &mut impl Iterator<Item = &'a u8>) -> String {
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => break,
            b'\\' => bytes.extend(rest.next()),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_with_all_that_they_are_in() {
        let text = br#"{"a": {"b\"": [1, {"c": 2, "d":
 "x{["}], "e": 3}}"#;
        let first = |needle: &str| text.windows(needle.len()).position(|part| part == needle.as_bytes()).unwrap();
        assert_eq!(member_at(text, 1, first("1,") + 1), "a.b\"[0]");
        assert_eq!(member_at(text, 1, first("2,") + 1), "a.b\"[1].c");
        assert_eq!(member_at(text, 2, 6), "a.b\"[1].d");
        assert_eq!(member_at(text, 2, 16), "a.e");
        assert_eq!(member_at(text, 2, 17), "a");
        assert_eq!(member_at(text, 9, 9999), "");
        assert_eq!(member_at(b"]}}", 1, 3), "");
    }
}
