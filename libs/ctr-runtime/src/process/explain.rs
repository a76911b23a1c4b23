// SPDX-License-Identifier: Apache-2.0
//! Finding the container's program, and saying why it cannot be executed in words that help.
//!
//! The kernel's answer for a missing interpreter is that the program does not exist, and for another
//! architecture that its format is wrong. All of it runs inside the container, on the container's files.

mod format;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, faccessat};

use crate::process::launch::variable;
use crate::process::report::{InitFailure, describe};

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
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let dangling = std::fs::read_link(path).ok();
            let why = dangling.map(|target| format!(": it is a symbolic link to {}", target.display()));
            return Some((NOT_FOUND, format!("stat: no such file or directory{}", why.unwrap_or_default())));
        }
        Err(error) => return Some((NOT_EXECUTABLE, format!("stat: {}", lower(&error)))),
    };
    let why = if metadata.is_dir() {
        "is a directory".to_owned()
    } else if metadata.mode() & 0o111 == 0 {
        format!("permission denied: it is not executable (mode {:04o})", metadata.mode() & 0o7777)
    } else if may_execute(path) {
        return None;
    } else if is_on_noexec(path) {
        "permission denied: it is on a mount with noexec".to_owned()
    } else {
        let (mode, owner, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        let user = nix::unistd::geteuid();
        format!("permission denied: user {user} may not execute it (mode {mode:04o}, owner {owner}:{group})")
    };
    Some((NOT_EXECUTABLE, why))
}

// With the capabilities that it has, as execve will see it.
fn may_execute(path: &Path) -> bool {
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

fn is_on_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

/// What an execve that failed means.
pub(crate) fn exec_failure(program: &CStr, error: &io::Error) -> InitFailure {
    let path = Path::new(OsStr::from_bytes(program.to_bytes()));
    let (status, why) = match error.raw_os_error() {
        Some(libc::ENOENT) => (NOT_FOUND, format!("no such file or directory{}", missing_interpreter(path))),
        Some(libc::ENOEXEC) => (NOT_EXECUTABLE, format!("exec format error: {}", wrong_format(path))),
        Some(libc::EACCES) => (NOT_EXECUTABLE, denial(path)),
        Some(libc::ETXTBSY) => (NOT_EXECUTABLE, format!("{}: somebody has it open for writing", lower(error))),
        Some(libc::E2BIG) => (NOT_EXECUTABLE, format!("{}: the arguments or the environment", lower(error))),
        _ => (NOT_EXECUTABLE, lower(error)),
    };
    // Not as of one that is not found: callers tell the two apart by runc's quotes.
    InitFailure { step: format!("exec {}: {why}", program.to_string_lossy()), errno: None, exec_status: status }
}

// The program itself was there a moment ago.
fn missing_interpreter(path: &Path) -> String {
    let Some(interpreter) = format::interpreter(path) else { return String::new() };
    match (interpreter.as_os_str().as_bytes().strip_suffix(b"\r"), std::fs::metadata(&interpreter)) {
        (Some(name), Err(_)) => {
            let name = String::from_utf8_lossy(name);
            format!(": its #! line ends with a carriage return, so it asks for an interpreter {name:?} followed by one")
        }
        (None, Err(_)) => {
            format!(": not found in the container (its interpreter {} is missing)", interpreter.display())
        }
        (_, Ok(_)) => match format::interpreter(&interpreter).filter(|next| std::fs::metadata(next).is_err()) {
            Some(next) => {
                let (first, next) = (interpreter.display(), next.display());
                format!(": not found in the container (its interpreter {first} needs {next}, which is missing)")
            }
            None => String::new(),
        },
    }
}

fn wrong_format(path: &Path) -> String {
    let ours = format::architecture(Path::new("/proc/self/exe"));
    match format::architecture(path) {
        Some(other) if ours.as_ref() == Some(&other) => {
            "it is damaged, or for another version of this machine".to_owned()
        }
        Some(other) => format!(
            "it is a program for {other}{}",
            ours.map(|own| format!(", and this machine is {own}")).unwrap_or_default()
        ),
        None if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) => "it is empty".to_owned(),
        None => "it is neither a program nor a script with #!".to_owned(),
    }
}

// It was found to be executable, so it is the mount's fault, or that of what interprets it.
fn denial(path: &Path) -> String {
    if is_on_noexec(path) {
        return "permission denied: it is on a mount with noexec".to_owned();
    }
    let interpreter = format::interpreter(path);
    match interpreter.and_then(|interpreter| refusal(&interpreter).map(|(_, why)| (interpreter, why))) {
        Some((interpreter, why)) => format!("permission denied: its interpreter {}: {why}", interpreter.display()),
        None => "permission denied".to_owned(),
    }
}

fn failure(program: &str, status: u8, why: &str) -> InitFailure {
    InitFailure { step: format!("exec: {program:?}: {why}"), errno: None, exec_status: status }
}

fn lower(error: &io::Error) -> String {
    describe(error.raw_os_error().unwrap_or(0))
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("made of C strings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

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
    fn a_carriage_return_is_told() {
        let path = scratch("windows", b"#!/bin/sh\r\ntrue\r\n", 0o755);
        let failure = failed(&path, libc::ENOENT);
        assert!(failure.step.contains("\"/bin/sh\"") && failure.step.contains("carriage return"), "{failure}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_interpreter_that_cannot_be_executed_is_told() {
        let interpreter = scratch("interpreter", b"x", 0o644);
        let path = scratch("denied", format!("#!{}\n", interpreter.display()).as_bytes(), 0o755);
        let failure = failed(&path, libc::EACCES);
        let shown =
            format!("its interpreter {}: permission denied: it is not executable (mode 0644)", interpreter.display());
        assert!(failure.step.contains(&shown), "{failure}");
        assert_eq!(failure.exec_status, 126);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(interpreter).unwrap();
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
