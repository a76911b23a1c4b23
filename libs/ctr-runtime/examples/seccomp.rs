// SPDX-License-Identifier: Apache-2.0
//! Compiles the seccomp profile on stdin (`linux.seccomp` of a config.json) many times, and prints how long
//! it takes and how long the program is.
//!
//!     jq .linux.seccomp config.json | cargo run --release -p ctr-runtime --example seccomp

use std::hint::black_box;
use std::io::stdin;
use std::time::Instant;

use ctr_runtime::seccomp::Profile;
use oci_spec::runtime::LinuxSeccomp;

const ROUNDS: usize = 5000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let profile: LinuxSeccomp = serde_json::from_reader(stdin().lock())?;
    let start = Instant::now();
    let program = Profile::new(&profile)?.compile()?;
    let first = start.elapsed();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(Profile::new(black_box(&profile))?.compile()?);
        times.push(start.elapsed());
    }
    times.sort();
    println!("{} instructions; first {first:?}, median {:?}", program.len(), times[ROUNDS / 2]);
    Ok(())
}
