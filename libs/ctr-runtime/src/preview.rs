// SPDX-License-Identifier: Apache-2.0
//! What `create` would do, as JSON: the very plan that it performs, and what this machine makes of it.
//!
//! Nothing is made or changed. Within a version members are only added; their order is fixed, so that two
//! plans can be compared line by line, and what is not set or empty is left out.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, Spec};
use serde_json::{Value, json};

use crate::RuntimeError;
use crate::cgroup::CgroupPreview;
use crate::create::{self, CreateOptions};
use crate::plan::Plan;
use crate::rootfs::device;

/// Plans a container and returns the plan. It fails where `create` would refuse the config.
pub fn preview(id: &str, options: &CreateOptions) -> Result<Value, RuntimeError> {
    ctr_record::check_container_id(id).map_err(|_| RuntimeError::InvalidId(id.to_owned()))?;
    let planned = create::plan(id, options, Path::new(""))?;
    let plan = &planned.plan;
    let mut value = json!({"version": 1, "ociVersion": planned.config.spec.version()});
    if let (Some(members), Value::Object(plan)) = (value.as_object_mut(), json!(plan)) {
        members.extend(plan);
    }
    value["layers"] = json!(planned.layers);
    value["namespaces"] = namespaces(plan);
    value["devices"] = json!(device::nodes(plan));
    value["cgroup"] = json!(CgroupPreview::new(&plan.cgroup)?);
    if let (Some(profile), Some(asked)) = (&plan.seccomp, profile(&planned.config.spec)) {
        value["seccomp"]["instructions"] = json!(profile.compile()?.len());
        describe(asked, &mut value["seccomp"]);
    }
    value["warnings"] = json!(planned.config.warnings);
    drop_empty(&mut value);
    Ok(value)
}

fn drop_empty(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        Value::Object(members) => {
            members.values_mut().for_each(drop_empty);
            members.retain(|_, member| !is_empty(member));
        }
        _ => {}
    }
}

// By name: the path of one that is joined, or that it is new.
fn namespaces(plan: &Plan) -> Value {
    let mut value = json!(plan.namespaces);
    for kind in value["new"].take().as_array().into_iter().flatten() {
        value["join"][kind.as_str().expect("a name")] = "new".into();
    }
    value["kinds"] = value["join"].take();
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| name != "new" && name != "join");
    }
    value
}

fn profile(spec: &Spec) -> Option<&LinuxSeccomp> {
    spec.linux().as_ref()?.seccomp().as_ref()
}

fn describe(profile: &LinuxSeccomp, value: &mut Value) {
    let mut actions: BTreeMap<String, usize> = BTreeMap::new();
    for rule in profile.syscalls().iter().flatten() {
        let action = json!(rule.action()).as_str().unwrap_or_default().to_owned();
        *actions.entry(action).or_default() += rule.names().len();
    }
    value["defaultAction"] = json!(profile.default_action());
    value["defaultErrnoRet"] = json!(profile.default_errno_ret());
    value["architectures"] = json!(profile.architectures());
    value["syscalls"] = json!(actions);
}
