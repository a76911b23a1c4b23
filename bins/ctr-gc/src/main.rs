// SPDX-License-Identifier: Apache-2.0
//! `ctr-gc`: frees what nobody will ever use.
//!
//! So far that is what killed processes have left half-made or half-removed (`--repair`), whose finding is the
//! libraries' business: here each is removed, and told of.

mod repair;

use std::process::ExitCode;

use clap::Parser;
use ctr_cli::{Error, StateArgs};

/// Clears up what killed processes have left half-made or half-removed.
#[derive(Debug, Parser)]
#[command(name = "ctr-gc", version)]
struct Args {
    /// Remove what nobody is at work on any more: the only thing that this tool does, to be asked for
    #[arg(long, required = true)]
    repair: bool,
    /// Say what would be removed, and leave it
    #[arg(long)]
    dry_run: bool,
    /// Directory of ctr-run's state [default: $CTR_RUN_ROOT, /run/ctr-run for root, else $XDG_RUNTIME_DIR/ctr-run]
    #[arg(long, value_name = "DIR")]
    root: Option<std::path::PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

fn main() -> ExitCode {
    ctr_cli::run(|args: Args| {
        let namespace = args.state.namespace()?;
        let root = args.root.unwrap_or_else(|| ctr_store::runtime_root(&namespace));
        let mut repair = repair::Repair::new(args.dry_run);
        repair.containers(&root)?;
        repair.state(&args.state.dir()?, &namespace)?;
        Ok::<_, Error>(repair.finish())
    })
}
