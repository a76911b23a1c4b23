// SPDX-License-Identifier: Apache-2.0
//! criu's requests and responses (its `rpc.proto`), as data and as bytes.

use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::wire::{self, Value, Writer};

/// What is asked of criu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Writes the images of a process tree, and ends it unless told otherwise.
    Dump(Options),
    /// Writes the memory only, which keeps on changing.
    PreDump(Options),
    /// Makes the process tree of images.
    Restore(Options),
    /// Which features criu has with this kernel.
    Features,
    /// Which version criu is.
    Version,
    /// Goes on after a notification.
    Noted,
    /// Gives up after a notification.
    Refused,
}

/// `criu_opts`: the fields that a container needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) images_dir: RawFd,
    pub(super) work_dir: Option<RawFd>,
    pub(super) pid: Option<i32>,
    pub(super) root: PathBuf,
    pub(super) parent_images: Option<PathBuf>,
    pub(super) log_file: &'static str,
    pub(super) config_file: Option<String>,
    pub(super) flags: Vec<(Flag, bool)>,
    pub(super) cgroups_mode: i32,
    pub(super) cgroup_roots: Vec<(String, String)>,
    pub(super) cgroup_yard: Option<PathBuf>,
    pub(super) freeze_cgroup: Option<PathBuf>,
    pub(super) empty_namespaces: u32,
    /// Mount points and what criu knows them by; on restore what it knows them by, and their sources.
    pub(super) external_mounts: Vec<(PathBuf, PathBuf)>,
    pub(super) external: Vec<String>,
    pub(super) inherit: Vec<(String, RawFd)>,
    pub(super) join_namespaces: Vec<(&'static str, PathBuf)>,
    pub(super) page_server: Option<(String, u16)>,
    pub(super) status_fd: Option<RawFd>,
    pub(super) network_lock: Option<i32>,
    pub(super) lsm_profile: Option<String>,
    pub(super) lsm_mount_context: Option<String>,
}

/// The booleans among criu's options, by the numbers of their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    LeaveRunning = 3,
    ExternalUnixSockets = 4,
    TcpEstablished = 5,
    EvasiveDevices = 6,
    ShellJob = 7,
    FileLocks = 8,
    TrackMemory = 15,
    AutoDedup = 16,
    LinkRemap = 18,
    RestoreSibling = 26,
    TcpSkipInFlight = 46,
    LazyPages = 48,
    TcpClose = 52,
}

impl Request {
    /// The bytes of the message.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        let (kind, options) = match self {
            Self::Dump(options) => (kind::DUMP, Some(options)),
            Self::Restore(options) => (kind::RESTORE, Some(options)),
            Self::PreDump(options) => (kind::PRE_DUMP, Some(options)),
            Self::Noted | Self::Refused => (kind::NOTIFY, None),
            Self::Features => (kind::FEATURE_CHECK, None),
            Self::Version => (kind::VERSION, None),
        };
        to.int(1, kind.into());
        if let Some(options) = options {
            to.message(2, |to| options.write(to));
        }
        match self {
            Self::Noted => to.bool(3, true),
            Self::Refused => to.bool(3, false),
            Self::Features => to.message(5, |features| {
                features.bool(1, true);
                features.bool(2, true);
            }),
            _ => {}
        }
        to.finish()
    }
}

/// `criu_req_type`.
mod kind {
    pub(super) const DUMP: i32 = 1;
    pub(super) const RESTORE: i32 = 2;
    pub(super) const PRE_DUMP: i32 = 4;
    pub(super) const NOTIFY: i32 = 6;
    pub(super) const FEATURE_CHECK: i32 = 9;
    pub(super) const VERSION: i32 = 10;
}

impl Options {
    /// Sets a flag; one that is set to false stands over the machine's configuration of criu, one that is not
    /// set does not.
    pub(super) fn set(&mut self, flag: Flag, value: bool) {
        self.flags.push((flag, value));
    }

    fn write(&self, to: &mut Writer) {
        const LOG_EVERYTHING: i64 = 4;
        let path = |path: &PathBuf| path.as_os_str().as_bytes().to_owned();
        to.int(1, self.images_dir.into());
        self.pid.inspect(|pid| to.int(2, (*pid).into()));
        for (flag, value) in &self.flags {
            to.bool(*flag as u32, *value);
        }
        to.int(9, LOG_EVERYTHING);
        to.bytes(10, self.log_file.as_bytes());
        if let Some((address, port)) = &self.page_server {
            to.message(11, |server| {
                server.bytes(1, address.as_bytes());
                server.int(2, (*port).into());
            });
        }
        to.bool(12, true); // notify_scripts
        to.bytes(13, &path(&self.root));
        self.parent_images.as_ref().inspect(|parent| to.bytes(14, &path(parent)));
        self.work_dir.inspect(|dir| to.int(17, (*dir).into()));
        for (key, value) in &self.external_mounts {
            to.message(23, |mount| {
                mount.bytes(1, &path(key));
                mount.bytes(2, &path(value));
            });
        }
        to.bool(24, true); // manage_cgroups; the mode below says how
        for (controller, root) in &self.cgroup_roots {
            to.message(25, |cgroup| {
                cgroup.bytes(1, controller.as_bytes());
                cgroup.bytes(2, root.as_bytes());
            });
        }
        for (key, fd) in &self.inherit {
            to.message(27, |inherited| {
                inherited.bytes(1, key.as_bytes());
                inherited.int(2, (*fd).into());
            });
        }
        to.int(34, self.cgroups_mode.into());
        for external in &self.external {
            to.bytes(37, external.as_bytes());
        }
        to.int(38, self.empty_namespaces.into());
        for (kind, file) in &self.join_namespaces {
            to.message(39, |namespace| {
                namespace.bytes(1, kind.as_bytes());
                namespace.bytes(2, &path(file));
            });
        }
        self.freeze_cgroup.as_ref().inspect(|cgroup| to.bytes(44, &path(cgroup)));
        self.status_fd.inspect(|fd| to.int(49, (*fd).into()));
        to.bool(50, true); // orphan_pts_master: the container's terminal, whose master is with the caller
        self.config_file.as_ref().inspect(|file| to.bytes(51, file.as_bytes()));
        self.lsm_profile.as_ref().inspect(|profile| to.bytes(53, profile.as_bytes()));
        self.cgroup_yard.as_ref().inspect(|yard| to.bytes(60, &path(yard)));
        self.lsm_mount_context.as_ref().inspect(|context| to.bytes(63, context.as_bytes()));
        self.network_lock.inspect(|method| to.int(64, (*method).into()));
    }
}

/// What criu answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) success: bool,
    /// A point in the work that the caller may do something at; it is to be answered.
    pub(super) notification: Option<Notification>,
    /// The first process that was restored.
    pub(super) pid: Option<i32>,
    pub(super) errno: i32,
    pub(super) message: Option<String>,
    pub(super) memory_tracking: bool,
    pub(super) lazy_pages: bool,
    pub(super) version: Version,
}

/// A version of criu.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) i32, pub(super) i32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A notification: its name, and the first process where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) script: String,
    pub(super) pid: i32,
}

impl Response {
    /// Reads a message. `None`: it is none.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        for (field, value) in wire::fields(message)? {
            match field {
                2 => response.success = value.int() != 0,
                4 => response.pid = find(value, 1)?.map(Value::int),
                5 => {
                    let script = find(value, 1)?.map(Value::text).unwrap_or_default();
                    let pid = find(value, 2)?.map(Value::int).unwrap_or_default();
                    response.notification = Some(Notification { script, pid });
                }
                7 => response.errno = value.int(),
                8 => {
                    response.memory_tracking = find(value, 1)?.is_some_and(|on| on.int() != 0);
                    response.lazy_pages = find(value, 2)?.is_some_and(|on| on.int() != 0);
                }
                9 => response.message = Some(value.text()),
                10 => {
                    let number = |field| Some(find(value, field)?.map(Value::int).unwrap_or_default());
                    response.version = Version(number(1)?, number(2)?);
                }
                _ => {}
            }
        }
        Some(response)
    }
}

// The last one counts, as the specification of the format says.
fn find(message: Value<'_>, wanted: u32) -> Option<Option<Value<'_>>> {
    let fields = wire::fields(message.bytes())?;
    Some(fields.into_iter().rev().find(|(field, _)| *field == wanted).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(message: &[u8], wanted: u32) -> Vec<Value<'_>> {
        let all = wire::fields(message).unwrap().into_iter();
        all.filter(|(field, _)| *field == wanted).map(|(_, value)| value).collect()
    }

    #[test]
    fn every_option_goes_into_its_field() {
        let options = Options {
            images_dir: 7,
            work_dir: Some(8),
            pid: Some(99),
            root: "/r".into(),
            parent_images: Some("../p".into()),
            log_file: "dump.log",
            config_file: Some("/c".into()),
            flags: vec![(Flag::LeaveRunning, true), (Flag::TcpClose, false)],
            cgroups_mode: 4,
            cgroup_roots: vec![(String::new(), "/x".into())],
            cgroup_yard: Some("/y".into()),
            freeze_cgroup: Some("/sys/fs/cgroup/x".into()),
            empty_namespaces: 0x4000_0000,
            external_mounts: vec![("/a".into(), "/b".into())],
            external: vec!["net[1]:k".into()],
            inherit: vec![("pipe:[5]".into(), 1)],
            join_namespaces: vec![("ipc", "/i".into())],
            page_server: Some(("127.0.0.1".into(), 27000)),
            status_fd: Some(9),
            network_lock: Some(2),
            lsm_profile: Some("apparmor:x".into()),
            lsm_mount_context: Some("c".into()),
        };
        let request = Request::Dump(options).encode();
        assert_eq!(values(&request, 1), [Value::Int(1)]);
        let message = values(&request, 2)[0].bytes();
        let ints = [(1, 7), (2, 99), (3, 1), (9, 4), (12, 1), (17, 8), (24, 1), (34, 4), (38, 0x4000_0000), (49, 9)];
        for (field, value) in ints.into_iter().chain([(50, 1), (52, 0), (64, 2)]) {
            assert_eq!(values(message, field), [Value::Int(value)], "{field}");
        }
        let texts = [(10, "dump.log"), (13, "/r"), (14, "../p"), (37, "net[1]:k"), (44, "/sys/fs/cgroup/x")];
        for (field, text) in texts.into_iter().chain([(51, "/c"), (60, "/y"), (53, "apparmor:x"), (63, "c")]) {
            assert_eq!(values(message, field), [Value::Bytes(text.as_bytes())], "{field}");
        }
        let pairs: [(u32, &[u8]); 5] = [
            (11, b"\x0a\x09127.0.0.1\x10\xf8\xd2\x01"),
            (23, b"\x0a\x02/a\x12\x02/b"),
            (25, b"\x0a\x00\x12\x02/x"),
            (27, b"\x0a\x08pipe:[5]\x10\x01"),
            (39, b"\x0a\x03ipc\x12\x02/i"),
        ];
        for (field, bytes) in pairs {
            assert_eq!(values(message, field), [Value::Bytes(bytes)], "{field}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_sent() {
        let request = Request::Restore(Options::default()).encode();
        let message = values(&request, 2)[0].bytes();
        let sent: Vec<u32> = wire::fields(message).unwrap().into_iter().map(|(field, _)| field).collect();
        assert_eq!(sent, [1, 9, 10, 12, 13, 24, 34, 38, 50]);
        assert_eq!(Request::Noted.encode(), b"\x08\x06\x18\x01");
        assert_eq!(Request::Refused.encode(), b"\x08\x06\x18\x00");
        assert_eq!(Request::Version.encode(), b"\x08\x0a");
        assert_eq!(Request::Features.encode(), b"\x08\x09\x2a\x04\x08\x01\x10\x01");
    }

    #[test]
    fn responses_are_read() {
        let notify = Response::decode(b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x05").unwrap();
        assert_eq!(notify.notification, Some(Notification { script: "post-restore".into(), pid: 5 }));
        assert!(notify.success);
        let restored = Response::decode(b"\x08\x02\x10\x01\x22\x03\x08\x96\x01").unwrap();
        assert_eq!((restored.pid, restored.success), (Some(150), true));
        let failed = Response::decode(b"\x08\x01\x10\x00\x38\x0d\x4a\x03why").unwrap();
        assert_eq!((failed.success, failed.errno, failed.message.as_deref()), (false, 13, Some("why")));
        let version = Response::decode(b"\x08\x0a\x10\x01\x52\x06\x08\x03\x10\x11\x20\x01").unwrap().version;
        assert!(version == Version(3, 17) && version > Version(3, 9));
        let features = Response::decode(b"\x08\x09\x10\x01\x42\x04\x08\x01\x10\x00").unwrap();
        assert!(features.memory_tracking && !features.lazy_pages);
        assert_eq!(Response::decode(b"\x2a\x10\x0a"), None);
        assert_eq!(Response::decode(b"\x2a\x02\x0a\x09"), None);
    }
}
