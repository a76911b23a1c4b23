// SPDX-License-Identifier: Apache-2.0
//! `ctr-bundle`: an image's config, a default for Linux and flags become an OCI runtime bundle.
//!
//! config.json stays a JSON value from `default_spec` through the modifiers (one function each, by topic)
//! to the patches. What the image says is read in `image_config`, `rootfs`, `user` and `volumes`, all of
//! which treat it as hostile. Where bundles live and how they come to be is the store's business.

mod args;
mod capabilities;
mod default_spec;
mod devices;
mod image_config;
mod metadata;
mod mounts;
mod name;
mod namespaces;
mod patch;
mod process;
mod quantity;
mod recipe;
mod resources;
mod rootfs;
mod seccomp_profile;
mod security;
mod spec;
mod user;
mod volumes;

use std::io::IsTerminal;
use std::process::ExitCode;

use ctr_cli::{Context, Error, emit, filter_records};
use ctr_record::{Bundle, Payload, Record};
use ctr_store::StateDir;
use ctr_store::bundle::Bundles;
use ctr_store::event::EventLog;

use args::Args;
use patch::Patch;
use recipe::Recipe;

fn main() -> ExitCode {
    ctr_cli::run(run)
}

fn run(args: Args) -> Result<ExitCode, Error> {
    let patches = args.patch.iter().map(|path| Patch::read(path)).collect::<Result<Vec<_>, _>>()?;
    // A plain directory needs no record, and one that is there is not refused.
    if args.rootfs.is_some() && std::io::stdin().is_terminal() {
        return from_nothing(&args, &patches);
    }
    let mut seen = false;
    let code = filter_records("ctr-bundle", &args.state, |record| {
        seen = true;
        bundle(&args, &patches, record)
    })?;
    match seen || code != ExitCode::SUCCESS || args.rootfs.is_none() {
        true => Ok(code),
        false => from_nothing(&args, &patches),
    }
}

fn from_nothing(args: &Args, patches: &[Patch]) -> Result<ExitCode, Error> {
    for record in bundle(args, patches, args.state.new_record()?)? {
        emit(&record)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the bundles of one record: all of them or none.
fn bundle(args: &Args, patches: &[Patch], record: Record) -> Result<Vec<Record>, Error> {
    let state = StateDir::open(&record.state_dir)?;
    let recipe = Recipe::read(args, patches, &state, &record)?;
    warn(&recipe.labels_left_out());
    let labels = metadata::labels(args)?;
    let bundles = Bundles::of(&state, &record.namespace);
    let events = EventLog::open(&state)?;
    let image = record.image.as_ref().map(|image| image.reference.clone());
    let mut made = Vec::new();
    for id in name::ids(args, &record)? {
        let result = recipe.make(&bundles, &id).and_then(|bundle| {
            let mut extra = serde_json::Map::new();
            if !labels.is_empty() {
                extra.insert("labels".to_owned(), labels.clone().into());
            }
            let bundle = Bundle { id: id.clone(), path: bundle.path().to_owned(), extra };
            let mut result = record.clone();
            result.bundle = Some(bundle);
            result.task = None; // that of another bundle, when there is one
            made.push(result);
            let created = Payload::ContainerCreate { id: id.clone(), image: image.clone() };
            events.append(&record.namespace, created)?;
            Ok(())
        });
        if result.is_err() {
            withdraw(&made, &bundles, &events);
        }
        result.unable_to(|| format!("make the bundle {id}"))?;
    }
    Ok(made)
}

// The replicas made so far would be known to nobody: their records are never printed.
fn withdraw(made: &[Record], bundles: &Bundles, events: &EventLog) {
    for record in made {
        if let Some(bundle) = &record.bundle
            && bundles.remove(&bundle.id).is_ok()
        {
            let _ = events.append(&record.namespace, Payload::ContainerDelete { id: bundle.id.clone() });
        }
    }
}

// A converter that leaves out annotations says so (image-spec, conversion, "Annotations").
fn warn(labels: &[&str]) {
    if !labels.is_empty() {
        let names: Vec<String> = labels.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        ctr_cli::tell(&format!("ctr-bundle: warning: a runtime would act on the image's labels {names}: left out"));
    }
}
