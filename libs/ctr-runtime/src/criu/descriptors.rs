// SPDX-License-Identifier: Apache-2.0
//! The container's standard streams, which lead outside: what they were at the checkpoint, and what takes
//! their place at the restore.
//!
//! `descriptors.json` beside the images is runc's and crun's: what descriptors 0 to 2 led to, of which the
//! pipes are replaced by those of the restore. `external.json` is ours: files that criu takes for external, and
//! the descriptor that replaces each; and the mount of the notify socket, which no config has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, major, minor};
use serde::{Deserialize, Serialize};

use crate::RuntimeError;

const DESCRIPTORS: &str = "descriptors.json";
const EXTERNAL: &str = "external.json";
/// In that, criu's name of the mount of the notify socket.
const NOTIFY: &str = "mnt[/run/notify]";
/// Three names of pipes or paths, and some more.
const MAX_SIZE: u64 = 64 << 10;
/// The first three descriptors.
pub(super) const STREAMS: usize = 3;

/// What takes the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Replacement {
    /// A standard stream of whoever restores.
    Stream(u8),
    /// The null device.
    Null,
    /// The directory of the container's own notify socket.
    Notify,
}

/// Where a container's open files lead that are outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// What 0, 1 and 2 of the first process led to; empty what is the container's own.
    pub(super) targets: Vec<String>,
    /// criu's names of files outside.
    pub(super) external: BTreeMap<String, Replacement>,
    /// It has a mount for a notify socket.
    pub(super) notifies: bool,
}

impl Descriptors {
    /// Looks at a container's processes, the first one first; `terminals`: those that are outside count, too.
    pub(super) fn of(pids: &[i32], terminals: bool) -> io::Result<Self> {
        let mut all = Self::default();
        let Some(first) = pids.first() else { return Ok(all) };
        let mounts = mounts_of(*first)?;
        let internal = pipes_of(pids);
        for (index, pid) in pids.iter().enumerate() {
            // Shells keep copies of their standard streams, while they redirect them, under any number.
            for fd in numbers_of(*pid) {
                // Closed, or the process has ended meanwhile.
                let Ok(open) = Open::look(*pid, fd) else { continue };
                let stream = u8::try_from(fd).ok().filter(|fd| usize::from(*fd) < STREAMS);
                let terminal = if terminals { open.terminal(&mounts, stream.unwrap_or(0)) } else { None };
                let external = || open.external(&mounts, stream.filter(|_| index == 0));
                if let Some((name, replacement)) = terminal.or_else(external) {
                    all.external.entry(name).or_insert(replacement);
                }
            }
        }
        let target = |fd| match Open::look(*first, fd) {
            Ok(open) if !internal.contains(&open.target) => open.target,
            _ => String::new(),
        };
        all.targets = (0..STREAMS as RawFd).map(target).collect();
        Ok(all)
    }

    /// Writes them to the directory of the images.
    pub(super) fn write(&self, images: BorrowedFd<'_>) -> Result<(), RuntimeError> {
        write(images, DESCRIPTORS, &self.targets)?;
        let mut external = self.external.clone();
        external.extend(self.notifies.then(|| (NOTIFY.to_owned(), Replacement::Notify)));
        write(images, EXTERNAL, &external)
    }

    /// Reads them. Checkpoints of other runtimes have no files outside.
    pub(super) fn read(images: BorrowedFd<'_>) -> Result<Self, RuntimeError> {
        let targets = read(images, DESCRIPTORS)?.ok_or_else(|| {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            RuntimeError::io("read the checkpoint's", DESCRIPTORS.as_ref())(missing)
        })?;
        let mut external: BTreeMap<_, _> = read(images, EXTERNAL)?.unwrap_or_default();
        let notifies = external.remove(NOTIFY) == Some(Replacement::Notify);
        Ok(Self { targets, external, notifies })
    }

    /// What criu finds under which number: `streams`, which take the standard streams' place, or `null`, which is
    /// an open null device.
    pub(super) fn inherited(&self, streams: [RawFd; STREAMS], null: RawFd) -> Vec<(String, RawFd)> {
        let targets = self.targets.iter().zip(streams);
        let pipes = targets.filter(|(target, _)| is_name_of(target, "pipe:[")).map(|(target, fd)| (target.clone(), fd));
        let files = self.external.iter().filter_map(|(name, replacement)| match replacement {
            _ if !is_name_of(name, "file[") && !is_name_of(name, "tty[") => None,
            Replacement::Stream(stream) => Some((name.clone(), *streams.get(usize::from(*stream))?)),
            Replacement::Null => Some((name.clone(), null)),
            Replacement::Notify => None,
        });
        pipes.chain(files).collect()
    }
}

// What comes from the images is not to be anything else that criu has a name for.
fn is_name_of(name: &str, prefix: &str) -> bool {
    let inner = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.len() < 40 && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
}

/// An open file of another process.
struct Open {
    target: String,
    metadata: fs::Metadata,
    mount: u32,
}

impl Open {
    fn look(pid: i32, fd: RawFd) -> io::Result<Self> {
        let path = format!("/proc/{pid}/fd/{fd}");
        let target = fs::read_link(&path)?.to_string_lossy().into_owned();
        let mount = info(pid, fd, "mnt_id:")?.and_then(|id| id.parse().ok()).unwrap_or(0);
        Ok(Self { target, metadata: fs::metadata(&path)?, mount })
    }

    // `stream`: which one of the first process' it is.
    fn external(&self, mounts: &BTreeSet<u32>, stream: Option<u8>) -> Option<(String, Replacement)> {
        let kind = self.metadata.file_type();
        let (number, memory_devices) = (self.metadata.rdev(), 1);
        let is_null = kind.is_char_device() && (major(number), minor(number)) == (memory_devices, 3);
        let replacement = match (is_null, stream.filter(|_| kind.is_file())) {
            _ if mounts.contains(&self.mount) => return None,
            (true, _) => Replacement::Null,
            (false, Some(stream)) => Replacement::Stream(stream),
            (false, None) => return None,
        };
        Some((format!("file[{:x}:{:x}]", self.mount, self.metadata.ino()), replacement))
    }

    // A terminal that is none of the container's own.
    fn terminal(&self, mounts: &BTreeSet<u32>, stream: u8) -> Option<(String, Replacement)> {
        let number = self.metadata.rdev();
        // Virtual and serial terminals, and the ends of pseudoterminals (the kernel's devices.txt).
        let is_terminal = self.metadata.file_type().is_char_device() && matches!(major(number), 4 | 136..=143);
        (is_terminal && !mounts.contains(&self.mount))
            .then(|| (format!("tty[{number:x}:{:x}]", self.metadata.dev()), Replacement::Stream(stream)))
    }
}

// In the order of their numbers.
fn numbers_of(pid: i32) -> BTreeSet<RawFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn info(pid: i32, fd: RawFd, name: &str) -> io::Result<Option<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))?;
    Ok(text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned())))
}

fn mounts_of(pid: i32) -> io::Result<BTreeSet<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect())
}

// The pipes whose both ends are in the container: they are restored with it.
fn pipes_of(pids: &[i32]) -> BTreeSet<String> {
    let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
    for pid in pids {
        for fd in numbers_of(*pid) {
            let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{fd}")) else { continue };
            let Some(target) = target.to_str().filter(|target| target.starts_with("pipe:")) else { continue };
            let flags = info(*pid, fd, "flags:").ok().flatten();
            match flags.and_then(|flags| i32::from_str_radix(&flags, 8).ok()).map(|flags| flags & libc::O_ACCMODE) {
                Some(libc::O_RDONLY) => drop(read.insert(target.to_owned())),
                Some(libc::O_WRONLY) => drop(written.insert(target.to_owned())),
                _ => {}
            }
        }
    }
    read.intersection(&written).cloned().collect()
}

fn write(images: BorrowedFd<'_>, name: &str, value: &impl Serialize) -> Result<(), RuntimeError> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let bytes = serde_json::to_vec(value).expect("string keys");
    let write = || -> io::Result<()> {
        let mut file = File::from(openat(images, name, flags, Mode::from_bits_truncate(0o600))?);
        file.write_all(&bytes)
    };
    write().map_err(RuntimeError::io("write the checkpoint's", name.as_ref()))
}

fn read<T: for<'a> Deserialize<'a>>(images: BorrowedFd<'_>, name: &str) -> Result<Option<T>, RuntimeError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let failed = || RuntimeError::io("read the checkpoint's", name.as_ref());
    let file = match openat(images, name, flags, Mode::empty()) {
        Err(nix::errno::Errno::ENOENT) => return Ok(None),
        result => File::from(result.map_err(|errno| failed()(errno.into()))?),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed())?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(failed()(io::ErrorKind::FileTooLarge.into()));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|source| RuntimeError::Json { path: name.into(), source })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn standard_streams_of_a_process_are_told_apart() {
        // No mount of it is in the "container", whose mounts are none.
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let open = Open::look(pid, 0).unwrap();
        let name = format!("file[{:x}:{:x}]", open.mount, open.metadata.ino());
        let found = open.external(&BTreeSet::new(), Some(0));
        let inside = open.external(&BTreeSet::from([open.mount]), Some(0));
        let descriptors = Descriptors::of(&[pid], false);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((found, inside), (Some((name, Replacement::Null)), None));
        let descriptors = descriptors.unwrap();
        assert_eq!(descriptors.targets[0], "/dev/null");
        assert!(descriptors.targets[1].starts_with("pipe:["), "{descriptors:?}");
    }

    #[test]
    fn a_pipe_with_both_ends_inside_is_not_replaced() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 100 | cat; true"]).stdout(Stdio::piped()).spawn().unwrap();
        let shell = child.id() as i32;
        let children = || -> Vec<i32> {
            let text = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
            text.split(' ').filter_map(|pid| pid.parse().ok()).collect()
        };
        let executed = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            matches!(name.trim(), "sleep" | "cat")
        };
        while children().iter().filter(|pid| executed(pid)).count() < 2 {
            std::thread::yield_now();
        }
        let inside = children();
        let pipes = pipes_of(&inside);
        for pid in inside {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        child.wait().unwrap();
        assert_eq!(pipes.len(), 1, "{pipes:?}");
    }

    #[test]
    fn what_images_say_replaces_nothing_but_standard_streams() {
        let dir = std::env::temp_dir().join(format!("ctr-criu-descriptors-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let images = File::open(&dir).unwrap();
        assert!(Descriptors::read(images.as_fd()).is_err());
        let text = r#"["pipe:[12]","extRootNetNS","/dev/null","pipe:[13]"]"#;
        fs::write(dir.join(DESCRIPTORS), text).unwrap();
        let external = r#"{"file[1a:2b]":{"stream":2},"file[1:3]":"null","file[1:4]":{"stream":3},"tty[8801:1a]":{"stream":1},
            "net[1]":"null"}"#;
        fs::write(dir.join(EXTERNAL), external).unwrap();
        let found = Descriptors::read(images.as_fd()).unwrap();
        let expected = [("pipe:[12]", 5), ("file[1:3]", 9), ("file[1a:2b]", 7), ("tty[8801:1a]", 6)];
        assert_eq!(found.inherited([5, 6, 7], 9), expected.map(|(name, fd)| (name.to_owned(), fd)));
        fs::remove_file(dir.join(EXTERNAL)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join(EXTERNAL)).unwrap();
        assert!(Descriptors::read(images.as_fd()).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = std::env::temp_dir().join(format!("ctr-criu-written-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let images = File::open(&dir).unwrap();
        let descriptors = Descriptors {
            targets: vec!["/dev/null".into(), "pipe:[1]".into(), String::new()],
            external: BTreeMap::from([("file[1:2]".into(), Replacement::Stream(1))]),
            notifies: true,
        };
        descriptors.write(images.as_fd()).unwrap();
        assert_eq!(Descriptors::read(images.as_fd()).unwrap(), descriptors);
        assert_eq!(fs::read_to_string(dir.join(DESCRIPTORS)).unwrap(), r#"["/dev/null","pipe:[1]",""]"#);
        fs::remove_dir_all(dir).unwrap();
    }
}
