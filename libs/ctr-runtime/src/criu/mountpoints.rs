// SPDX-License-Identifier: Apache-2.0
//! The places that criu mounts on, made in the root as the container's own start makes them.
//!
//! The root is a detached tree here, and nothing is mounted on it: a place below a bind mount is made in what
//! is bound.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::observe::path_of;
use crate::RuntimeError;
use crate::plan::{MountKind, MountPlan, Plan};
use crate::rootfs::beneath::{Root, is_dir};

/// Makes what is missing of the places that the plan's mounts are on, and says where those of outside, `external`,
/// really are.
pub(super) fn prepare(
    plan: &Plan,
    root: BorrowedFd<'_>,
    external: &[(PathBuf, PathBuf)],
) -> Result<Vec<(PathBuf, PathBuf)>, RuntimeError> {
    let mut places = Places { root, binds: Vec::new() };
    for (index, mount) in plan.mounts.iter().enumerate() {
        // criu brings a file system's content with it, and what is in the kernel's own is there already.
        let inside = plan.mounts[..index].iter().rfind(|earlier| {
            mount.destination != earlier.destination && mount.destination.starts_with(&earlier.destination)
        });
        let restored = inside.is_some_and(|earlier| !matches!(earlier.kind, MountKind::Bind { .. }));
        if !restored && !matches!(mount.kind, MountKind::Cgroup) {
            places.make(mount)?;
        }
    }
    Ok(external.iter().map(|(place, source)| (places.resolve(place), source.clone())).collect())
}

struct Places<'a> {
    root: BorrowedFd<'a>,
    binds: Vec<Bind>,
}

struct Bind {
    /// As the config has it.
    place: PathBuf,
    /// With its symlinks followed.
    real: PathBuf,
    source: OwnedFd,
}

impl Places<'_> {
    fn make(&mut self, mount: &MountPlan) -> Result<(), RuntimeError> {
        let copied = |source: &Path| mount.options.copy_symlink && source.is_symlink();
        if matches!(&mount.kind, MountKind::Bind { source, .. } if copied(source)) {
            return Ok(()); // it is no mount, but a link that is there
        }
        let place = Path::new("/").join(&mount.destination);
        let failed = || RuntimeError::io("make the mount point", &place);
        let source = match &mount.kind {
            MountKind::Bind { source, .. } => {
                let opened = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
                let failed = RuntimeError::io("open the source of a bind mount", source);
                Some(opened.map_err(|errno| failed(errno.into()))?)
            }
            _ => None,
        };
        let is_file = source.as_ref().map(is_dir).transpose().map_err(failed())? == Some(false);
        let make = |path: &Path| {
            let (under, _, rest) = self.find(path);
            if is_file { under.make_file(&rest) } else { under.make_dir(&rest) }.map_err(failed())
        };
        make(&place)?;
        let real = self.resolve(&place);
        // Links may have led to where something is bound.
        make(&real)?;
        self.binds.extend(source.map(|source| Bind { place, real, source }));
        Ok(())
    }

    /// The path of a place once its symlinks are followed, from the root.
    fn resolve(&self, place: &Path) -> PathBuf {
        let (under, base, rest) = self.find(&Path::new("/").join(place));
        let top = under.open(Path::new(""), OFlag::O_PATH).ok().and_then(|fd| path_of(&fd));
        let real = under.open(&rest, OFlag::O_PATH).ok().and_then(|fd| path_of(&fd));
        let relative = real.zip(top).and_then(|(real, top)| Some(real.strip_prefix(top).ok()?.to_owned()));
        base.join(relative.unwrap_or(rest))
    }

    // The tree that a place is in, where that is, and where the place is in it.
    fn find(&self, place: &Path) -> (Root<'_>, &Path, PathBuf) {
        let below = |base: &Path| place.strip_prefix(base).ok().filter(|rest| !rest.as_os_str().is_empty());
        let found = self.binds.iter().rev().find_map(|bind| {
            let rest = below(&bind.place).or_else(|| below(&bind.real))?;
            Some((Root(bind.source.as_fd()), bind.real.as_path(), rest.to_owned()))
        });
        let in_root = || place.strip_prefix("/").unwrap_or(place).to_owned();
        found.unwrap_or_else(|| (Root(self.root), Path::new("/"), in_root()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::super::request;
    use super::*;
    use crate::cgroup::Manager;
    use crate::plan::Caller;

    #[test]
    fn places_are_made_through_links_and_in_what_is_bound() {
        let dir = std::env::temp_dir().join(format!("ctr-criu-places-{}", std::process::id()));
        for name in ["rootfs/real/conf", "one", "two"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("file"), "").unwrap();
        symlink("/real/conf", dir.join("rootfs/conf")).unwrap();
        let bind = |source: &str, place: &str| json!({"destination": place, "source": source, "options": ["bind"]});
        let mounts = json!([
            bind("one", "/conf"), bind("two", "/conf/for/nested"), bind("file", "/conf/for/file"),
            {"destination": "/tmp", "type": "tmpfs"}, bind("one", "/tmp/inside"),
            {"destination": "/sys/fs/cgroup", "type": "cgroup"}
        ]);
        let spec = json!({
            "ociVersion": "1.2.0", "root": {"path": "rootfs"}, "mounts": mounts,
            "linux": {"namespaces": [{"type": "mount"}]}
        });
        let plan = Plan::new(
            "x",
            &dir,
            &serde_json::from_value(spec).unwrap(),
            Caller { rootless: false, manager: Manager::default() },
        )
        .unwrap();
        let root = File::open(dir.join("rootfs")).unwrap();
        let external = request::external_mounts(&plan, &[]);
        let found = prepare(&plan, root.as_fd(), &external).unwrap();
        let places: Vec<&str> = found.iter().map(|(place, _)| place.to_str().unwrap()).collect();
        assert_eq!(
            places,
            ["/real/conf", "/conf/for/nested", "/conf/for/file", "/tmp/inside"]
                .map(|place| { place.replace("/conf/for", "/real/conf/for") })
        );
        assert!(dir.join("one/for/nested").is_dir() && dir.join("one/for/file").is_file());
        assert!(dir.join("rootfs/tmp").is_dir());
        for missing in ["rootfs/tmp/inside", "rootfs/sys", "rootfs/real/conf/for"] {
            assert!(!dir.join(missing).exists(), "{missing}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
