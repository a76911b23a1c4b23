// SPDX-License-Identifier: Apache-2.0
//! The directory of a checkpoint's images: made for a new one, and distrusted when it comes from elsewhere.
//!
//! Images may have come in an archive that anybody wrote. criu opens them by name and follows links, so that
//! a link among them would show the container any file of the host as its memory (CVE-2026-53489).

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::RuntimeError;

/// The link to the images of the pre-dump before, which criu makes itself.
const PARENT: &str = "parent";
/// How many pre-dumps in a row are followed.
const MAX_PARENTS: usize = 64;

/// Makes the directory of images or of criu's other files, readable to nobody else: it holds a memory.
pub(super) fn create_directory(path: &Path) -> Result<(), RuntimeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(RuntimeError::io("make the directory", path))
}

/// Checks the path to the images of an earlier pre-dump.
pub(super) fn check_parent(images: &Path, parent: &Path) -> Result<(), RuntimeError> {
    let refuse = |reason: String| Err(RuntimeError::config("--parent-path", reason));
    if parent.is_absolute() {
        return refuse(format!("{} must be relative to the directory of the images", parent.display()));
    }
    match fs::metadata(images.join(parent)) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => refuse(format!("{} is no directory", parent.display())),
        Err(error) => refuse(format!("invalid {}: {error}", parent.display())),
    }
}

/// Refuses a directory of images in which something is not a file of its own. Returns it and those of the
/// pre-dumps before.
pub(super) fn check_images(path: &Path) -> Result<Vec<PathBuf>, RuntimeError> {
    let mut all = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..MAX_PARENTS {
        all.push(path.clone());
        match has_parent(&path)? {
            false => return Ok(all),
            true => path.push(PARENT),
        }
    }
    Err(hostile(&path, "it has too many parents, or is its own"))
}

/// Directories of images that a group may search as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Opened(Vec<(File, Metadata)>);

impl Opened {
    /// Opens them for the root of a user namespace, as which criu reads images there: it may read the files, as
    /// anybody may who gets at them, and is kept from the directory like everybody.
    pub(super) fn to(group: u32, directories: &[PathBuf]) -> Result<Self, RuntimeError> {
        let mut opened = Self::default();
        for path in directories {
            let open = || -> io::Result<(File, Metadata)> {
                let directory = File::open(path)?;
                let before = directory.metadata()?;
                Ok((directory, before))
            };
            let (directory, before) = open().map_err(RuntimeError::io("open the directory", path))?;
            let mode = before.mode() & 0o7777;
            opened.0.push((directory, before));
            let (directory, _) = opened.0.last().expect("it was just added");
            fchown(directory, None, Some(group))
                .and_then(|()| directory.set_permissions(Permissions::from_mode(mode & !0o070 | 0o010)))
                .map_err(RuntimeError::io("let the container's root search", path))?;
        }
        Ok(opened)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        for (directory, before) in self.0.drain(..).rev() {
            // The mode first: the group that it is for is still the other one.
            let _ = directory.set_permissions(before.permissions());
            let _ = fchown(&directory, None, Some(before.gid()));
        }
    }
}

// Checks what is in one directory; whether that has the images of an earlier pre-dump.
fn has_parent(path: &Path) -> Result<bool, RuntimeError> {
    let read = || RuntimeError::io("read the images in", path);
    let mut parent = false;
    for entry in fs::read_dir(path).map_err(read())? {
        let entry = entry.map_err(read())?;
        let kind = entry.file_type().map_err(read())?;
        if kind.is_symlink() && entry.file_name() == PARENT {
            // As `--parent-path` is given.
            if fs::read_link(entry.path()).map_err(read())?.is_absolute() {
                return Err(hostile(&entry.path(), "it is not relative"));
            }
            parent = true;
        } else if kind.is_symlink() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            return Err(hostile(&entry.path(), "it is not a file"));
        }
    }
    Ok(parent)
}

fn hostile(path: &Path, reason: &'static str) -> RuntimeError {
    RuntimeError::HostileImage { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ctr-criu-images-{name}-{}", std::process::id()));
        for name in ["images", "before"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("pages-1.img"), "x").unwrap();
        }
        dir
    }

    #[test]
    fn cve_2026_53489_links_among_the_images_are_refused() {
        let dir = scratch("links");
        let images = dir.join("images");
        symlink("../before", images.join(PARENT)).unwrap();
        check_images(&images).unwrap();
        symlink("/etc/shadow", dir.join("before/pages-2.img")).unwrap();
        let refused = check_images(&images).unwrap_err().to_string();
        assert!(refused.contains("pages-2.img"), "{refused}");
        fs::remove_file(dir.join("before/pages-2.img")).unwrap();
        nix::unistd::mkfifo(&images.join("core-1.img"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(check_images(&images).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_group_may_search_them_for_a_while() {
        let dir = scratch("opened");
        let own = dir.metadata().unwrap().gid();
        let show = || {
            let of = |name| fs::metadata(dir.join(name)).unwrap();
            ["images", "before"].map(|name| (of(name).mode() & 0o7777, of(name).gid()))
        };
        fs::set_permissions(dir.join("images"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(dir.join("before"), Permissions::from_mode(0o1750)).unwrap();
        let before = show();
        assert_eq!(before, [(0o700, own), (0o1750, own)]);
        let opened = Opened::to(own, &[dir.join("images"), dir.join("before")]).unwrap();
        assert_eq!(show(), [(0o710, own), (0o1710, own)]);
        drop(opened);
        assert_eq!(show(), before);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_parent_is_beside_the_images_and_is_not_followed_for_ever() {
        let dir = scratch("parent");
        let images = dir.join("images");
        symlink("/etc", images.join(PARENT)).unwrap();
        assert!(check_images(&images).is_err());
        fs::remove_file(images.join(PARENT)).unwrap();
        symlink(".", images.join(PARENT)).unwrap();
        assert!(check_images(&images).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_parent_path_is_relative_and_there() {
        let dir = scratch("path");
        let images = dir.join("images");
        check_parent(&images, Path::new("../before")).unwrap();
        for bad in [dir.join("before"), "../missing".into(), "pages-1.img".into()] {
            let refused = check_parent(&images, &bad).unwrap_err().to_string();
            assert!(refused.contains("--parent-path"), "{refused}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
