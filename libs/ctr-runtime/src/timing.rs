// SPDX-License-Identifier: Apache-2.0
//! Where the time of a start went: `--timing`.
//!
//! A stage is what happened since the one before it, in the same process. The runtime and the container's
//! process, which work at the same time, each have theirs; the memory for them is shared. When nobody asked,
//! a mark is one look at a variable.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use ctr_sys::shared;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Map, Value, json};

/// What has just been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stage {
    Plan,
    Claim,
    Cgroup,
    Clone,
    Record,
    Container,
    Hooks,
    Wait,
    Delete,
    Gate,
    Birth,
    Namespaces,
    Mounts,
    Runtime,
    Finalise,
    Rights,
    Opening,
}

/// Their names; from birth on they are those of the container's process.
const STAGES: [(Stage, &str); 17] = [
    (Stage::Plan, "plan"),
    (Stage::Claim, "claim"),
    (Stage::Cgroup, "cgroup"),
    (Stage::Clone, "clone"),
    (Stage::Record, "record"),
    (Stage::Container, "container"),
    (Stage::Hooks, "hooks"),
    (Stage::Wait, "wait"),
    (Stage::Delete, "delete"),
    (Stage::Gate, "gate"),
    (Stage::Birth, "birth"),
    (Stage::Namespaces, "namespaces"),
    (Stage::Mounts, "mounts"),
    (Stage::Runtime, "runtime"),
    (Stage::Finalise, "finalise"),
    (Stage::Rights, "rights"),
    (Stage::Opening, "opening"),
];

struct Clock {
    began: Instant,
    /// Processor time, in microseconds, before this clock began: the guard, the C library, the command line.
    before: u32,
    /// When the stage before ended; the container's process begins with a copy of the runtime's.
    latest: AtomicU32,
    shared: &'static [AtomicU32; shared::COUNTERS],
}

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// Begins to take the time. Without memory for it none is taken.
pub fn begin() {
    let Ok(shared) = shared::counters() else { return };
    let used = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        let time = usage.user_time() + usage.system_time();
        u32::try_from(time.num_microseconds()).unwrap_or(u32::MAX)
    });
    let clock = Clock { began: Instant::now(), before: used, latest: AtomicU32::new(0), shared };
    let _ = CLOCK.set(clock);
}

/// Says that a stage is over.
pub fn mark(stage: Stage) {
    let Some(clock) = CLOCK.get() else { return };
    let now = clock.now();
    let took = now.saturating_sub(clock.latest.swap(now, Relaxed));
    let at = STAGES.iter().position(|(known, _)| *known == stage).unwrap_or_default();
    // A stage that takes no microsecond has happened nevertheless.
    clock.shared[at].fetch_add(took.max(1), Relaxed);
}

/// All stages so far, in microseconds; none when no time was taken.
pub fn report() -> Option<Value> {
    let clock = CLOCK.get()?;
    let (mut runtime, mut container) = (Map::new(), Map::new());
    runtime.insert("startup".to_owned(), clock.before.into());
    let mut inside = false;
    for ((stage, name), took) in STAGES.iter().zip(clock.shared) {
        inside |= *stage == Stage::Birth;
        let took = took.load(Relaxed);
        if took > 0 {
            let stages = if inside { &mut container } else { &mut runtime };
            stages.insert((*name).to_owned(), took.into());
        }
    }
    Some(json!({"total": clock.before.saturating_add(clock.now()), "runtime": runtime, "container": container}))
}

impl Clock {
    fn now(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_by_whose_they_are() {
        assert!(report().is_none());
        mark(Stage::Plan);
        begin();
        for stage in [Stage::Plan, Stage::Cgroup, Stage::Mounts, Stage::Mounts] {
            mark(stage);
        }
        let told = report().unwrap();
        let names = |part: &str| told[part].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            (names("runtime"), names("container")),
            (["startup", "plan", "cgroup"].map(str::to_owned).to_vec(), vec!["mounts".to_owned()])
        );
        assert!(told["container"]["mounts"].as_u64().unwrap() >= 2);
    }
}
