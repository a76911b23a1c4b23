// SPDX-License-Identifier: Apache-2.0
//! The file that a caller is told a pid by: decimal, without a newline, and there in one step.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::RuntimeError;

/// Writes a pid file. Callers watch for it, and some take all of it for the number.
pub(crate) fn write(path: &Path, pid: i32) -> Result<(), RuntimeError> {
    let name = path.file_name().ok_or_else(|| RuntimeError::config("--pid-file", "it names no file"))?;
    let new = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let write = || {
        let _ = fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o666).open(&new)?;
        file.write_all(pid.to_string().as_bytes())?;
        fs::rename(&new, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map_err(RuntimeError::io("write the pid file", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_number_and_nothing_beside() {
        let dir = std::env::temp_dir().join(format!("ctr-pid-file-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        for pid in [123, 45] {
            write(&dir.join("pid"), pid).unwrap();
            assert_eq!(fs::read_to_string(dir.join("pid")).unwrap(), pid.to_string());
        }
        fs::create_dir(dir.join("taken")).unwrap();
        assert!(write(&dir.join("taken"), 1).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(dir).unwrap();
    }
}
