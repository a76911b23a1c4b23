// SPDX-License-Identifier: Apache-2.0
//! `ctr-unpack`: an image's layers into snapshots, or into a plain directory.
//!
//! The meeting place of layers and the store: which layers an image has is read and checked in
//! `layers.rs`, and what becomes of them is `snapshots.rs`'s and `plain.rs`'s business. How a tar becomes
//! files is left to `ctr-layer`.

mod interrupt;
mod layers;
mod plain;
mod snapshots;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ctr_cli::{Context, Error, StateArgs, filter_records};
use ctr_layer::{Applied, Limits};
use ctr_record::{ErrorKind, Record};
use ctr_store::{Durability, StateDir};

use interrupt::Interrupt;
use layers::Layers;

/// Unpacks images' layers into snapshots: records with an image in, records with a snapshot out.
#[derive(Debug, Parser)]
#[command(name = "ctr-unpack", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// Unpack into this plain directory, new or empty, instead of into snapshots
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Do not wait until the snapshots are on the disk; a power cut may leave them damaged
    #[arg(long)]
    no_sync: bool,
    /// Refuse layers of more than this many bytes uncompressed
    #[arg(long, value_name = "BYTES")]
    max_size: Option<u64>,
    /// Refuse layers of more than 4 GiB uncompressed that are so many times larger than compressed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_ratio: Option<u64>,
}

impl Args {
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.total = self.max_size.unwrap_or(limits.total);
        limits.ratio = self.max_ratio.unwrap_or(limits.ratio);
        limits
    }
}

fn main() -> ExitCode {
    ctr_cli::run(|args: Args| {
        let interrupt = Interrupt::install()?;
        filter_records("ctr-unpack", &args.state, |record| Ok(vec![unpack(&args, record, &interrupt)?]))
    })
}

fn unpack(args: &Args, mut record: Record, interrupt: &Interrupt) -> Result<Record, Error> {
    let Some(image) = &record.image else {
        return Err(Error::new(ErrorKind::Invalid, "the record has no image").with_hint("ctr-pull adds it"));
    };
    let state = StateDir::open(&record.state_dir)?;
    let layers =
        Layers::open(&state, image, args.limits(), interrupt).unable_to(|| format!("unpack {}", image.reference))?;
    record.snapshot = Some(match &args.to {
        Some(directory) => plain::unpack(directory, layers)?,
        None => {
            let durability = if args.no_sync { Durability::Process } else { Durability::PowerCut };
            snapshots::unpack(&state, &record.namespace, layers, durability)?
        }
    });
    Ok(record)
}

/// Says on standard error what this system could not hold of a layer.
fn warn(layer: &layers::Layer, applied: &Applied) {
    for warning in &applied.warnings {
        ctr_cli::tell(&format!("ctr-unpack: warning: layer {}: {warning}", layer.descriptor.digest));
    }
}
