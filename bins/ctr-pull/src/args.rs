// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::io::Read;
use std::path::PathBuf;

use clap::Parser;
use ctr_cli::{Context, Error, StateArgs, read_lines};
use ctr_record::Platform;

const PASSWORD_LIMIT: u64 = 64 * 1024;

/// Brings images into the content store and prints a record of each.
#[derive(Debug, Parser)]
#[command(name = "ctr-pull", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Platform to choose from images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// Certificate authority (PEM) to trust besides the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Vec<PathBuf>,
    /// Speak plain http to every registry, not only to those on this machine
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Login for the registry, in place of those in auth.json and config.json
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    user: Option<String>,
    /// Read the password of --user from standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// Layers to fetch at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// References, oci:DIR[:REF], or - for standard input, one reference or record a line
    #[arg(value_name = "REF")]
    references: Vec<String>,
}

impl Args {
    /// What is to be pulled, one reference or record each.
    pub(crate) fn lines(&self) -> Result<Box<dyn Iterator<Item = Result<String, Error>>>, Error> {
        if !self.reads_stdin() {
            return Ok(Box::new(self.references.clone().into_iter().map(Ok)));
        }
        if self.password_stdin {
            return Err(Error::misuse("--password-stdin leaves no standard input to read references from"));
        }
        let stdin = read_lines("a reference or a record")?;
        let stdin = stdin.filter(|line| !line.as_ref().is_ok_and(|line| line.trim_start().starts_with('#')));
        let (before, after) = match self.references.iter().position(|reference| reference == "-") {
            None => (Vec::new(), Vec::new()),
            Some(at) => (self.references[..at].to_vec(), self.references[at + 1..].to_vec()),
        };
        if after.iter().any(|reference| reference == "-") {
            return Err(Error::misuse("standard input can be read only once"));
        }
        Ok(Box::new(before.into_iter().map(Ok).chain(stdin).chain(after.into_iter().map(Ok))))
    }

    fn reads_stdin(&self) -> bool {
        self.references.is_empty() || self.references.iter().any(|reference| reference == "-")
    }

    /// The name and password to log in with.
    pub(crate) fn login(&self) -> Result<Option<(String, String)>, Error> {
        let Some(user) = &self.user else { return Ok(None) };
        match (user.split_once(':'), self.password_stdin) {
            (Some(_), true) => {
                Err(Error::misuse("--user has a password in it already; --password-stdin gives another"))
            }
            (Some((name, password)), false) => Ok(Some((name.to_owned(), password.to_owned()))),
            (None, true) => {
                let mut password = String::new();
                let stdin = std::io::stdin().lock();
                stdin.take(PASSWORD_LIMIT).read_to_string(&mut password).unable_to(|| "read the password")?;
                Ok(Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
            }
            (None, false) => Err(Error::misuse("--user without a password needs --password-stdin")),
        }
    }
}
