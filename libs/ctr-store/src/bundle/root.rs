// SPDX-License-Identifier: Apache-2.0
//! How a bundle's root is put together: the snapshot's directories below, the container's own above.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ctr_record::Mount;

use super::BundleError;
use crate::StoreError;

/// The directories that a snapshot's mounts consist of, the uppermost first.
pub fn lower_directories(mounts: &[Mount]) -> Result<Vec<PathBuf>, BundleError> {
    let [mount] = mounts else { return Err(BundleError::UnknownSnapshot) };
    let mut directories = Vec::new();
    match mount.kind.as_str() {
        "bind" => directories.push(PathBuf::from(&mount.source)),
        "overlay" => {
            for option in &mount.options {
                match option.split_once('=') {
                    Some(("lowerdir", list)) => directories.extend(split_escaped(list)),
                    Some(("lowerdir+", path)) => directories.push(PathBuf::from(path)),
                    Some(("upperdir" | "workdir", _)) => return Err(BundleError::UnknownSnapshot),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    match directories.is_empty() || directories.iter().any(|directory| !directory.is_absolute()) {
        true => Err(BundleError::UnknownSnapshot),
        false => Ok(directories),
    }
}

// Colons stand between the directories of lowerdir, a backslash takes the next character as it is.
fn split_escaped(list: &str) -> Vec<PathBuf> {
    let mut paths = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => paths.push(String::new()),
            '\\' => paths.last_mut().expect("never empty").extend(characters.next()),
            other => paths.last_mut().expect("never empty").push(other),
        }
    }
    paths.into_iter().map(PathBuf::from).collect()
}

/// The read-only mount of a stack of directories, the uppermost first.
pub fn stack(directories: &[PathBuf]) -> Result<Mount, BundleError> {
    let mut lower = Vec::new();
    for directory in directories {
        lower.push(check_path(directory)?);
    }
    Ok(match lower[..] {
        [one] => Mount {
            kind: "bind".to_owned(),
            source: one.to_owned(),
            options: vec!["ro".to_owned(), "rbind".to_owned()],
        },
        _ => overlay(vec![format!("lowerdir={}", lower.join(":"))]),
    })
}

/// Changes the ids that a directory belongs to.
pub(super) fn map_owner(
    directory: &Path,
    uid: impl Fn(u32) -> u32,
    gid: impl Fn(u32) -> u32,
) -> Result<(), StoreError> {
    let failed = StoreError::io("change the owner of", directory);
    let change = || {
        let status = fs::symlink_metadata(directory)?;
        let mode = status.permissions();
        chown(directory, Some(uid(status.uid())), Some(gid(status.gid())))?;
        // A change of the owner clears setgid.
        fs::set_permissions(directory, mode)
    };
    change().map_err(failed)
}

/// Makes `upper` and `work` in the directory `made`, which will be `named` one day, and returns the overlay
/// of them over the snapshot.
pub(super) fn make_writable(made: &Path, named: &Path, snapshot: &[Mount]) -> Result<Mount, BundleError> {
    let lower = lower_directories(snapshot)?;
    let mut options: Vec<String> = match snapshot {
        [mount] if mount.kind == "overlay" => mount.options.iter().filter(|o| *o != "ro").cloned().collect(),
        _ => vec![option("lowerdir", &lower[0])?],
    };
    options.push(option("upperdir", &named.join("upper"))?);
    options.push(option("workdir", &named.join("work"))?);
    // Only root may use the trusted attributes that overlay keeps its own marks in.
    if !ctr_sys::process::is_root() && !options.iter().any(|option| option == "userxattr") {
        options.push("userxattr".to_owned());
    }
    // An overlay's root shows the upper directory's owner and mode.
    make_directory(&made.join("upper"), Some(&lower[0]))?;
    make_directory(&made.join("work"), None)?;
    Ok(overlay(options))
}

fn overlay(options: Vec<String>) -> Mount {
    Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), options }
}

fn option(name: &str, path: &Path) -> Result<String, BundleError> {
    Ok(format!("{name}={}", check_path(path)?))
}

// How these characters are escaped differs between mount(2) and fsconfig(2), and whoever mounts may use
// either.
fn check_path(path: &Path) -> Result<&str, BundleError> {
    match path.to_str() {
        Some(text) if !text.contains([':', ',', '\\']) => Ok(text),
        _ => Err(BundleError::Unmountable { path: path.to_owned() }),
    }
}

/// Makes a directory, with its parents, with the owner and mode of the directory `like`, else 0755.
pub(super) fn make_directory(path: &Path, like: Option<&Path>) -> Result<(), BundleError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("make directory", path))?;
    let mut mode = 0o755;
    if let Some(like) = like {
        let model = match fs::symlink_metadata(like) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("stat", like)(error).into());
            }
            _ => return Err(BundleError::NoSnapshot { path: like.to_owned() }),
        };
        let made = fs::symlink_metadata(path).map_err(StoreError::io("stat", path))?;
        if (made.uid(), made.gid()) != (model.uid(), model.gid()) {
            chown(path, Some(model.uid()), Some(model.gid())).map_err(StoreError::io("change the owner of", path))?;
        }
        mode = model.mode() & 0o7777;
    }
    // After chown, which clears the set-id bits; and mkdir's mode is subject to the umask.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(StoreError::io("change the mode of", path))?;
    Ok(())
}

/// Writes a file that is not there yet; nobody sees it before the bundle has its name.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), BundleError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    Ok(file.and_then(|mut file| file.write_all(content)).map_err(StoreError::io("write", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount { kind: kind.into(), source: source.into(), options: options.iter().map(|o| (*o).into()).collect() }
    }

    fn lower(mounts: &[Mount]) -> Option<Vec<String>> {
        let directories = lower_directories(mounts).ok()?;
        Some(directories.iter().map(|d| d.display().to_string()).collect())
    }

    #[test]
    fn finds_the_directories_of_a_snapshot() {
        let overlay = |options: &[&str]| lower(&[mount("overlay", "overlay", options)]).unwrap_or_default();
        assert_eq!(overlay(&["ro", "lowerdir=/b:/a"]), ["/b", "/a"]);
        assert_eq!(overlay(&[r"lowerdir=/b\:c:/a\\d"]), ["/b:c", r"/a\d"]);
        assert_eq!(overlay(&["lowerdir+=/b:c", "lowerdir+=/a"]), ["/b:c", "/a"]);
        assert_eq!(lower(&[mount("bind", "/a", &["ro"])]).unwrap(), ["/a"]);
    }

    #[test]
    fn a_stack_is_a_snapshot() {
        for directories in [&["/a"][..], &["/b", "/a"]] {
            let paths: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
            assert_eq!(lower(&[stack(&paths).unwrap()]).unwrap(), directories);
        }
        assert!(stack(&["/a".into(), "/b:c".into()]).is_err());
    }

    #[test]
    fn refuses_what_is_no_snapshot() {
        let bind = mount("bind", "/a", &["ro"]);
        assert_eq!(lower(&[]), None);
        assert_eq!(lower(&[bind.clone(), bind]), None);
        assert_eq!(lower(&[mount("bind", "a", &[])]), None);
        assert_eq!(lower(&[mount("tmpfs", "tmpfs", &[])]), None);
        assert_eq!(lower(&[mount("overlay", "overlay", &["ro"])]), None);
        assert_eq!(lower(&[mount("overlay", "overlay", &["lowerdir=/a:"])]), None);
        assert_eq!(lower(&[mount("overlay", "overlay", &["lowerdir=/a", "upperdir=/b"])]), None);
    }
}
