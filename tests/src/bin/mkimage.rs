// SPDX-License-Identifier: Apache-2.0
//! Makes an image as an OCI image layout: this machine's busybox in two layers, or a tar in one.
//!
//!     mkimage DIR:NAME [TAR]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use ctr_tests::{Image, Layer, LayoutDir, need};
use serde_json::json;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some((dir, name)), true) = (arguments.first().and_then(|first| first.rsplit_once(':')), arguments.len() <= 2)
    else {
        eprintln!("usage: mkimage DIR:NAME [TAR]");
        return ExitCode::from(2);
    };
    match make(arguments.get(1)).and_then(|image| LayoutDir::create(Path::new(dir))?.add(name, &image.blobs())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkimage: unable to make {dir}:{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(tar: Option<&String>) -> io::Result<Image> {
    match tar {
        Some(tar) => Ok(Image::new([Layer::from_tar(fs::read(tar)?)]).config("Cmd", json!(["sh"]))),
        None => {
            let busybox = need::program("busybox").ok_or_else(|| io::Error::other("busybox is not installed"))?;
            Ok(Image::busybox(&fs::read(busybox)?, None))
        }
    }
}
