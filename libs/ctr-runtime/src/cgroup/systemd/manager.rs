// SPDX-License-Identifier: Apache-2.0
//! What systemd is asked to do (org.freedesktop.systemd1(5)).

use super::{Property, Unit, UnitPlan};
use crate::cgroup::CgroupError;
use crate::dbus::{Call, Connection, DbusError, Message, Value};

use nix::unistd::Pid;

const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// A connection to a systemd.
pub(super) struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects to the system's, or to that of the user who calls.
    pub(super) fn connect(user: bool) -> Result<Self, CgroupError> {
        let connection = Connection::to_systemd(user).map_err(CgroupError::Systemd)?;
        Ok(Self { connection })
    }

    fn call(&mut self, member: &str, arguments: &[Value]) -> Result<Message, DbusError> {
        self.call_interface(INTERFACE, member, arguments)
    }

    fn call_interface(&mut self, interface: &str, member: &str, arguments: &[Value]) -> Result<Message, DbusError> {
        let (destination, path) = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1");
        self.connection.call(&Call { destination, path, interface, member, arguments })
    }

    /// Its version, a number; 0 for what cannot be understood.
    pub(super) fn version(&mut self) -> Result<u32, CgroupError> {
        let arguments = [Value::string(INTERFACE), Value::string("Version")];
        let answer =
            self.call_interface("org.freedesktop.DBus.Properties", "Get", &arguments).map_err(CgroupError::Systemd)?;
        let text = answer.body("v").and_then(|mut body| body.string_variant().map(str::to_owned));
        match text {
            Some(text) => Ok(version_number(&text)),
            None => Err(CgroupError::Systemd(self.connection.protocol("the version is no string"))),
        }
    }

    /// Starts a transient unit with a process in it, and waits until it is there.
    pub(super) fn start(&mut self, plan: &UnitPlan, properties: Vec<Property>, first: Pid) -> Result<(), CgroupError> {
        let name = &plan.unit.name;
        let pid = Value::Uint32(first.as_raw().cast_unsigned());
        let mut all: Vec<Property> = vec![
            ("Description".to_owned(), Value::String(plan.description.clone())),
            ("Slice".to_owned(), Value::String(plan.slice.clone())),
            ("Delegate".to_owned(), Value::Bool(true)),
            ("PIDs".to_owned(), Value::Array("u".to_owned(), vec![pid])),
            ("DefaultDependencies".to_owned(), Value::Bool(false)),
        ];
        all.extend(properties);
        all.extend(plan.properties.iter().cloned());
        let no_more_units = Value::Array("(sa(sv))".to_owned(), Vec::new());
        let arguments = [Value::string(name), Value::string("replace"), as_array(all), no_more_units];
        let failed = |source| CgroupError::StartUnit { name: name.clone(), source };
        self.watch_jobs().map_err(failed)?;
        let answer = match self.call("StartTransientUnit", &arguments) {
            // One of this name has failed and is kept to tell of it.
            Err(error) if error.is("org.freedesktop.systemd1.UnitExists") => {
                self.reset_failed(name);
                self.call("StartTransientUnit", &arguments)
            }
            result => result,
        };
        let answer = answer.map_err(|error| match error.is("org.freedesktop.systemd1.UnitExists") {
            true => CgroupError::UnitExists { name: name.clone(), source: error },
            false => failed(error),
        });
        let result = self.wait_for_job(&answer?).map_err(failed)?;
        match result.as_deref() {
            Some("done") => Ok(()),
            _ => {
                self.reset_failed(name);
                Err(CgroupError::UnitJob {
                    name: name.clone(),
                    result: result.unwrap_or("no answer in 30 s".to_owned()),
                })
            }
        }
    }

    /// Stops a unit, which may be gone already, and waits until it is.
    pub(super) fn stop(&mut self, unit: &Unit) -> Result<(), DbusError> {
        self.watch_jobs()?;
        match self.call("StopUnit", &[Value::string(&unit.name), Value::string("replace")]) {
            Err(error) if error.is("org.freedesktop.systemd1.NoSuchUnit") => return Ok(()),
            answer => drop(self.wait_for_job(&answer?)?),
        }
        self.reset_failed(&unit.name);
        Ok(())
    }

    /// Changes a unit until the machine is booted anew.
    pub(super) fn set(&mut self, unit: &Unit, properties: Vec<Property>) -> Result<(), CgroupError> {
        let arguments = [Value::string(&unit.name), Value::Bool(true), as_array(properties)];
        let failed = |source| CgroupError::ChangeUnit { name: unit.name.clone(), source };
        self.call("SetUnitProperties", &arguments).map(drop).map_err(failed)
    }

    /// Moves a process into a unit, or into a cgroup below it.
    pub(super) fn attach(&mut self, unit: &Unit, below: &str, pid: Pid) -> Result<(), CgroupError> {
        let pid = Value::Uint32(pid.as_raw().cast_unsigned());
        let pids = Value::Array("u".to_owned(), vec![pid]);
        let arguments = [Value::string(&unit.name), Value::string(below), pids];
        let failed = |source| CgroupError::AttachToUnit { name: unit.name.clone(), source };
        self.call("AttachProcessesToUnit", &arguments).map(drop).map_err(failed)
    }

    /// Lets a unit that has failed go. That it has not is no matter.
    fn reset_failed(&mut self, name: &str) {
        let _ = self.call("ResetFailedUnit", &[Value::string(name)]);
    }

    /// Before a job is begun: its end may be told before the answer that names it.
    fn watch_jobs(&mut self) -> Result<(), DbusError> {
        self.connection.subscribe(INTERFACE, "JobRemoved")
    }

    /// Waits for the end of the job that an answer names; returns how it ended.
    fn wait_for_job(&mut self, answer: &Message) -> Result<Option<String>, DbusError> {
        let job = answer.body("o").and_then(|mut body| body.string());
        let job = job.ok_or_else(|| self.connection.protocol("a job is no object path"))?;
        self.connection.wait_for(INTERFACE, "JobRemoved", |signal| {
            let mut body = signal.body("uoss")?;
            body.uint32()?;
            let is_it = body.string()? == job;
            body.string()?;
            let result = body.string()?;
            is_it.then(|| result.to_owned())
        })
    }
}

fn as_array(properties: Vec<Property>) -> Value {
    let pair = |(name, value): Property| Value::Struct(vec![Value::String(name), Value::Variant(value.into())]);
    Value::Array("(sv)".to_owned(), properties.into_iter().map(pair).collect())
}

/// Of `252.39-1~deb12u2` or `v245`.
fn version_number(text: &str) -> u32 {
    let digits = text.trim_start_matches('v');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_with_decoration() {
        for (text, number) in
            [("252.39-1~deb12u2", 252), ("v245.4-1.fc32", 245), ("257", 257), ("", 0), ("x", 0), ("99999999999", 0)]
        {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}
