// SPDX-License-Identifier: Apache-2.0
//! config.json to a plan: no config makes the runtime panic, and what a plan holds has been checked.
#![no_main]

use std::path::Path;

use ctr_runtime::cgroup::Manager;
use ctr_runtime::plan::{Caller, Plan};
use ctr_runtime::spec::Config;
use libfuzzer_sys::fuzz_target;

/// A kind of namespace (clone(2)).
const CLONE_NEWUTS: i32 = 0x0400_0000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = Config::parse(bytes.to_vec(), Path::new("config.json")) else { return };
    for (rootless, manager) in [(false, Manager::Cgroupfs), (true, Manager::Systemd), (true, Manager::Disabled)] {
        let caller = Caller { rootless, manager };
        let Ok(plan) = Plan::new("fuzz", Path::new("/bundle"), &config.spec, caller) else { continue };
        for path in plan.masked_paths.iter().chain(&plan.readonly_paths) {
            assert!(path.is_absolute(), "{path:?}");
        }
        for sysctl in &plan.sysctl {
            assert!(!sysctl.path.contains(['\0', '\n']) && !sysctl.path.contains(".."), "{sysctl:?}");
            assert!(!sysctl.value.contains('\0'), "{sysctl:?}");
        }
        assert!(plan.hostname.is_none() || plan.namespaces.is_private(CLONE_NEWUTS));
    }
});
