// SPDX-License-Identifier: Apache-2.0
//! A throwaway registry on loopback: serves the images of an OCI image layout until its standard input ends.
//!
//!     registry DIR REPOSITORY
//!
//! It prints its `HOST:PORT` once it is ready. Tags are the names in the layout's index.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use ctr_tests::Registry;
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, repository] = &arguments[..] else {
        eprintln!("usage: registry DIR REPOSITORY");
        return ExitCode::from(2);
    };
    match serve(Path::new(dir), repository) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("registry: unable to serve {dir}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(dir: &Path, repository: &str) -> io::Result<()> {
    let registry = Registry::start();
    for blob in fs::read_dir(dir.join("blobs/sha256"))? {
        registry.add_blob(fs::read(blob?.path())?);
    }
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json"))?)?;
    for descriptor in index["manifests"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tag = text(&descriptor["annotations"]["org.opencontainers.image.ref.name"]);
        let digest = text(&descriptor["digest"]).replace(':', "/");
        let manifest = fs::read(dir.join("blobs").join(digest))?;
        registry.add_manifest(repository, &tag, &text(&descriptor["mediaType"]), manifest);
    }
    println!("{}", registry.host());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
