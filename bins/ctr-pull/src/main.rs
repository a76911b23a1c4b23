// SPDX-License-Identifier: Apache-2.0
//! `ctr-pull`.

fn main() {}
