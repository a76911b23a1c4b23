// SPDX-License-Identifier: Apache-2.0
//! Annotations of config.json and labels of the record.

use ctr_cli::Error;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::image_config::ImageConfig;
use crate::quantity::key_value;

/// What a label's name is preceded by as an annotation; no label of an image can have it.
const LABEL: &str = "ctr.label.";

/// Sets the annotations: the image's, over them the labels, over them the flags'.
pub(crate) fn set_annotations(spec: &mut Value, args: &Args, image: &ImageConfig) -> Result<(), Error> {
    for (name, value) in image.annotations().0 {
        spec["annotations"][name] = json!(value);
    }
    for (name, value) in labels(args)? {
        spec["annotations"][format!("{LABEL}{name}")] = value;
    }
    for text in &args.annotation {
        let (name, value) = key_value("annotation", text)?;
        spec["annotations"][name] = json!(value);
    }
    Ok(())
}

/// The labels of `--label`, as the record has them in `bundle.labels`.
pub(crate) fn labels(args: &Args) -> Result<Map<String, Value>, Error> {
    let pair = |text: &String| key_value("label", text).map(|(name, value)| (name.to_owned(), json!(value)));
    args.label.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn flags_win_over_labels_and_the_image() {
        let flags = ["ctr-bundle", "--annotation", "a=1=2", "--annotation", "org.opencontainers.image.os=mine"];
        let args = Args::try_parse_from([&flags[..], &["--label", "tier=web", "--label", "empty="]].concat()).unwrap();
        let image =
            ImageConfig::parse(br#"{"os":"linux","config":{"Labels":{"a":"0","ctr.label.tier":"evil"}}}"#).unwrap();
        let mut spec = json!({});
        set_annotations(&mut spec, &args, &image).unwrap();
        let expected = json!({
            "a": "1=2",
            "org.opencontainers.image.os": "mine",
            "ctr.label.tier": "web",
            "ctr.label.empty": "",
        });
        assert_eq!(spec["annotations"], expected);
        assert_eq!(Value::from(labels(&args).unwrap()), json!({"tier": "web", "empty": ""}));
    }

    #[test]
    fn a_pair_needs_a_key() {
        for flags in [["--label", "x"], ["--label", "=x"], ["--annotation", "x"]] {
            let args = Args::try_parse_from([&["ctr-bundle"][..], &flags].concat()).unwrap();
            assert!(set_annotations(&mut json!({}), &args, &ImageConfig::default()).is_err(), "{flags:?}");
        }
    }
}
