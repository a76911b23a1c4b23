// SPDX-License-Identifier: Apache-2.0
//! `regex-lite` under the name of `regex`, which `oci-spec` asks for.
//!
//! oci-spec needs one small pattern (`execCPUAffinity`). The real regex would put 1.4 MB and 7,000
//! start-up relocations into every tool that reads a config.json.

pub use regex_lite::*;
