// SPDX-License-Identifier: Apache-2.0
//! The container's process: what it runs, as whom, with what rights.

use std::ffi::CString;
use std::path::PathBuf;

use ctr_sys::process::SchedulerAttributes;
use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimitType, Process};
use serde::Serialize;

use super::{CpuAffinity, words};
use crate::RuntimeError;
use crate::capability::CapabilitySets;

/// A process to be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ProcessPlan {
    #[serde(serialize_with = "words::strings")]
    pub args: Vec<CString>,
    /// `NAME=value`; of two with one name the later is kept.
    #[serde(serialize_with = "words::strings")]
    pub env: Vec<CString>,
    pub cwd: PathBuf,
    pub terminal: bool,
    #[serde(serialize_with = "words::size")]
    pub console_size: Option<ctr_sys::terminal::Size>,
    pub uid: u32,
    pub gid: u32,
    #[serde(serialize_with = "words::umask")]
    pub umask: Option<u32>,
    pub groups: Vec<u32>,
    /// Absent: the process keeps none at all.
    pub capabilities: CapabilitySets,
    #[serde(serialize_with = "words::rlimits")]
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    /// Absent: what the caller had.
    pub oom_score_adj: Option<i32>,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    /// The value for ioprio_set(2).
    #[serde(serialize_with = "words::io_priority")]
    pub io_priority: Option<i32>,
    #[serde(serialize_with = "words::scheduler")]
    pub scheduler: Option<SchedulerAttributes>,
    /// Of a process that is executed in a container; its first one has no such choice.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: CpuAffinity,
}

/// A resource limit: `RLIMIT_*`, soft, hard.
pub type Rlimit = (u32, u64, u64);

impl ProcessPlan {
    /// Plans a `process` object.
    pub fn new(process: &Process) -> Result<Self, RuntimeError> {
        let refuse = |field: &str, reason: &str| RuntimeError::config(format!("process.{field}"), reason);
        let c_string = |field: &str, s: &String| {
            CString::new(s.as_str()).map_err(|_| refuse(field, "a string has a NUL byte in it"))
        };
        let args: Vec<CString> =
            process.args().iter().flatten().map(|arg| c_string("args", arg)).collect::<Result<_, _>>()?;
        if args.first().is_none_or(|program| program.is_empty()) {
            return Err(refuse("args", "it must name a program"));
        }
        if !process.cwd().is_absolute() {
            return Err(refuse("cwd", "it must be an absolute path"));
        }
        let size = process.console_size().filter(|_| process.terminal().unwrap_or(false));
        let cells = |n: u64| u16::try_from(n).map_err(|_| refuse("consoleSize", "more than 65535"));
        let console_size = match size {
            Some(size) => Some(ctr_sys::terminal::Size { rows: cells(size.height())?, columns: cells(size.width())? }),
            None => None,
        };
        let user = process.user();
        // The system calls take it for "leave it as it is", which is root.
        let groups = user.additional_gids().clone().unwrap_or_default();
        if [user.uid(), user.gid()].iter().chain(&groups).any(|id| *id == u32::MAX) {
            return Err(refuse("user", &format!("{} is nobody's id", u32::MAX)));
        }
        Ok(Self {
            args,
            env: environment(process.env().as_deref().unwrap_or_default())?,
            cwd: process.cwd().clone(),
            terminal: process.terminal().unwrap_or(false),
            console_size,
            uid: user.uid(),
            gid: user.gid(),
            umask: user.umask(),
            groups,
            capabilities: process.capabilities().as_ref().map(CapabilitySets::plan).unwrap_or_default(),
            rlimits: rlimits(process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor_profile: process.apparmor_profile().clone().filter(|profile| !profile.is_empty()),
            selinux_label: process.selinux_label().clone().filter(|label| !label.is_empty()),
            io_priority: io_priority(process)?,
            scheduler: scheduler(process)?,
            exec_cpu_affinity: CpuAffinity::new(process)?,
        })
    }
}

/// Checks an environment; of two entries with one name the later stays, in the place of the first.
pub(crate) fn environment(entries: &[String]) -> Result<Vec<CString>, RuntimeError> {
    let mut env: Vec<&String> = Vec::with_capacity(entries.len());
    let mut seen = std::collections::HashMap::with_capacity(entries.len());
    for entry in entries {
        let Some((name, _)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(RuntimeError::config("process.env", format!("{entry:?} is not NAME=value")));
        };
        match seen.get(name) {
            Some(&at) => env[at] = entry,
            None => {
                seen.insert(name, env.len());
                env.push(entry);
            }
        }
    }
    let nul = |_| RuntimeError::config("process.env", "a string has a NUL byte in it");
    env.into_iter().map(|entry| CString::new(entry.as_str()).map_err(nul)).collect()
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>, RuntimeError> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let resource = match limit.typ() {
            PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
            PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
            PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
            PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
            PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
            PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
            PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
            PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
            PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
            PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
            PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
            PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
            PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
            PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
            PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
            PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
        };
        let refuse = |reason: &str| Err(RuntimeError::config("process.rlimits", format!("{} {reason}", limit.typ())));
        if limits.iter().any(|(seen, ..)| *seen == resource) {
            return refuse("occurs twice");
        }
        if limit.soft() > limit.hard() {
            return refuse("has a soft limit above the hard one");
        }
        limits.push((resource, limit.soft(), limit.hard()));
    }
    Ok(limits)
}

fn io_priority(process: &Process) -> Result<Option<i32>, RuntimeError> {
    let Some(priority) = process.io_priority() else { return Ok(None) };
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match priority.priority() {
        level @ 0..=7 => Ok(Some(class << 13 | level as i32)),
        level => Err(RuntimeError::config("process.ioPriority", format!("{level} is not from 0 to 7"))),
    }
}

fn scheduler(process: &Process) -> Result<Option<SchedulerAttributes>, RuntimeError> {
    let Some(spec) = process.scheduler() else { return Ok(None) };
    let refuse = |reason: &str| Err(RuntimeError::config("process.scheduler", reason));
    let policy = match spec.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => return refuse("SCHED_ISO is not implemented by Linux"),
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => libc::SCHED_FLAG_RESET_ON_FORK,
        LinuxSchedulerFlag::SchedFlagReclaim => libc::SCHED_FLAG_RECLAIM,
        LinuxSchedulerFlag::SchedFlagDLOverrun => libc::SCHED_FLAG_DL_OVERRUN,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => libc::SCHED_FLAG_KEEP_POLICY,
        LinuxSchedulerFlag::SchedFlagKeepParams => libc::SCHED_FLAG_KEEP_PARAMS,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => libc::SCHED_FLAG_UTIL_CLAMP_MIN,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => libc::SCHED_FLAG_UTIL_CLAMP_MAX,
    };
    let (runtime, deadline, period) =
        (spec.runtime().unwrap_or(0), spec.deadline().unwrap_or(0), spec.period().unwrap_or(0));
    let priority = spec.priority().unwrap_or(0);
    match policy {
        libc::SCHED_FIFO | libc::SCHED_RR if !(1..=99).contains(&priority) => {
            return refuse("priority is not from 1 to 99");
        }
        libc::SCHED_FIFO | libc::SCHED_RR => {}
        _ if priority != 0 => return refuse("priority is for SCHED_FIFO and SCHED_RR"),
        _ => {}
    }
    match policy {
        // sched(7): the kernel would only say that an argument is invalid.
        libc::SCHED_DEADLINE if runtime < 1024 => return refuse("SCHED_DEADLINE needs a runtime of 1024 ns or more"),
        libc::SCHED_DEADLINE if deadline < runtime => return refuse("the deadline is before the end of the runtime"),
        libc::SCHED_DEADLINE if period != 0 && period < deadline => return refuse("the period is before the deadline"),
        libc::SCHED_DEADLINE => {}
        _ if runtime != 0 || deadline != 0 || period != 0 => {
            return refuse("runtime, deadline and period are for SCHED_DEADLINE");
        }
        _ => {}
    }
    let nice = spec.nice().unwrap_or(0);
    if matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH) && !(-20..=19).contains(&nice) {
        return refuse("nice is not from -20 to 19");
    }
    Ok(Some(SchedulerAttributes {
        policy: policy as u32,
        flags: spec.flags().iter().flatten().fold(0, |flags, f| flags | flag(f) as u64),
        nice,
        priority: priority.unsigned_abs(),
        runtime,
        deadline,
        period,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(member: &str, value: serde_json::Value) -> Result<ProcessPlan, RuntimeError> {
        let mut process = json!({"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}});
        process[member] = value;
        ProcessPlan::new(&serde_json::from_value(process).unwrap())
    }

    #[test]
    fn the_later_of_two_variables_counts() {
        let env = plan("env", json!(["A=1", "B=2", "A=3"])).unwrap().env;
        assert_eq!(env, [c"A=3".to_owned(), c"B=2".to_owned()]);
    }

    #[test]
    fn refuses_what_cannot_be() {
        for (member, value) in [
            ("args", json!([])),
            ("args", json!([""])),
            ("args", json!(["a\u{0}b"])),
            ("env", json!(["NOVALUE"])),
            ("env", json!(["=x"])),
            ("cwd", json!("relative")),
            ("user", json!({"uid": u32::MAX, "gid": 0})),
            ("user", json!({"uid": 0, "gid": u32::MAX})),
            ("user", json!({"uid": 0, "gid": 0, "additionalGids": [u32::MAX]})),
            ("rlimits", json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}])),
            (
                "rlimits",
                json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            ),
            ("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8})),
            ("scheduler", json!({"policy": "SCHED_OTHER", "priority": 1})),
            ("scheduler", json!({"policy": "SCHED_OTHER", "nice": 20})),
            ("scheduler", json!({"policy": "SCHED_BATCH", "nice": -21})),
            ("scheduler", json!({"policy": "SCHED_IDLE", "deadline": 1})),
            ("scheduler", json!({"policy": "SCHED_FIFO"})),
            ("scheduler", json!({"policy": "SCHED_RR", "priority": -1})),
            ("scheduler", json!({"policy": "SCHED_ISO"})),
            ("scheduler", json!({"policy": "SCHED_DEADLINE", "runtime": 1023, "deadline": 5000})),
            ("scheduler", json!({"policy": "SCHED_DEADLINE", "runtime": 5000, "deadline": 4000})),
            ("scheduler", json!({"policy": "SCHED_DEADLINE", "runtime": 5000, "deadline": 6000, "period": 5999})),
        ] {
            assert!(plan(member, value.clone()).is_err(), "{member} {value}");
        }
    }

    #[test]
    fn a_deadline_may_go_without_a_period() {
        let spec = json!({"policy": "SCHED_DEADLINE", "nice": 40, "runtime": 2000, "deadline": 3000,
            "flags": ["SCHED_RESET_ON_FORK"]});
        let planned = plan("scheduler", spec).unwrap().scheduler.unwrap();
        assert_eq!((planned.policy, planned.flags, planned.deadline, planned.period), (6, 1, 3000, 0));
    }

    #[test]
    fn without_capabilities_there_are_none() {
        assert_eq!(plan("terminal", json!(false)).unwrap().capabilities, CapabilitySets::default());
    }
}
