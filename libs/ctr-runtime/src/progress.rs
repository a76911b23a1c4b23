// SPDX-License-Identifier: Apache-2.0
//! What is done, told while it is done, for `--debug`. Each step has the words that runc has for it, which is
//! what scripts look for in such a log, and then what there is to say of it.

use std::sync::OnceLock;

use ctr_sys::seccomp::Flags;

use crate::plan::{Plan, words};

type Listener = Box<dyn Fn(String) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Has what is done from here on told to `listener`.
pub fn listen(listener: impl Fn(String) + Send + Sync + 'static) {
    let _ = LISTENER.set(Box::new(listener));
}

// Only the runtime's own process tells: the container's has left the place where the log is.
pub(crate) fn tell(message: impl FnOnce() -> String) {
    if let Some(listener) = LISTENER.get() {
        listener(message());
    }
}

/// Tells what a container is going to be.
pub(crate) fn tell_of(plan: &Plan) {
    let namespaces = &plan.namespaces;
    tell(|| {
        let joined = namespaces.join.iter().fold(0, |kinds, (kind, _)| kinds | *kind as u64);
        let shown = |kinds| match words::kinds(kinds) {
            words if words.is_empty() => "none".to_owned(),
            words => words.join(" "),
        };
        format!("nsexec container setup: namespaces: new {}, joined {}", shown(namespaces.new), shown(joined))
    });
    if let Some(profile) = &plan.seccomp {
        let flags = if profile.notify { profile.flags | Flags::NEW_LISTENER } else { profile.flags };
        tell(|| format!("seccomp filter flags: {}", flags.bits()));
    }
}
