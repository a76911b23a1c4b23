// SPDX-License-Identifier: Apache-2.0
//! What the first bytes of a program say: who is to interpret it, and for which machine it is.
//!
//! The files are the container's: whatever they say is no more than a word in a message.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The interpreter that a script or an ELF file asks for.
pub(super) fn interpreter(path: &Path) -> Option<PathBuf> {
    let file = File::open(path).ok()?;
    let mut head = [0; 4096];
    let n = file.read_at(&mut head, 0).ok()?;
    let head = &head[..n];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?;
        // Only these separate it from its argument: a carriage return is a part of its name.
        let mut words = line.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
        let name = words.next()?;
        return Some(PathBuf::from(OsString::from_vec(name.to_vec())));
    }
    const PT_INTERP: u32 = 3;
    let headers = ElfHeaders::read(head)?;
    for i in 0..headers.count.min(64) {
        let at = headers.offset.checked_add(i.checked_mul(headers.size)?)?;
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry[..headers.size.min(56) as usize], at).ok()?;
        if u32::from_le_bytes(entry[..4].try_into().ok()?) == PT_INTERP {
            let (offset, size) = match headers.wide {
                true => (u64_at(&entry, 8)?, u64_at(&entry, 32)?),
                false => (u32_at(&entry, 4)?.into(), u32_at(&entry, 16)?.into()),
            };
            let mut name = vec![0; size.min(4096) as usize];
            file.read_exact_at(&mut name, offset).ok()?;
            name.truncate(name.iter().position(|b| *b == 0)?);
            return Some(PathBuf::from(OsString::from_vec(name)));
        }
    }
    None
}

struct ElfHeaders {
    wide: bool,
    offset: u64,
    size: u64,
    count: u64,
}

impl ElfHeaders {
    fn read(head: &[u8]) -> Option<Self> {
        const LITTLE_ENDIAN: u8 = 1;
        if !head.starts_with(b"\x7fELF") || *head.get(5)? != LITTLE_ENDIAN {
            return None;
        }
        let wide = *head.get(4)? == 2;
        let (offset, size, count) = match wide {
            true => (u64_at(head, 32)?, u16_at(head, 54)?, u16_at(head, 56)?),
            false => (u32_at(head, 28)?.into(), u16_at(head, 42)?, u16_at(head, 44)?),
        };
        (size >= 32).then_some(Self { wide, offset, size: size.into(), count: count.into() })
    }
}

/// The architecture of an ELF file.
pub(super) fn architecture(path: &Path) -> Option<String> {
    let mut head = [0; 20];
    File::open(path).ok()?.read_exact_at(&mut head, 0).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    Some(match u16_at(&head, 18)? {
        3 => "x86".to_owned(),
        20 | 21 => "PowerPC".to_owned(),
        22 => "s390x".to_owned(),
        40 => "32-bit ARM".to_owned(),
        62 => "x86-64".to_owned(),
        183 => "64-bit ARM".to_owned(),
        243 => "RISC-V".to_owned(),
        258 => "LoongArch".to_owned(),
        other => format!("another architecture (ELF machine {other})"),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_of_an_elf_file_is_found() {
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let interpreter = interpreter(&shell).unwrap();
        assert!(interpreter.to_string_lossy().contains("ld"), "{interpreter:?}");
    }
}
