// SPDX-License-Identifier: Apache-2.0
//! criu's log, as far as it says why something failed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How much of the log's end is read: its errors are there.
const TAIL: u64 = 256 << 10;
/// How many of its errors are told.
const ERRORS: usize = 3;

/// The last errors of a log in criu's work directory; `None`: there is none, or it has no errors.
pub(super) fn last_errors(work: BorrowedFd<'_>, name: &str) -> Option<String> {
    let text = read_tail(work, name).ok()?;
    let errors = errors_in(&text);
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// Clears the way for criu's log: an older one would be taken for it where criu comes to write none, and it is
/// not to go to where a link of the images leads.
pub(super) fn remove(work: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match unlinkat(work, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn read_tail(work: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(work, name, flags, Mode::empty())?);
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// `(00.123456) Error (criu/mount.c:1): …`, and in the restored process `(00.123456)      1: Error (…`. The last one
// of all says only that it failed, and those without a cause before it are worth more.
fn errors_in(log: &str) -> Vec<&str> {
    let message = |line: &'_ str| line.find("Error (").map(|start| start + "Error (".len());
    let error = |line| message(line).and_then(|start| line[start..].split_once("): ")).map(|(_, text)| text.trim());
    let all: Vec<&str> = log.lines().filter_map(error).filter(|text| !text.is_empty()).collect();
    let is_summary = |text: &&str| text.ends_with("FAILED.");
    let causes: Vec<&str> = all.iter().copied().filter(|text| !is_summary(text)).collect();
    let told = if causes.is_empty() { all } else { causes };
    told[told.len().saturating_sub(ERRORS)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_are_told_without_times_and_summary() {
        let log = "(00.01) Version: 3.17.1\n(02.22) Error (criu/tun.c:85): tun: Unable to create tun\n\
                   (04.31)  1: Error (criu/a.c:1): one\n(04.32) Error (criu/b.c:2): two (file): x\n\
                   pie: 1: Error (criu/c.c:3): three\n(05.12) Error (criu/cr-dump.c:2053): Dumping FAILED.\n";
        assert_eq!(errors_in(log), ["one", "two (file): x", "three"]);
        assert_eq!(errors_in("(05.12) Error (criu/cr-dump.c:2053): Dumping FAILED.\n"), ["Dumping FAILED."]);
        assert!(errors_in("(00.1) fine\nError\nError (\nError (x): \n").is_empty());
    }

    #[test]
    fn a_log_that_is_a_link_is_neither_read_nor_kept() {
        let path = std::env::temp_dir().join(format!("ctr-criu-log-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("secret"), "(0) Error (x): secret\n").unwrap();
        std::os::unix::fs::symlink("secret", path.join("restore.log")).unwrap();
        let dir = File::open(&path).unwrap();
        let dir = std::os::fd::AsFd::as_fd(&dir);
        assert_eq!(last_errors(dir, "restore.log"), None);
        remove(dir, "restore.log").unwrap();
        assert!(!path.join("restore.log").is_symlink());
        assert_eq!(last_errors(dir, "secret").as_deref(), Some("secret"));
        remove(dir, "restore.log").unwrap();
        remove(dir, "secret").unwrap();
        assert_eq!(last_errors(dir, "secret"), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
