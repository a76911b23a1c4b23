// SPDX-License-Identifier: Apache-2.0
//! Controllers of cgroup v2: each cgroup has those that its parent hands down, from the root on.

use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::control::{read_file, write_file};
use super::{CgroupError, Setting};

/// A controller that a cgroup would not hand down.
pub(super) struct Refusal {
    controller: String,
    error: CgroupError,
}

/// Sees to it that a cgroup has the controllers `wanted`, as far as those above it hand them down or can be
/// told to; returns those that it has then.
///
/// Where they are there already, which is nearly always, one small file is read.
pub(super) fn enable<'a>(
    cgroup: &Path,
    wanted: &[&'a str],
    refusals: &mut Vec<Refusal>,
) -> Result<Vec<&'a str>, CgroupError> {
    let file = cgroup.join("cgroup.controllers");
    let text = match read_file(&file) {
        Ok(text) => text,
        // above the mount point
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CgroupError::Read { path: file, source }),
    };
    let has = |name: &&str| text.split_ascii_whitespace().any(|word| word == *name);
    let (mut there, missing): (Vec<&str>, Vec<&str>) = wanted.iter().copied().partition(has);
    let Some(parent) = cgroup.parent().filter(|_| !missing.is_empty()) else {
        return Ok(there);
    };
    let above = enable(parent, &missing, refusals)?;
    there.extend(hand_down(parent, &above, refusals));
    Ok(there)
}

/// Has a cgroup that was just made hand down all that it has itself: it is there for those below it, which may
/// want what no limit asks for yet.
pub(super) fn pass_on(cgroup: &Path) {
    // There is no such file in v1.
    let Ok(text) = read_file(&cgroup.join("cgroup.controllers")) else { return };
    let all: Vec<&str> = text.split_ascii_whitespace().collect();
    hand_down(cgroup, &all, &mut Vec::new());
}

/// Writes to `cgroup.subtree_control`; returns what the kernel took.
fn hand_down<'a>(parent: &Path, controllers: &[&'a str], refusals: &mut Vec<Refusal>) -> Vec<&'a str> {
    if controllers.is_empty() {
        return Vec::new();
    }
    let mut refuse = |name: &str, error| refusals.push(Refusal { controller: name.to_owned(), error });
    let internal = |name: &str| CgroupError::InternalProcesses { controller: name.to_owned(), path: parent.to_owned() };
    if holds_processes(parent) {
        controllers.iter().for_each(|name| refuse(name, internal(name)));
        return Vec::new();
    }
    let write = |names: &[&str]| {
        let value: String = names.iter().map(|name| format!("+{name} ")).collect();
        write_file(&parent.join("cgroup.subtree_control"), value.trim_end())
    };
    // One write for all; a single one that is refused must not take the others with it.
    if write(controllers).is_ok() {
        return controllers.to_vec();
    }
    let mut taken = Vec::new();
    for &name in controllers {
        match write(&[name]) {
            Ok(()) => taken.push(name),
            Err(Errno::EBUSY) => refuse(name, internal(name)),
            Err(errno) => {
                let (controller, path) = (name.to_owned(), parent.to_owned());
                refuse(name, CgroupError::Enable { controller, path, source: errno.into() });
            }
        }
    }
    taken
}

/// Whether a cgroup, not the root, has processes itself.
///
/// It could still hand down those controllers that tell threads apart (cgroups(7), "Threaded mode"). But then it
/// is the root of a threaded tree, and no process can join the cgroups below.
fn holds_processes(cgroup: &Path) -> bool {
    cgroup.join("cgroup.type").exists() && read_file(&cgroup.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
}

/// Enables what the settings need below v2, or says why that cannot be.
pub(super) fn require(cgroup: &Path, settings: &[&Setting]) -> Result<(), CgroupError> {
    // files that are not a controller's are there always
    let needed = |setting: &&&Setting| setting.controller != "cgroup";
    let mut wanted: Vec<&str> = settings.iter().filter(needed).map(|setting| &*setting.controller).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut refusals = Vec::new();
    let there = enable(cgroup, &wanted, &mut refusals)?;
    let Some(missing) = settings.iter().filter(needed).find(|setting| !there.contains(&&*setting.controller)) else {
        return Ok(());
    };
    let refusal = refusals.into_iter().find(|refusal| refusal.controller == missing.controller);
    Err(refusal.map_or_else(
        || CgroupError::MissingController {
            controller: missing.controller.to_string(),
            file: missing.file.to_string(),
            path: cgroup.to_owned(),
        },
        |refusal| refusal.error,
    ))
}
