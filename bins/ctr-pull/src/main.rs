// SPDX-License-Identifier: Apache-2.0
//! `ctr-pull`: brings images into the content store and prints a record of each.
//!
//! The only meeting place of the registry client and the store. Unpacking is left to `ctr-unpack`.

mod args;
mod layout;
mod origin;
mod progress;
mod pull;
mod request;
mod transfer;

use std::process::ExitCode;

use ctr_cli::{Context, Error, emit, render};
use ctr_record::{Platform, Record};
use ctr_store::StateDir;
use tokio::runtime::{Builder, Runtime};

use args::Args;
use origin::Registries;
use progress::Progress;
use pull::Puller;
use request::Request;

fn main() -> ExitCode {
    ctr_cli::run(pull_all)
}

fn pull_all(args: Args) -> Result<ExitCode, Error> {
    let lines = args.lines()?;
    let tool = Tool {
        registries: Registries::new(&args)?,
        runtime: Builder::new_current_thread().enable_all().build().unable_to(|| "begin")?,
        progress: Progress::new(args.quiet),
        args,
    };
    let mut code = ExitCode::SUCCESS;
    for line in lines {
        match line.and_then(|line| tool.pull(&line)) {
            Ok(record) => emit(&record)?,
            Err(error) => {
                let failed = render("ctr-pull", &error);
                code = if code == ExitCode::SUCCESS { failed } else { code };
            }
        }
    }
    // A failed pull may have left a thread that waits for another process.
    tool.runtime.shutdown_background();
    Ok(code)
}

struct Tool {
    args: Args,
    registries: Registries,
    runtime: Runtime,
    progress: Progress,
}

impl Tool {
    fn pull(&self, line: &str) -> Result<Record, Error> {
        let Request { source, pinned, platform, mut record } = Request::parse(line, &self.args.state)?;
        let platform = self.args.platform.clone().or(platform).unwrap_or_else(Platform::host);
        let image = self
            .runtime
            .block_on(async {
                let origin = self.registries.open(&source, pinned.as_ref(), &platform)?;
                let state = StateDir::open(&record.state_dir)?;
                let puller = Puller::open(state, &record.namespace, self.args.jobs.into(), &self.progress)?;
                puller.pull(&origin, &source, &platform).await
            })
            .unable_to(|| format!("pull {}", source.text()))?;
        record.image = Some(image);
        Ok(record)
    }
}
