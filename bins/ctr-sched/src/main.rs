// SPDX-License-Identifier: Apache-2.0
//! `ctr-sched`.

fn main() {}
