// SPDX-License-Identifier: Apache-2.0
//! Mount options: any words, one a line, fall into their kinds without contradiction.
#![no_main]

use ctr_runtime::plan::MountOptions;
use libfuzzer_sys::fuzz_target;

/// The access times: one field of three values, which is cleared before it is set.
const MOUNT_ATTR_ATIME: u64 = 0x70;

fuzz_target!(|text: &str| {
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    let options = MountOptions::parse(&words);
    for change in [options.attributes, options.recursive] {
        assert_eq!(change.set & change.clear & !MOUNT_ATTR_ATIME, 0, "{change:?}");
        let time = change.set & MOUNT_ATTR_ATIME;
        assert!(time == 0 || change.clear & MOUNT_ATTR_ATIME == MOUNT_ATTR_ATIME, "{change:?}");
    }
    assert!(options.data.iter().all(|word| words.contains(word)), "{:?}", options.data);
});
