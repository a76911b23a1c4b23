// SPDX-License-Identifier: Apache-2.0
//! Whose a container's cgroup is.

use std::path::Path;

use ctr_sys::mount::MOUNT_ATTR_RDONLY;
use oci_spec::runtime::Spec;

use super::{MountKind, MountPlan, NamespacePlan};

/// The host's user that a container's cgroup is to belong to: who its process is, if it has a cgroup
/// namespace and may write to the cgroups that it sees (runtime-spec, config-linux, "Cgroup ownership").
pub(super) fn cgroup_owner(spec: &Spec, namespaces: &NamespacePlan, mounts: &[MountPlan]) -> Option<u32> {
    let writable = |mount: &MountPlan| {
        mount.kind == MountKind::Cgroup
            && mount.destination == Path::new("sys/fs/cgroup")
            && mount.options.attributes.set & MOUNT_ATTR_RDONLY == 0
    };
    if !namespaces.is_private(libc::CLONE_NEWCGROUP) || !mounts.iter().any(writable) {
        return None;
    }
    let user = spec.process().as_ref().map_or(0, |process| process.user().uid());
    match &namespaces.user {
        Some(mappings) => mappings.uids.iter().find_map(|map| {
            let offset = user.checked_sub(map.container).filter(|offset| *offset < map.size)?;
            map.host.checked_add(offset)
        }),
        // of one that is joined nothing is known
        None if namespaces.is_private(libc::CLONE_NEWUSER) => None,
        None => Some(user),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Caller, Plan};
    use crate::cgroup::Manager;

    fn owner(namespaces: Value, options: &[&str], uid: u32) -> Option<u32> {
        let mappings = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        let spec = json!({
            "ociVersion": "1.2.0", "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["a"], "user": {"uid": uid, "gid": 0}},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}],
            "linux": {"namespaces": namespaces, "uidMappings": mappings, "gidMappings": mappings}
        });
        let caller = Caller { rootless: false, manager: Manager::Cgroupfs };
        let spec = serde_json::from_value(spec).expect("test JSON");
        Plan::new("x", "/bundle".as_ref(), &spec, caller).expect("a plan").cgroup.owner
    }

    #[test]
    fn a_cgroup_belongs_to_a_container_that_sees_no_other_and_may_write() {
        let with = |kinds: &[&str]| json!(kinds.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>());
        let all = with(&["mount", "cgroup", "user"]);
        assert_eq!(owner(all.clone(), &["nosuid"], 0), Some(100_000));
        assert_eq!(owner(all.clone(), &[], 999), Some(100_999));
        assert_eq!(owner(all.clone(), &[], 1000), None, "not mapped");
        assert_eq!(owner(all, &["ro"], 0), None);
        assert_eq!(owner(with(&["mount", "user"]), &[], 0), None, "the host's cgroups are in sight");
        let joined = json!([{"type": "mount"}, {"type": "cgroup"}, {"type": "user", "path": "/x"}]);
        assert_eq!(owner(joined, &[], 0), None);
    }
}
