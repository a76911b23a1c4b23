// SPDX-License-Identifier: Apache-2.0
//! Finding the container's program, and saying why it cannot be executed in words that help.
//!
//! The kernel's answer for a missing interpreter is that the program does not exist, and for another
//! architecture that its format is wrong. All of it runs inside the container, on the container's files.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::launch::variable;
use crate::report::InitFailure;

/// Not found, as shells have it.
const NOT_FOUND: u8 = 127;
/// Found, but not to be executed.
const NOT_EXECUTABLE: u8 = 126;

/// The path of a program: itself if it has a slash, else the first one in the container's `PATH`.
pub(crate) fn find_program(name: &CStr, env: &[CString]) -> Result<CString, InitFailure> {
    let shown = name.to_string_lossy();
    if name.to_bytes().contains(&b'/') {
        return match refusal(Path::new(OsStr::from_bytes(name.to_bytes()))) {
            None => Ok(name.to_owned()),
            Some((status, why)) => Err(failure(&shown, status, &why)),
        };
    }
    let mut worst = None;
    // An empty entry is the working directory; an empty path has no entries.
    let path = variable(env, "PATH").filter(|path| !path.is_empty());
    for directory in path.into_iter().flat_map(|path| path.split(|b| *b == b':')) {
        let directory: &[u8] = if directory.is_empty() { b"." } else { directory };
        let path = Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name.to_bytes()));
        match refusal(&path) {
            None => return Ok(c_path(&path)),
            Some((NOT_EXECUTABLE, why)) => worst = Some(why),
            Some(_) => {}
        }
    }
    Err(match worst {
        Some(why) => failure(&shown, NOT_EXECUTABLE, &why),
        None => failure(&shown, NOT_FOUND, "executable file not found in $PATH"),
    })
}

// Why a path is no program, if it is none.
fn refusal(path: &Path) -> Option<(u8, String)> {
    match std::fs::metadata(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Some((NOT_FOUND, "stat: no such file or directory".to_owned()))
        }
        Err(error) => Some((NOT_EXECUTABLE, format!("stat: {}", lower(&error)))),
        Ok(metadata) if metadata.is_dir() => Some((NOT_EXECUTABLE, "is a directory".to_owned())),
        Ok(metadata) if metadata.mode() & 0o111 == 0 || access(path, AccessFlags::X_OK).is_err() => {
            Some((NOT_EXECUTABLE, "permission denied".to_owned()))
        }
        Ok(_) => None,
    }
}

/// What an execve that failed means.
pub(crate) fn exec_failure(program: &CStr, error: &io::Error) -> InitFailure {
    let path = Path::new(OsStr::from_bytes(program.to_bytes()));
    let shown = program.to_string_lossy();
    match error.raw_os_error() {
        Some(libc::ENOENT) => match interpreter(path) {
            Some(missing) if std::fs::metadata(&missing).is_err() => {
                let why = format!("not found in the container (its interpreter {} is missing)", missing.display());
                failure(&shown, NOT_FOUND, &format!("no such file or directory: {why}"))
            }
            _ => failure(&shown, NOT_FOUND, "no such file or directory"),
        },
        Some(libc::ENOEXEC) => {
            let why = match architecture(path) {
                Some(other) => format!("exec format error: it is a program for {other}"),
                None => "exec format error: it is neither a program nor a script with #!".to_owned(),
            };
            failure(&shown, NOT_EXECUTABLE, &why)
        }
        Some(libc::EACCES) => {
            let noexec = nix::sys::statvfs::statvfs(path)
                .is_ok_and(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC));
            let why = if noexec { "permission denied: it is on a mount with noexec" } else { "permission denied" };
            failure(&shown, NOT_EXECUTABLE, why)
        }
        _ => failure(&shown, NOT_EXECUTABLE, &lower(error)),
    }
}

fn failure(program: &str, status: u8, why: &str) -> InitFailure {
    InitFailure { step: format!("exec: {program:?}: {why}"), errno: None, exec_status: status }
}

fn lower(error: &io::Error) -> String {
    let text = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc();
    text[..1].to_ascii_lowercase() + &text[1..]
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("made of C strings")
}

// The interpreter that a script or an ELF file asks for.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let file = File::open(path).ok()?;
    let mut head = [0; 4096];
    let n = file.read_at(&mut head, 0).ok()?;
    let head = &head[..n];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?.trim_ascii();
        let name = line.split(|b| b.is_ascii_whitespace()).next()?;
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

// The architecture of an ELF file that is not this machine's.
fn architecture(path: &Path) -> Option<String> {
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

    fn scratch(name: &str, content: &[u8], mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("ctr-explain-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn failed(path: &Path, errno: i32) -> InitFailure {
        exec_failure(&c_path(path), &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let path = scratch("script", b"#! /no/such/shell -e\n", 0o755);
        let failure = failed(&path, libc::ENOENT);
        assert!(failure.step.contains("its interpreter /no/such/shell is missing"), "{failure}");
        assert_eq!(failure.exec_status, 127);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_interpreter_of_an_elf_file_is_found() {
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let interpreter = interpreter(&shell).unwrap();
        assert!(interpreter.to_string_lossy().contains("ld"), "{interpreter:?}");
    }

    #[test]
    fn another_architecture_is_named() {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        let path = scratch("elf", &elf, 0o755);
        assert!(failed(&path, libc::ENOEXEC).step.contains("64-bit ARM"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_program_is_looked_up_in_the_containers_path() {
        let env = [c"PATH=/no/such:/bin:/usr/bin".to_owned()];
        assert_eq!(find_program(c"sh", &env).unwrap(), c"/bin/sh".to_owned());
        for empty in [&[][..], &[c"PATH=".to_owned()]] {
            assert_eq!(find_program(c"src", empty).unwrap_err().exec_status, 127); // here, but not looked for here
        }
        let missing = find_program(c"no-such-program", &env).unwrap_err();
        assert_eq!(missing.step, "exec: \"no-such-program\": executable file not found in $PATH");
        let file = scratch("plain", b"x", 0o644);
        let denied = find_program(&c_path(&file), &env).unwrap_err();
        assert_eq!((denied.exec_status, denied.step.contains("permission denied")), (126, true));
        std::fs::remove_file(file).unwrap();
    }
}
