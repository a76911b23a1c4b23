// SPDX-License-Identifier: Apache-2.0
//! The seccomp profile of a config.json, read apart from the rest.
//!
//! It is by far the largest part, and the only one in which nothing has to be put right before the
//! decoder sees it: read without the detour by way of a `Value` it takes a fifth of the time.

use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow)]
    linux: Option<Linux<'a>>,
}

#[derive(Deserialize)]
struct Linux<'a> {
    #[serde(borrow)]
    seccomp: Option<&'a RawValue>,
}

/// Takes the profile out of a config's text, where `null` is left.
///
/// None: there is none, or something is unusual, which the decoder of the whole is to judge.
pub(super) fn take_seccomp(text: &[u8]) -> Option<(Vec<u8>, LinuxSeccomp)> {
    let config: Config<'_> = serde_json::from_slice(text).ok()?;
    let raw = config.linux?.seccomp?.get();
    let profile = serde_json::from_str(raw).ok()?;
    // What was borrowed is a part of the text.
    let (before, after) = text.split_at(raw.as_ptr() as usize - text.as_ptr() as usize);
    Some(([before, b"null", &after[raw.len()..]].concat(), profile))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_is_the_same_read_apart_and_in_its_place() {
        let text = json!({"ociVersion": "1.2.0", "hostname": "seccomp", "linux": {"seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": null, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read", "wr\"ite"], "action": "SCMP_ACT_ALLOW", "args": null}]},
            "cgroupsPath": "/x"}})
        .to_string();
        let (rest, profile) = take_seccomp(text.as_bytes()).unwrap();
        let whole: Spec = serde_json::from_str(&text).unwrap();
        let mut apart: Spec = serde_json::from_slice(&rest).unwrap();
        assert!(apart.linux().as_ref().unwrap().seccomp().is_none());
        apart.linux_mut().as_mut().unwrap().set_seccomp(Some(profile));
        assert_eq!(apart, whole);
    }

    #[test]
    fn what_is_unusual_is_left_to_the_decoder_of_the_whole() {
        for text in [
            r#"{"linux": {}}"#,
            r#"{"linux": {"seccomp": null}}"#,
            r#"{"linux": {"seccomp": {"defaultAction": "NOPE"}}}"#,
            r#"{"linux": {"seccomp": {}, "seccomp": {}}}"#,
            r#"{"linux": [{"seccomp": 1}]}"#,
            r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}"#,
        ] {
            assert!(take_seccomp(text.as_bytes()).is_none(), "{text}");
        }
    }
}
