// SPDX-License-Identifier: Apache-2.0
//! From a record to bundles: what is read once, and what is made for each container.

use std::path::PathBuf;

use ctr_cli::{Context, Error};
use ctr_record::{ErrorKind, Record};
use ctr_store::StateDir;
use ctr_store::bundle::{Bundle, Bundles, StagedBundle, lower_directories};
use serde_json::{Value, json};

use crate::args::Args;
use crate::default_spec::default_spec;
use crate::image_config::ImageConfig;
use crate::mounts::{self, Wanted};
use crate::patch::Patch;
use crate::rootfs::Rootfs;
use crate::user::User;
use crate::{capabilities, devices, metadata, namespaces, process, resources, security, spec, volumes};

/// All that the containers of one record have in common.
pub(crate) struct Recipe<'a> {
    args: &'a Args,
    patches: &'a [Patch],
    record: &'a Record,
    image: ImageConfig,
    /// The plain directory of `--rootfs`.
    directory: Option<PathBuf>,
    rootfs: Rootfs,
    user: User,
    mounts: Vec<Wanted>,
}

impl<'a> Recipe<'a> {
    /// Reads the image's config and looks up its user.
    pub(crate) fn read(
        args: &'a Args,
        patches: &'a [Patch],
        state: &StateDir,
        record: &'a Record,
    ) -> Result<Self, Error> {
        let image = match &record.image {
            Some(image) => ImageConfig::read(state, &image.config)?,
            None => ImageConfig::default(),
        };
        let directory = args.rootfs.as_deref().map(std::path::absolute).transpose()?;
        let layers = match (&directory, &record.snapshot) {
            (Some(directory), _) if directory.is_dir() => vec![directory.clone()],
            (Some(directory), _) => {
                let message = format!("--rootfs {} is not a directory", directory.display());
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            (None, Some(snapshot)) => lower_directories(&snapshot.mounts)?,
            (None, None) => {
                let error = Error::new(ErrorKind::Invalid, "the record has no snapshot");
                return Err(error.with_hint("ctr-unpack adds it"));
            }
        };
        let rootfs = Rootfs::of(layers);
        let user = User::look_up(&rootfs, args.user.as_deref().unwrap_or(&image.run.user), &args.add_group)?;
        Ok(Self { args, patches, record, image, directory, rootfs, user, mounts: mounts::wanted(args)? })
    }

    /// The image's labels that are not passed on, because a runtime would act on them.
    pub(crate) fn labels_left_out(&self) -> Vec<&str> {
        self.image.annotations().1
    }

    /// Makes the bundle of one container.
    pub(crate) fn make(&self, bundles: &Bundles, id: &str) -> Result<Bundle, Error> {
        let staged = bundles.stage(id)?;
        let mounts = match (&self.directory, &self.record.snapshot) {
            (None, Some(snapshot)) => Some([staged.make_writable("", &snapshot.mounts)?]),
            _ => None,
        };
        let config = self.config(id, &staged)?;
        if mounts.is_some() && ctr_sys::process::is_root() {
            // The root directory is the container's root's, or it could make nothing there.
            let map = |list: &str, id: u32| namespaces::mapped(&config["linux"][list], id);
            staged.map_root(|uid| map("uidMappings", uid), |gid| map("gidMappings", gid))?;
        }
        Ok(staged.commit(config.to_string().as_bytes(), mounts.as_ref().map(<[_; 1]>::as_slice))?)
    }

    fn config(&self, id: &str, staged: &StagedBundle) -> Result<Value, Error> {
        let (args, image) = (self.args, &self.image.run);
        let mut config = default_spec(&self.record.namespace, id);
        if let Some(directory) = &self.directory {
            config["root"]["path"] = json!(directory);
        }
        process::set_args(&mut config, args, image);
        process::set_env(&mut config, args, image)?;
        process::set_cwd(&mut config, args, image)?;
        process::set_terminal(&mut config, args);
        process::set_rlimits(&mut config, args)?;
        config["process"]["user"] = self.user.to_json();

        namespaces::set_namespaces(&mut config, args)?;
        namespaces::set_user_namespace(&mut config, args)?;
        namespaces::set_hostname(&mut config, args, id)?;
        namespaces::set_sysctls(&mut config, args)?;

        mounts::set_read_only(&mut config, args);
        mounts::set_shm(&mut config, args)?;
        security::set_privileged(&mut config, args);
        let declared = image.volumes.keys().map(String::as_str);
        volumes::add_volumes(&mut config, declared, &self.mounts, &self.rootfs, staged)?;
        mounts::add_mounts(&mut config, &self.mounts);
        devices::add_devices(&mut config, args)?;

        capabilities::set_capabilities(&mut config, args)?;
        security::set_no_new_privileges(&mut config, args);
        security::set_paths(&mut config, args)?;
        security::set_seccomp(&mut config, args)?;

        resources::set_cgroup_path(&mut config, args);
        resources::set_memory(&mut config, args)?;
        resources::set_cpu(&mut config, args)?;
        resources::set_pids(&mut config, args)?;
        metadata::set_annotations(&mut config, args, &self.image)?;

        for patch in self.patches {
            patch.apply(&mut config)?;
        }
        spec::check(&config).unable_to(|| match self.patches {
            [] => "make a valid config.json",
            _ => "make a valid config.json with --patch",
        })?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
