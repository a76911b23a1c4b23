// SPDX-License-Identifier: Apache-2.0
//! state.json: a damaged one is an error and nothing else, and what is read is written again unchanged.
#![no_main]

use ctr_runtime::State;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(state) = serde_json::from_slice::<State>(bytes) else { return };
    let written = serde_json::to_vec(&state).expect("a state can be written");
    let again: State = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).expect("a state can be written"), written);
});
