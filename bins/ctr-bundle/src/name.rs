// SPDX-License-Identifier: Apache-2.0
//! The ids of containers: given, made up, numbered.

use std::fs::File;
use std::io::Read;

use ctr_cli::{Context, Error};
use ctr_record::{Record, check_container_id};

use crate::args::Args;

/// The ids of the containers to make of one record.
pub(crate) fn ids(args: &Args, record: &Record) -> Result<Vec<String>, Error> {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => made_up(record)?,
    };
    let ids = match args.replicas {
        None => vec![id],
        Some(count) => (1..=count).map(|number| format!("{id}-{number}")).collect(),
    };
    for id in &ids {
        check_container_id(id)?;
    }
    Ok(ids)
}

// The last part of the image's name, and enough random digits to be the only one.
fn made_up(record: &Record) -> Result<String, Error> {
    let mut random = [0; 6];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).unable_to(|| "make up an id")?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = record.image.as_ref().map(|image| base_name(&image.reference)).unwrap_or_default();
    Ok(if name.is_empty() { digits } else { format!("{name}-{digits}") })
}

fn base_name(reference: &str) -> String {
    let without_digest = reference.split('@').next().unwrap_or_default();
    let last = without_digest.rsplit('/').next().unwrap_or_default();
    let name: String =
        last.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')).take(40).collect();
    name.trim_matches(['.', '-', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn ids_of(flags: &[&str]) -> Result<Vec<String>, Error> {
        let args = Args::try_parse_from([&["ctr-bundle"], flags].concat()).unwrap();
        ids(&args, &Record::new("/s".into(), "default"))
    }

    #[test]
    fn replicas_are_numbered_from_one() {
        assert_eq!(ids_of(&["--id", "web"]).unwrap(), ["web"]);
        assert_eq!(ids_of(&["--id", "web", "--replicas", "1"]).unwrap(), ["web-1"]);
        assert_eq!(ids_of(&["--id", "web", "--replicas", "3"]).unwrap(), ["web-1", "web-2", "web-3"]);
        assert!(Args::try_parse_from(["ctr-bundle", "--replicas", "0"]).is_err());
        assert!(ids_of(&["--id", "../web"]).is_err());
        assert!(ids_of(&["--id", &"x".repeat(199), "--replicas", "3"]).is_err());
    }

    #[test]
    fn made_up_ids_differ_and_speak_of_the_image() {
        let (one, other) = (ids_of(&[]).unwrap().remove(0), ids_of(&[]).unwrap().remove(0));
        assert_eq!(one.len(), 12);
        assert_ne!(one, other);
        for (reference, name) in [
            ("docker.io/library/redis:alpine", "redis"),
            ("r.example:5000/a/b_c@sha256:00", "b_c"),
            ("oci:/tmp/layout:tag", "layout"),
            ("oci:/tmp/.hidden", "hidden"),
            ("-", ""),
            ("ü", ""),
        ] {
            assert_eq!(base_name(reference), name);
        }
    }
}
