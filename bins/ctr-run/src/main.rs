// SPDX-License-Identifier: Apache-2.0
//! `ctr-run`.

fn main() {}
