// SPDX-License-Identifier: Apache-2.0
//! A bundle's `mounts.json`: the root file system as mounts that the container performs for itself.
//!
//! Layers are opened first and named `/proc/self/fd/N` from then on, so that neither the kernel's page
//! of mount data nor a long path of a state directory limits how many there can be.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ctr_record::Mount;
use ctr_sys::mount::{self, Attributes, FsContext};
use ctr_sys::process::{Clone3, spawn};
use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;

use crate::RuntimeError;
use crate::plan::MountOptions;
use crate::process::report::{Channel, InitFailure, Message, Step, StepResult};
use crate::rootfs::open_directory;

#[derive(serde::Deserialize)]
struct MountsFile {
    mounts: Vec<Mount>,
}

/// Reads how the container mounts its own root; a bundle that says nothing of it has a directory.
pub(crate) fn read_layers(bundle: &Path) -> Result<Vec<Mount>, RuntimeError> {
    let path = bundle.join("mounts.json");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let file: MountsFile =
                serde_json::from_slice(&bytes).map_err(|source| RuntimeError::Json { path, source })?;
            Ok(file.mounts)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(RuntimeError::io("read", &path)(error)),
    }
}

/// Mounts each of `layers` on top of the one before; the result is detached except for what is below.
pub(crate) fn mount_layers(
    layers: &[Mount],
    target: &OwnedFd,
    user_namespace: Option<BorrowedFd<'_>>,
) -> StepResult<OwnedFd> {
    let (last, below) = layers.split_last().ok_or_else(|| InitFailure::finding("mounts.json has no mounts"))?;
    if user_namespace.is_some() && !below.is_empty() {
        // They would be attached where the caller is, which is the host.
        return Err(InitFailure::finding("mounts.json has several mounts: a user namespace takes one"));
    }
    for layer in below {
        let tree = mount_layer(layer, target, user_namespace)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).step("attach a mount of mounts.json")?;
    }
    mount_layer(last, target, user_namespace)
}

/// Performs a bundle's `mounts.json` on a directory of the host, for a runtime that does not do it itself.
pub fn mount_on_host(layers: &[Mount], directory: &Path) -> Result<(), RuntimeError> {
    let failed = || format!("mount on {}", directory.display());
    let target = open_directory(directory).step_with(failed)?;
    let root = mount_layers(layers, &target, None)?;
    mount::move_mount(root.as_fd(), target.as_fd()).step_with(failed)?;
    Ok(())
}

fn mount_layer(layer: &Mount, target: &OwnedFd, user_namespace: Option<BorrowedFd<'_>>) -> StepResult<OwnedFd> {
    match layer.kind.as_str() {
        "overlay" => mount_overlay(layer, target, user_namespace),
        "bind" => {
            let options = MountOptions::parse(&layer.options);
            let failed = || format!("bind {}", layer.source);
            let source = Path::new(&layer.source);
            let tree = mount::clone_tree(AT_FDCWD, source, options.bind == Some(true)).step_with(failed)?;
            let (set, clear) = (options.attributes.set, options.attributes.clear);
            let change = Attributes { set, clear, propagation: 0, user_namespace };
            mount::set_attributes(tree.as_fd(), false, change).step_with(failed)?;
            Ok(tree)
        }
        other => Err(InitFailure::finding(format!("mounts.json has a mount of type {other:?}: only overlay and bind"))),
    }
}

fn mount_overlay(layer: &Mount, target: &OwnedFd, user_namespace: Option<BorrowedFd<'_>>) -> StepResult<OwnedFd> {
    match user_namespace {
        None => assemble(layer, Some(target), None),
        Some(_) => match assemble(layer, None, user_namespace) {
            Err(InitFailure { errno: Some(libc::EINVAL), .. }) => assemble_apart(layer, target, user_namespace),
            result => result,
        },
    }
}

/// Mounts an overlay whose mapped layers have to be attached somewhere, as before Linux 6.15: in a mount namespace
/// that nobody else sees, and that is gone with the process which is alone in it.
fn assemble_apart(layer: &Mount, target: &OwnedFd, user_namespace: Option<BorrowedFd<'_>>) -> StepResult<OwnedFd> {
    let what = "mount the container's layers in a mount namespace of their own";
    let place = target.as_raw_fd();
    let assemble = || {
        let nothing = None::<&str>;
        nix::mount::mount(nothing, "/", nothing, MsFlags::MS_PRIVATE | MsFlags::MS_REC, nothing).step(what)?;
        // The descriptor leads to the mount of the namespace that was left.
        let place = std::fs::read_link(format!("/proc/self/fd/{place}")).step(what)?;
        assemble(layer, Some(&open_directory(&place).step(what)?), user_namespace)
    };
    let (ours, theirs) = Channel::pair().step(what)?;
    let child = spawn(Clone3 { flags: libc::CLONE_NEWNS as u64, cgroup: None }, || {
        let answer = assemble().map_or_else(Message::Failed, Message::Root);
        i32::from(theirs.send(&answer).is_err())
    });
    let child = child.step(what)?;
    drop(theirs);
    let answer = ours.receive();
    let _ = nix::sys::wait::waitpid(child.pid, None);
    match answer.step(what)? {
        Some(Message::Root(root)) => Ok(root),
        Some(Message::Failed(failure)) => Err(failure),
        _ => Err(InitFailure::finding(format!("{what}: the process that does it has died"))),
    }
}

/// Mounts an overlay. `place` is a directory of this mount namespace on which what has to be attached can be.
fn assemble(layer: &Mount, place: Option<&OwnedFd>, user_namespace: Option<BorrowedFd<'_>>) -> StepResult<OwnedFd> {
    let options = MountOptions::parse(&layer.options);
    let mut opened = Vec::new();
    let mut lowers = Vec::new();
    let mut rest = Vec::new();
    for option in options.data.iter().chain(&options.superblock) {
        let failed = || format!("open a directory of the overlay option {option:?}");
        match option.split_once('=') {
            Some(("lowerdir", list)) => {
                for lower in split_lowers(list) {
                    let fd = open_lower(&lower, place, user_namespace).step_with(failed)?;
                    lowers.push(by_descriptor(fd, &mut opened));
                }
            }
            Some((key @ ("upperdir" | "workdir"), path)) => {
                let fd = open_directory(Path::new(path)).step_with(failed)?;
                rest.push((key, Some(by_descriptor(fd, &mut opened))));
            }
            Some((key, value)) => rest.push((key, Some(value.to_owned()))),
            None => rest.push((option.as_str(), None)),
        }
    }
    let context = FsContext::open("overlay").step("mount an overlay")?;
    let configure = || {
        context.set_string("source", &layer.source)?;
        set_lowers(&context, &lowers)?;
        for (key, value) in &rest {
            match value {
                Some(value) => context.set_string(key, value)?,
                None => context.set_flag(key)?,
            }
        }
        context.mount(options.attributes.set)
    };
    match (configure(), place) {
        (Err(error), Some(place)) if error.raw_os_error() == Some(libc::EINVAL) && lowers.len() > FEW => {
            mount_by_string(&lowers, &rest, &options, place)
        }
        (result, _) => result.step_with(|| {
            let why = context.complaint().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("mount the container's layers{why}")
        }),
    }
}

// fsconfig takes values of up to 255 bytes; more layers go one by one, which Linux 6.7 learned.
const FEW: usize = 12;

fn set_lowers(context: &FsContext, lowers: &[String]) -> std::io::Result<()> {
    match lowers.len() > FEW {
        false => context.set_string("lowerdir", &lowers.join(":")),
        true => lowers.iter().try_for_each(|lower| context.set_string("lowerdir+", lower)),
    }
}

// Many layers on an older kernel: mount(2) takes a page of options.
fn mount_by_string(
    lowers: &[String],
    rest: &[(&str, Option<String>)],
    options: &MountOptions,
    target: &OwnedFd,
) -> StepResult<OwnedFd> {
    let mut data = format!("lowerdir={}", lowers.join(":"));
    for (key, value) in rest {
        data.push(',');
        data.push_str(key);
        if let Some(value) = value {
            data.push('=');
            data.push_str(value);
        }
    }
    let failed = || format!("mount the container's {} layers", lowers.len());
    let place = format!("/proc/self/fd/{}", target.as_raw_fd());
    let flags = MsFlags::empty();
    nix::mount::mount(Some("overlay"), place.as_str(), Some("overlay"), flags, Some(data.as_str()))
        .step_with(failed)?;
    // The magic link still leads below the new mount; only the path reaches it.
    let path = std::fs::read_link(&place).step_with(failed)?;
    let tree = mount::clone_tree(AT_FDCWD, &path, false).step_with(failed)?;
    // This may be the host's mount namespace.
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).step_with(failed)?;
    let change = Attributes { set: options.attributes.set, ..Attributes::default() };
    mount::set_attributes(tree.as_fd(), false, change).step_with(failed)?;
    Ok(tree)
}

fn open_lower(
    path: &Path,
    place: Option<&OwnedFd>,
    user_namespace: Option<BorrowedFd<'_>>,
) -> std::io::Result<OwnedFd> {
    if user_namespace.is_none() {
        return Ok(open_directory(path)?);
    }
    let tree = mount::clone_tree(AT_FDCWD, path, false)?;
    mount::set_attributes(tree.as_fd(), false, Attributes { user_namespace, ..Attributes::default() })?;
    // One on top of the other: they are reached by their descriptors.
    place.map_or(Ok(()), |place| mount::move_mount(tree.as_fd(), place.as_fd()))?;
    Ok(tree)
}

fn by_descriptor(fd: OwnedFd, opened: &mut Vec<OwnedFd>) -> String {
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    opened.push(fd);
    name
}

// Colons separate, a backslash takes the next character as it is.
fn split_lowers(list: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut current = Vec::new();
    let mut bytes = list.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => current.extend(bytes.next()),
            b':' => all.push(std::mem::take(&mut current)),
            byte => current.push(byte),
        }
    }
    all.push(current);
    all.into_iter().filter(|path| !path.is_empty()).map(|path| OsString::from_vec(path).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_directories_are_separated_by_colons_that_are_not_escaped() {
        assert_eq!(split_lowers(r"/a:/b\:c:/d\\e"), [Path::new("/a"), Path::new("/b:c"), Path::new(r"/d\e")]);
    }
}
