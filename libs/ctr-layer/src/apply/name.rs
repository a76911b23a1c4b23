// SPDX-License-Identifier: Apache-2.0
//! Names from a tar as paths below the layer's root.

use crate::error::Fault;

/// A path below the root, of plain components joined by slashes; empty for the root itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// Cleans a name as Go's path.Clean does. One that is absolute begins at the root; one that leads
    /// out of it is refused.
    pub(super) fn clean(raw: &[u8], longest: usize) -> Result<Self, Fault> {
        if raw.len() > longest {
            return Err(Fault::NameTooLong { limit: longest });
        }
        if raw.contains(&0) {
            return Err(Fault::Nul);
        }
        let mut clean: Vec<u8> = Vec::with_capacity(raw.len());
        for component in raw.split(|&b| b == b'/') {
            match component {
                b"" | b"." => {}
                b".." if clean.is_empty() => return Err(Fault::LeadsOut),
                b".." => clean.truncate(clean.iter().rposition(|&b| b == b'/').unwrap_or(0)),
                component => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(component);
                }
            }
        }
        Ok(Self(clean))
    }

    /// The parent and the last component; `None` for the root.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None if self.0.is_empty() => None,
            None => Some((&[], &self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &str) -> Option<String> {
        Name::clean(raw.as_bytes(), 20).ok().map(|name| String::from_utf8(name.0).unwrap())
    }

    #[test]
    fn names_are_cleaned_and_never_lead_out() {
        for (raw, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/./c/", Some("a/b/c")),
            ("/a", Some("a")),
            ("///", Some("")),
            ("", Some("")),
            (".", Some("")),
            ("a/..", Some("")),
            ("a/b/../../c", Some("c")),
            ("a/b/..", Some("a")),
            ("..a/...", Some("..a/...")),
            ("..", None),
            ("/..", None),
            ("a/../..", None),
            ("a/../../b", None),
            ("a\0b", None),
            ("aaaaaaaaaaaaaaaaaaaaa", None),
        ] {
            assert_eq!(clean(raw).as_deref(), expected, "{raw:?}");
        }
    }

    #[test]
    fn splits_off_the_last_component() {
        let name = |raw: &str| Name::clean(raw.as_bytes(), 20).unwrap();
        assert_eq!(name("/").split(), None);
        assert_eq!(name("a").split(), Some((&b""[..], &b"a"[..])));
        assert_eq!(name("a/b/c").split(), Some((&b"a/b"[..], &b"c"[..])));
    }
}
