// SPDX-License-Identifier: Apache-2.0
//! PAX extended headers: records that override the header they precede.

use super::{number, sparse};
use crate::entry::{Region, Time};
use crate::error::Malformed;

/// What PAX records say of the entry that follows them. An empty value leaves the header's own.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
}

/// A sparse file in one of GNU's three PAX formats.
#[derive(Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// The map (formats 0.0 and 0.1); in format 1.0 it stands in front of the content.
    pub(super) map: Option<Vec<Region>>,
}

impl Overrides {
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, Malformed> {
        let mut overrides = Self::default();
        let mut gnu = Gnu::default();
        while !records.is_empty() {
            let record = Record::split_off(records).ok_or(Malformed::PaxRecord)?;
            overrides.apply(record.key, record.value, &mut gnu)?;
            records = record.rest;
        }
        overrides.sparse = gnu.finish()?;
        Ok(overrides)
    }

    fn apply(&mut self, key: &[u8], value: &[u8], gnu: &mut Gnu) -> Result<(), Malformed> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err(Malformed::Nul("attribute name"));
            }
            self.xattrs.retain(|(other, _)| other != name); // the last one of a name counts
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if value.is_empty() {
            return Ok(());
        }
        let number = |what| number::decimal(value).ok_or(Malformed::Number(what));
        let size = |what| u64::try_from(number(what)?).map_err(|_| Malformed::Number(what));
        let time = |what| number::time(value).ok_or(Malformed::Number(what));
        match key {
            b"path" => self.path = Some(text("path", value)?),
            b"linkpath" => self.linkpath = Some(text("link target", value)?),
            b"size" => self.size = Some(size("PAX size")?),
            b"uid" => self.uid = Some(number("PAX uid")?),
            b"gid" => self.gid = Some(number("PAX gid")?),
            b"mtime" => self.mtime = Some(time("PAX time of modification")?),
            b"atime" => self.atime = Some(time("PAX time of access")?),
            b"GNU.sparse.major" => gnu.major = Some(number("sparse format")?),
            b"GNU.sparse.minor" => gnu.minor = Some(number("sparse format")?),
            b"GNU.sparse.name" => gnu.sparse.name = Some(text("path", value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => gnu.sparse.size = Some(size("PAX size")?),
            b"GNU.sparse.map" => gnu.numbers = value.split(|&b| b == b',').map(<[u8]>::to_vec).collect(),
            b"GNU.sparse.offset" if gnu.numbers.len().is_multiple_of(2) => gnu.numbers.push(value.to_vec()),
            b"GNU.sparse.numbytes" if !gnu.numbers.len().is_multiple_of(2) => gnu.numbers.push(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return Err(Malformed::SparseMap),
            _ => {}
        }
        Ok(())
    }
}

#[derive(Default)]
struct Gnu {
    major: Option<i64>,
    minor: Option<i64>,
    sparse: Sparse,
    numbers: Vec<Vec<u8>>,
}

impl Gnu {
    fn finish(mut self) -> Result<Option<Sparse>, Malformed> {
        match (self.major, self.minor) {
            (Some(1), Some(0)) => return Ok(Some(self.sparse)),
            // The oldest of these formats do not give their version.
            (Some(0), Some(0 | 1)) | (None, None) => {}
            _ => return Err(Malformed::SparseMap),
        }
        if self.numbers.is_empty() {
            return Ok(None);
        }
        let mut map = Vec::with_capacity(self.numbers.len() / 2);
        for pair in self.numbers.chunks(2) {
            let [offset, length] = pair else { return Err(Malformed::SparseMap) };
            map.push(sparse::region(number::decimal(offset), number::decimal(length))?);
        }
        self.sparse.map = Some(map);
        Ok(Some(self.sparse))
    }
}

fn text(what: &'static str, value: &[u8]) -> Result<Vec<u8>, Malformed> {
    if value.contains(&0) { Err(Malformed::Nul(what)) } else { Ok(value.to_vec()) }
}

/// One record, `LENGTH KEY=VALUE\n`, and the ones behind it. LENGTH counts all of the record; a value may
/// hold any byte, newlines too.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn split_off(records: &'a [u8]) -> Option<Self> {
        let space = records.iter().take(20).position(|&b| b == b' ')?;
        let digits = Some(&records[..space]).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        let length = usize::try_from(number::decimal(digits)?).ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&b| b == b'=').filter(|&at| at > 0)?;
        Some(Self { key: &record[..equals], value: &record[equals + 1..], rest: &records[length..] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_equals_signs() {
        let overrides = Overrides::parse(b"29 SCHILY.xattr.user.a=x=\n\0y\n9 path=p\n8 size=\n").unwrap();
        assert_eq!(overrides.xattrs, [(b"user.a".to_vec(), b"x=\n\0y".to_vec())]);
        assert_eq!(overrides.path.as_deref(), Some(&b"p"[..]));
        assert_eq!(overrides.size, None);
    }

    #[test]
    fn refuses_malformed_records() {
        for bad in [
            &b"8 path=p\n"[..],
            b"11 path=p\n",
            b"9 path=px",
            b"path=p\n",
            b"7 path\n",
            b"6 =pp\n",
            b"99999999999999999999 path=p\n",
            b"+9 path=p\n",
            b"-1 path=p\n",
            b"0 path=p\n",
            b"2 ",
            b" ",
        ] {
            assert_eq!(Overrides::parse(bad).err(), Some(Malformed::PaxRecord), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(Overrides::parse(b"11 path=p\0\n").err(), Some(Malformed::Nul("path")));
        assert_eq!(Overrides::parse(b"11 size=-1\n").err(), Some(Malformed::Number("PAX size")));
        assert_eq!(Overrides::parse(b"11 mtime=x\n").err(), Some(Malformed::Number("PAX time of modification")));
    }
}
