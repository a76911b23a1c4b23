// SPDX-License-Identifier: Apache-2.0
//! New limits for a container that exists: put into force, and recorded for the updates to come.

use std::fs;

use ctr_record::TaskStatus;
use oci_spec::runtime::{LinuxCpu, LinuxIntelRdt, LinuxMemory, LinuxResources};
use serde_json::{Map, Value};

use crate::cgroup::{Cgroup, Limits};
use crate::container::Container;
use crate::intel_rdt::RdtGroup;
use crate::plan::RdtPlan;
use crate::spec::resources;
use crate::{RuntimeError, spec};

impl Container {
    /// Changes the container's limits; `update` is like `linux.resources` of config.json, and what it does not
    /// mention stays. Its devices are left alone.
    ///
    /// When one limit cannot be set none is.
    pub fn update(&self, update: Value) -> Result<(), RuntimeError> {
        let (_lock, container) = self.locked()?;
        match container.status() {
            TaskStatus::Created | TaskStatus::Running | TaskStatus::Paused => {}
            _ => return Err(RuntimeError::NotRunning(container.state.id)),
        }
        let mut config = container.read_config()?;
        let recorded = recorded_resources(&mut config)?;
        let update = normalised(update)?;
        let mut changes = parse(update.clone())?;
        complete(&mut changes, &parse(recorded.clone())?, container.cgroup());
        let limits = Limits::from_spec(&changes)?;
        resources::merge(recorded, &update);
        let new = container.dir.prepare_config(config.to_string().as_bytes())?;
        if let Err(error) = container.cgroup().update(&limits) {
            let _ = fs::remove_file(new);
            return Err(error.into());
        }
        container.dir.replace_config(&new)
    }

    /// Changes what Intel RDT allows the container; an empty schema leaves what there is. A container that is in
    /// no group gets one of its own.
    pub fn update_intel_rdt(&self, l3_cache: &str, memory: &str) -> Result<(), RuntimeError> {
        let (_lock, mut container) = self.locked()?;
        match container.status() {
            TaskStatus::Created | TaskStatus::Running | TaskStatus::Paused => {}
            _ => return Err(RuntimeError::NotRunning(container.state.id)),
        }
        let mut spec = LinuxIntelRdt::default();
        spec.set_l3_cache_schema(Some(l3_cache.to_owned())).set_mem_bw_schema(Some(memory.to_owned()));
        let plan = RdtPlan::new(&spec)?;
        if let Some(group) = &container.state.intel_rdt {
            return group.write_schemata(&plan.schemata);
        }
        let mut group = RdtGroup::plan(&plan, &container.state.id)?;
        container.state.intel_rdt = Some(group.clone());
        container.dir.save(&container.state)?;
        let entered = group.establish(&plan).and_then(|()| group.add(&container.pids()?));
        if entered.is_err() {
            let _ = group.remove();
        }
        container.state.intel_rdt = entered.is_ok().then_some(group);
        container.dir.save(&container.state)?;
        entered
    }

    fn read_config(&self) -> Result<Value, RuntimeError> {
        let path = self.dir.config();
        let bytes = fs::read(&path).map_err(RuntimeError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| RuntimeError::Json { path, source })
    }
}

/// `linux.resources` of a config, in normal form; made if there is none.
fn recorded_resources(config: &mut Value) -> Result<&mut Map<String, Value>, RuntimeError> {
    let no_object = || RuntimeError::config("linux.resources", "it is no object");
    let mut place = config;
    for name in ["linux", "resources"] {
        place = place.as_object_mut().ok_or_else(no_object)?.entry(name).or_insert(Value::Null);
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
    }
    spec::drop_nulls(place);
    let recorded = place.as_object_mut().ok_or_else(no_object)?;
    resources::normalise(recorded);
    Ok(recorded)
}

fn normalised(mut update: Value) -> Result<Map<String, Value>, RuntimeError> {
    spec::drop_nulls(&mut update);
    match update {
        Value::Object(mut update) => {
            resources::normalise(&mut update);
            update.remove("devices");
            drop_unset(&mut update);
            Ok(update)
        }
        _ => Err(RuntimeError::config("resources", "they must be a JSON object")),
    }
}

/// Removes what asks for nothing, so that the record keeps the limit that stays in force.
fn drop_unset(update: &mut Map<String, Value>) {
    for (group, members) in [
        ("memory", &["limit", "reservation", "swap"][..]),
        ("cpu", &["shares", "quota", "period", "realtimeRuntime", "realtimePeriod"]),
        ("blockIO", &["weight", "leafWeight"]),
    ] {
        if let Some(Value::Object(group)) = update.get_mut(group) {
            group.retain(|member, value| *value != 0 || !members.contains(&member.as_str()));
        }
    }
}

fn parse(resources: Map<String, Value>) -> Result<LinuxResources, RuntimeError> {
    let parsed = serde_json::from_value(Value::Object(resources));
    parsed.map_err(|error| RuntimeError::config("linux.resources", error.to_string()))
}

/// Adds what an update left as it was where a new value beside it would change its meaning.
fn complete(changes: &mut LinuxResources, recorded: &LinuxResources, cgroup: &Cgroup) {
    // v2 has limits of memory and of swap, so that a new one of memory alone would change that of both
    if let (false, Some(memory), Some(recorded)) = (cgroup.on_v1("memory"), changes.memory_mut(), recorded.memory()) {
        complete_memory(memory, recorded);
    }
    // systemd has a quota for each second
    if let (Some(_), Some(cpu), Some(recorded)) = (cgroup.unit(), changes.cpu_mut(), recorded.cpu()) {
        complete_cpu(cpu, recorded);
    }
}

fn complete_cpu(cpu: &mut LinuxCpu, recorded: &LinuxCpu) {
    let period = |cpu: &LinuxCpu| cpu.period().filter(|period| *period != 0);
    let quota = |cpu: &LinuxCpu| cpu.quota().filter(|quota| *quota != 0);
    match (quota(cpu), period(cpu)) {
        (Some(_), None) => drop(cpu.set_period(recorded.period())),
        (None, Some(_)) => drop(cpu.set_quota(recorded.quota())),
        _ => {}
    }
}

/// Adds the limit of memory, or of memory plus swap, beside the other.
fn complete_memory(memory: &mut LinuxMemory, recorded: &LinuxMemory) {
    let set = |limit: Option<i64>| limit.filter(|limit| *limit != 0);
    match (set(memory.limit()), set(memory.swap())) {
        // no limit of memory is none of both
        (Some(limit), None) if limit != -1 => drop(memory.set_swap(recorded.swap())),
        (None, Some(_)) => drop(memory.set_limit(recorded.limit())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn memory_and_swap_complete_each_other() {
        for (update, recorded, completed) in [
            (json!({"limit": 5}), json!({"limit": 3, "swap": 9}), json!({"limit": 5, "swap": 9})),
            (json!({"limit": 5}), json!({}), json!({"limit": 5})),
            (json!({"limit": 5, "swap": 6}), json!({"limit": 3, "swap": 9}), json!({"limit": 5, "swap": 6})),
            (json!({"limit": -1}), json!({"limit": 3, "swap": 9}), json!({"limit": -1})),
            (json!({"swap": 7}), json!({"limit": 3, "swap": 9}), json!({"limit": 3, "swap": 7})),
            (json!({"limit": 0, "swap": 7}), json!({"limit": 3}), json!({"limit": 3, "swap": 7})),
            (json!({"reservation": 1}), json!({"limit": 3, "swap": 9}), json!({"reservation": 1})),
        ] {
            let mut memory: LinuxMemory = serde_json::from_value(update).unwrap();
            complete_memory(&mut memory, &serde_json::from_value(recorded).unwrap());
            assert_eq!(serde_json::to_value(memory).unwrap(), completed);
        }
    }

    #[test]
    fn quota_and_period_complete_each_other() {
        for (update, recorded, completed) in [
            (json!({"quota": 5}), json!({"quota": 3, "period": 9}), json!({"quota": 5, "period": 9})),
            (json!({"period": 5}), json!({"quota": 3, "period": 9}), json!({"quota": 3, "period": 5})),
            (json!({"period": 5}), json!({"shares": 2}), json!({"period": 5})),
            (json!({"shares": 5}), json!({"quota": 3, "period": 9}), json!({"shares": 5})),
        ] {
            let mut cpu: LinuxCpu = serde_json::from_value(update).unwrap();
            complete_cpu(&mut cpu, &serde_json::from_value(recorded).unwrap());
            assert_eq!(serde_json::to_value(cpu).unwrap(), completed);
        }
    }

    #[test]
    fn resources_are_made_where_there_are_none() {
        for mut config in [json!({}), json!({"linux": {}}), json!({"linux": {"resources": null}})] {
            recorded_resources(&mut config).unwrap().insert("pids".to_owned(), json!({"limit": 1}));
            assert_eq!(config, json!({"linux": {"resources": {"pids": {"limit": 1}}}}));
        }
        assert!(recorded_resources(&mut json!({"linux": 1})).is_err());
    }

    #[test]
    fn a_0_that_means_nothing_is_not_recorded() {
        let update = json!({"memory": {"limit": 0, "swap": 5}, "cpu": {"quota": 0, "idle": 0, "burst": 0}});
        let update = normalised(update).unwrap();
        assert_eq!(Value::Object(update), json!({"memory": {"swap": 5}, "cpu": {"idle": 0, "burst": 0}}));
    }

    #[test]
    fn an_update_says_nothing_of_devices() {
        let update = normalised(json!({"devices": [{"allow": true}], "pids": {"limit": 0}, "cpu": null})).unwrap();
        assert_eq!(Value::Object(update), json!({"pids": {"limit": 0}}));
        assert!(normalised(json!([1])).is_err() && parse(normalised(json!({"memory": 1})).unwrap()).is_err());
    }
}
