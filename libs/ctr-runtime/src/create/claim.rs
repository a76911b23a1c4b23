// SPDX-License-Identifier: Apache-2.0
//! What a container has before it has a process: its record, its cgroup, and what else belongs to the machine.

use ctr_record::Timestamp;

use crate::RuntimeError;
use crate::cgroup::{Cgroup, Holder, Manager};
use crate::create::undo::Undo;
use crate::intel_rdt::RdtGroup;
use crate::plan::Plan;
use crate::spec::Config;
use crate::state::{ContainerDir, State};
use crate::timing::{self, Stage};

/// Records what is going to be, and makes the container's cgroup with its limits, and what else belongs to the
/// machine. A holder is to be kept until a process is in the cgroup.
pub(crate) fn resources(
    dir: &ContainerDir,
    plan: &Plan,
    state: &mut State,
    undo: &mut Undo<'_>,
) -> Result<Option<Holder>, RuntimeError> {
    let hierarchies = plan.cgroup.hierarchies()?;
    state.cgroup = Cgroup::planned(&hierarchies, &plan.cgroup)?;
    state.intel_rdt = plan.intel_rdt.as_ref().map(|rdt| RdtGroup::plan(rdt, &plan.id)).transpose()?;
    dir.save(state)?;
    timing::mark(Stage::Claim);
    if let (Some(rdt), Some(planned)) = (&plan.intel_rdt, state.intel_rdt.take()) {
        let group = undo.intel_rdt.insert(planned);
        group.establish(rdt)?;
        state.intel_rdt = Some(group.clone());
        dir.save(state)?;
    }
    let (cgroup, mut holder) = Cgroup::establish(&hierarchies, &plan.cgroup)?;
    let cgroup = undo.cgroup.insert(cgroup);
    state.cgroup_is_made = true;
    match state.cgroup == *cgroup {
        true => dir.record_cgroup()?,
        false => {
            state.cgroup = cgroup.clone();
            dir.save(state)?;
        }
    }
    cgroup.limit(&plan.cgroup)?;
    holder.as_mut().map_or(Ok(()), |holder| holder.make_room(cgroup))?;
    Ok(holder)
}

/// What is recorded of a container of which there is nothing yet.
pub(crate) fn new_state(plan: &Plan, config: &Config, cgroup_manager: Manager) -> State {
    State {
        oci_version: config.spec.version().clone(),
        id: plan.id.clone(),
        pid: 0,
        pid_start_time: 0,
        pid_inode: None,
        bundle: plan.bundle.clone(),
        rootfs: plan.rootfs.path.clone(),
        created: Timestamp::now(),
        owner: nix::unistd::geteuid().as_raw(),
        annotations: config.spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        cgroup: Cgroup::none(),
        cgroup_is_made: false,
        complete: false,
        cgroup_manager,
        no_new_keyring: false,
        restored: false,
        intel_rdt: None,
        shares_pids: !plan.namespaces.is_private(libc::CLONE_NEWPID),
        hooks: plan.hooks.clone(),
    }
}
