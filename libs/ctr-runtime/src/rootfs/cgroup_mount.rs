// SPDX-License-Identifier: Apache-2.0
//! Mounts of type cgroup: what a container sees of cgroups.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ctr_sys::mount::{self, Attributes, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use nix::fcntl::AT_FDCWD;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::symlinkat;

use crate::cgroup::Cgroup;
use crate::plan::{MountPlan, NamespacePlan};
use crate::process::report::{Step, StepResult};
use crate::rootfs::beneath::Root;
use crate::rootfs::file_system::{create_file_system, explain};
use crate::rootfs::mounting::Mounter;

/// One of the container's cgroups, and what it is called below a mount of type cgroup.
#[derive(Debug)]
pub(crate) struct CgroupMount {
    /// The directory there; none when there is one hierarchy, which takes the place of the whole.
    name: String,
    /// The host's directory.
    path: PathBuf,
    /// Other names of the same hierarchy: `cpu` and `cpuacct` of `cpu,cpuacct`.
    aliases: Vec<String>,
}

impl CgroupMount {
    /// Its directory below a mount of type cgroup, empty when it takes the place of the whole, and the host's.
    pub(crate) fn place(&self) -> (&str, &Path) {
        (&self.name, &self.path)
    }

    /// How a container sees its cgroup: as it is in its cgroup namespace, or, in that of the runtime and where there
    /// is v2 alone, among all others.
    pub(crate) fn of(cgroup: &Cgroup, namespaces: &NamespacePlan) -> Vec<Self> {
        let mut by_path: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for (name, path) in cgroup.seen() {
            by_path.entry(path).or_default().push(name);
        }
        let only_v2 = by_path.len() == 1 && cgroup.v2_path().is_some();
        let mount = |(path, names): (PathBuf, Vec<String>)| match &names[..] {
            [unified] if unified.is_empty() && only_v2 => {
                let path = if namespaces.is_private(libc::CLONE_NEWCGROUP) { path } else { top_of(&path) };
                Self { name: String::new(), path, aliases: Vec::new() }
            }
            [unified] if unified.is_empty() => Self { name: "unified".to_owned(), path, aliases: Vec::new() },
            [one] => Self { name: one.trim_start_matches("name=").to_owned(), path, aliases: Vec::new() },
            several => Self { name: several.join(","), path, aliases: names.clone() },
        };
        by_path.into_iter().map(mount).collect()
    }
}

/// The directory that the hierarchy of a cgroup is mounted on.
fn top_of(cgroup: &Path) -> PathBuf {
    let is_of_hierarchy = |path: &&Path| statfs(*path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    cgroup.ancestors().take_while(is_of_hierarchy).last().unwrap_or(cgroup).to_owned()
}

/// Mounts cgroups. A bind of the directory costs a tenth of a new mount of the hierarchy, which waits for the cgroup
/// lock; and a new mount without the host's options takes them away from the hierarchy.
pub(crate) fn mount_cgroups(mounter: &Mounter<'_>, planned: &MountPlan) -> StepResult<OwnedFd> {
    let failed = || format!("mount cgroup to /{}", planned.destination.display());
    let attributes = planned.options.attributes.set;
    let bind = |path: &Path| {
        let tree = mount::clone_tree(AT_FDCWD, path, false).step_with(|| format!("bind {}", path.display()))?;
        let change = Attributes { set: attributes, ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), false, change).step_with(failed)?;
        Ok(tree)
    };
    let target = match mounter.existing_target(planned, true)? {
        Some(target) => target,
        None => mounter.new_target(planned, true)?,
    };
    if let [unified] = mounter.cgroups
        && unified.name.is_empty()
    {
        let tree = bind(&unified.path)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).step_with(failed)?;
        return Ok(tree);
    }
    let safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let mut data = vec!["mode=755".to_owned()];
    data.extend(planned.label.iter().map(|label| format!("context={label}")));
    let tmpfs = create_file_system("tmpfs", "tmpfs", &data, safe).map_err(|why| explain(planned, "tmpfs", why))?;
    // Linux before 6.15 mounts nothing on what is not attached.
    mount::move_mount(tmpfs.as_fd(), target.as_fd()).step_with(failed)?;
    let inside = Root(tmpfs.as_fd());
    for cgroup in mounter.cgroups {
        let directory = inside.make_dir(Path::new(&cgroup.name)).step_with(failed)?;
        mount::move_mount(bind(&cgroup.path)?.as_fd(), directory.as_fd()).step_with(failed)?;
        for alias in &cgroup.aliases {
            symlinkat(cgroup.name.as_str(), &tmpfs, alias.as_str()).step_with(failed)?;
        }
    }
    if attributes & MOUNT_ATTR_RDONLY != 0 {
        mount::make_read_only(&tmpfs).step_with(failed)?;
    }
    Ok(tmpfs)
}
