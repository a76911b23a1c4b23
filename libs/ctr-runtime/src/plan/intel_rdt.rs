// SPDX-License-Identifier: Apache-2.0
//! Intel's Resource Director Technology: which group of the resctrl file system a container is in, and what
//! that allows it (runtime-spec, config-linux, "IntelRdt").

use oci_spec::runtime::LinuxIntelRdt;
use serde::Serialize;

use crate::RuntimeError;

/// A container's place in resctrl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RdtPlan {
    /// The group, `/` being the root; none: one of the container's own, by its id.
    pub group: Option<String>,
    /// The lines of `schemata`, in the order that they are written in.
    pub schemata: Vec<String>,
    /// Whether it is given a monitoring group.
    pub monitoring: bool,
}

impl RdtPlan {
    /// Plans an `intelRdt` object. `enableCMT` and `enableMBM` say nothing any more: hardware does not
    /// monitor the one without the other.
    pub fn new(spec: &LinuxIntelRdt) -> Result<Self, RuntimeError> {
        let refuse = |member: &str, reason: &str| Err(RuntimeError::config(format!("linux.intelRdt.{member}"), reason));
        let group = spec.clos_id().clone().filter(|id| !id.is_empty());
        if let Some(id) = &group
            && (matches!(id.as_str(), "." | "..") || id.contains(['\n', '\0']) || (id.contains('/') && id != "/"))
        {
            return refuse("closID", &format!("invalid intelRdt.ClosID {id:?}"));
        }
        let set = |line: &Option<String>| line.clone().filter(|line| !line.is_empty());
        let (l3_cache, memory) = (set(spec.l3_cache_schema()), set(spec.mem_bw_schema()));
        if let Some(line) = &memory
            && (!line.starts_with("MB:") || line.contains('\n'))
        {
            return refuse("memBwSchema", "it is not one line that begins with MB:");
        }
        let further = spec.schemata().clone().unwrap_or_default();
        if further.iter().any(|line| line.contains('\n')) {
            return refuse("schemata", "an element is not one line");
        }
        let schemata = l3_cache.into_iter().chain(memory).chain(further).filter(|line| !line.is_empty()).collect();
        Ok(Self { group, schemata, monitoring: spec.enable_monitoring().unwrap_or(false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(rdt: Value) -> Result<RdtPlan, RuntimeError> {
        RdtPlan::new(&serde_json::from_value(rdt).unwrap())
    }

    #[test]
    fn the_cache_comes_before_the_memory_and_both_before_the_rest() {
        let spec = json!({"closID": "gold", "schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=ff",
            "enableMonitoring": true, "enableCMT": true});
        let schemata = ["L3:0=ff", "MB:0=20", "L2:0=f"].map(str::to_owned).to_vec();
        assert_eq!(plan(spec).unwrap(), RdtPlan { group: Some("gold".into()), schemata, monitoring: true });
        assert_eq!(plan(json!({"closID": "", "l3CacheSchema": ""})).unwrap(), RdtPlan::default());
        assert_eq!(plan(json!({"closID": "/"})).unwrap().group.unwrap(), "/");
    }

    #[test]
    fn refuses_what_cannot_be() {
        for bad in [
            json!({"closID": ".."}),
            json!({"closID": "."}),
            json!({"closID": "a/b"}),
            json!({"closID": "//"}),
            json!({"memBwSchema": "L3:0=ff"}),
            json!({"memBwSchema": "MB:0=20\nL3:0=1"}),
            json!({"schemata": ["L3:0=ff\nMB:0=20"]}),
        ] {
            assert!(plan(bad.clone()).is_err(), "{bad}");
        }
    }
}
