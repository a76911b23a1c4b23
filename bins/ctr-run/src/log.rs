// SPDX-License-Identifier: Apache-2.0
//! Messages as runc's callers read them: in the log as text or JSON, and on standard error.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use ctr_cli::{Error, tell};
use ctr_record::Timestamp;
use serde_json::json;

use crate::args::Global;
use crate::called;

/// Where messages go besides standard error, and in which form.
#[derive(Debug, Default)]
pub(crate) struct Log {
    target: Option<Target>,
    json: bool,
    debug: bool,
}

/// What `--log` names: a file, or as crun has it `file:PATH`, `journald:NAME` or `syslog:NAME`.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    File(PathBuf),
    Journal(String),
    Syslog(String),
}

/// How bad a message is: its name, and its number in syslog and the journal.
type Level = (&'static str, u8);

const ERROR: Level = ("error", 3);
const DEBUG: Level = ("debug", 7);

impl Log {
    /// The log that the global options ask for.
    pub(crate) fn new(global: &Global) -> Self {
        let debug = global.debug || global.log_level.as_deref() == Some("debug");
        Self { target: global.log.clone().map(Target::parse), json: global.log_format == "json", debug }
    }

    /// The log that a command line asks for which makes no sense otherwise.
    pub(crate) fn among(words: &[OsString]) -> Self {
        let mut log = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let bytes = word.as_bytes();
            let option = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).unwrap_or_default();
            let mut value = |name: &[u8]| match option.strip_prefix(name)? {
                [] => words.next().cloned(),
                [b'=', value @ ..] => Some(OsString::from_vec(value.to_vec())),
                _ => None,
            };
            if let Some(form) = value(b"log-format") {
                log.json = form == "json";
            } else if let Some(target) = value(b"log") {
                log.target = Some(Target::parse(target.into()));
            }
        }
        log
    }

    /// Reports a failure. The log gets one entry (podman reads exactly one object), and standard error one
    /// line: as runc writes it to whoever called the program by that name.
    pub(crate) fn report(&self, error: &Error) {
        let line = error.to_line();
        self.write(ERROR, &line);
        match called::as_runc() {
            true => tell(&self.line(ERROR, &line)),
            false => drop(ctr_cli::render("ctr-run", error)),
        }
    }

    /// Has everything told that is done from here on, if that is asked for.
    pub(crate) fn follow(self) {
        if self.debug {
            ctr_runtime::progress::listen(move |message| self.debug(|| message));
        }
    }

    /// Says what is done, if that is asked for.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            let message = message();
            self.write(DEBUG, &message);
            if self.target.is_none() {
                tell(&self.line(DEBUG, &message));
            }
        }
    }

    fn write(&self, level: Level, message: &str) {
        let Some(target) = &self.target else { return };
        let written = match target {
            Target::File(path) => File::options()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .and_then(|mut file| file.write_all((self.line(level, message) + "\n").as_bytes())),
            Target::Journal(name) => {
                let entry = format!("MESSAGE={message}\nPRIORITY={}\nSYSLOG_IDENTIFIER={name}\n", level.1);
                send("/run/systemd/journal/socket", &entry)
            }
            Target::Syslog(name) => {
                const DAEMON: u8 = 3 << 3; // the facility
                send("/dev/log", &format!("<{}>{name}[{}]: {message}", DAEMON | level.1, std::process::id()))
            }
        };
        if let Err(failed) = written {
            tell(&format!("ctr-run: unable to write {target}: {failed}"));
        }
    }

    fn line(&self, (level, _): Level, message: &str) -> String {
        let time = Timestamp::now();
        match self.json {
            true => json!({"level": level, "msg": message, "time": time}).to_string(),
            false => format!("time=\"{time}\" level={level} msg={message:?}"),
        }
    }
}

fn send(socket: &str, entry: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(entry.as_bytes(), socket).map(drop)
}

impl Target {
    fn parse(path: PathBuf) -> Self {
        let name = |name: &str| if name.is_empty() { "ctr-run".to_owned() } else { name.to_owned() };
        match path.to_str().and_then(|text| text.split_once(':')) {
            Some(("file", path)) => Self::File(path.into()),
            Some(("journald", rest)) => Self::Journal(name(rest)),
            Some(("syslog", rest)) => Self::Syslog(name(rest)),
            _ => Self::File(path),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "the log {}", path.display()),
            Self::Journal(_) => f.write_str("to the journal"),
            Self::Syslog(_) => f.write_str("to syslog"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_a_file_unless_it_says_otherwise() {
        let target = |text: &str| Target::parse(text.into());
        assert_eq!(target("/a:b/c"), Target::File("/a:b/c".into()));
        assert_eq!(target("file:/x"), Target::File("/x".into()));
        assert_eq!(target("journald:web"), Target::Journal("web".into()));
        assert_eq!(target("syslog:"), Target::Syslog("ctr-run".into()));
    }

    #[test]
    fn the_log_of_a_senseless_line_is_found() {
        let log = |line: &str| Log::among(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in
            ["c --log /x --log-format json run", "c -log=/x -log-format=json run -nope", "c --log /x --log-format=json"]
        {
            let log = log(line);
            assert_eq!((log.target, log.json), (Some(Target::File("/x".into())), true), "{line}");
        }
        assert_eq!(log("c --log-level debug --logs").target, None);
    }
}
