// SPDX-License-Identifier: Apache-2.0
//! Extended attributes by descriptor, also of what can only be opened with `O_PATH`: symlinks and devices.
//!
//! The kernel's f* calls refuse an `O_PATH` descriptor. Its name below `/proc/self/fd` leads to the
//! same inode, and no path that somebody else can change is involved.
#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an attribute, whether or not it is there.
pub fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    let (data, size) = (value.as_ptr().cast::<c_void>(), value.len());
    by_descriptor_or_path(
        fd,
        // SAFETY: `name` is NUL-terminated and `data` points at `size` readable bytes; both outlive the call.
        |fd| unsafe { libc::fsetxattr(fd, name.as_ptr(), data, size, 0) as isize },
        // SAFETY: as above, and `path` is NUL-terminated.
        |path| unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, size, 0) as isize },
    )
    .map(drop)
}

/// The value of an attribute; `None` when it is not there.
pub fn get(fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let name = CString::new(name)?;
    let read = |buffer: &mut [u8]| {
        let (data, size) = (buffer.as_mut_ptr().cast::<c_void>(), buffer.len());
        by_descriptor_or_path(
            fd,
            // SAFETY: `name` is NUL-terminated and `data` points at `size` writable bytes (none are
            // written when `size` is 0); both outlive the call.
            |fd| unsafe { libc::fgetxattr(fd, name.as_ptr(), data, size) },
            // SAFETY: as above, and `path` is NUL-terminated.
            |path| unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), data, size) },
        )
    };
    match read_all(read) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        result => result.map(Some),
    }
}

/// The names of all attributes that the caller may see.
pub fn list(fd: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let read = |buffer: &mut [u8]| {
        let (data, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        by_descriptor_or_path(
            fd,
            // SAFETY: `data` points at `size` writable bytes (none are written when `size` is 0), which
            // outlive the call.
            |fd| unsafe { libc::flistxattr(fd, data, size) },
            // SAFETY: as above, and `path` is NUL-terminated.
            |path| unsafe { libc::listxattr(path.as_ptr(), data, size) },
        )
    };
    let names = read_all(read)?;
    Ok(names.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Removes an attribute; one that is not there is no error.
pub fn remove(fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    let result = by_descriptor_or_path(
        fd,
        // SAFETY: `name` is NUL-terminated and outlives the call.
        |fd| unsafe { libc::fremovexattr(fd, name.as_ptr()) as isize },
        // SAFETY: as above, and so is `path`.
        |path| unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) as isize },
    );
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(()),
        result => result.map(drop),
    }
}

fn by_descriptor_or_path(
    fd: BorrowedFd<'_>,
    by_descriptor: impl FnOnce(libc::c_int) -> isize,
    by_path: impl FnOnce(&CString) -> isize,
) -> io::Result<usize> {
    let mut result = by_descriptor(fd.as_raw_fd());
    if result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF) {
        result = by_path(&CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?);
    }
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

// Asks for the size only where the usual buffer is too small, and again when the value grew meanwhile.
fn read_all(read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => buffer.resize(read(&mut [])?.max(256), 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{OpenOptionsExt, symlink};

    use super::*;

    // A directory of its own under the system's temporary one, gone at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn create(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ctr-sys-xattr-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn sets_reads_lists_and_removes() {
        let scratch = Scratch::create("file");
        let file = File::create(scratch.0.join("f")).unwrap();
        let fd = file.as_fd();
        assert_eq!(get(fd, b"user.a").unwrap(), None);
        let long = vec![b'x'; 3000]; // more than the first buffer
        set(fd, b"user.a", &long).unwrap();
        set(fd, b"user.b", b"").unwrap();
        assert_eq!(get(fd, b"user.a").unwrap(), Some(long));
        let mut names = list(fd).unwrap();
        names.retain(|name| name.starts_with(b"user."));
        names.sort();
        assert_eq!(names, [b"user.a", b"user.b"]);
        remove(fd, b"user.a").unwrap();
        remove(fd, b"user.a").unwrap();
        assert_eq!(get(fd, b"user.a").unwrap(), None);
    }

    #[test]
    fn reaches_a_symlink_itself() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIP reaches_a_symlink_itself: needs root");
            return;
        }
        let scratch = Scratch::create("link");
        File::create(scratch.0.join("target")).unwrap();
        symlink("target", scratch.0.join("link")).unwrap();
        let link = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(scratch.0.join("link"))
            .unwrap();
        set(link.as_fd(), b"trusted.t", b"1").unwrap();
        assert_eq!(get(link.as_fd(), b"trusted.t").unwrap().as_deref(), Some(&b"1"[..]));
        assert!(list(link.as_fd()).unwrap().contains(&b"trusted.t".to_vec()));
        let target = File::open(scratch.0.join("target")).unwrap();
        assert_eq!(get(target.as_fd(), b"trusted.t").unwrap(), None);
        remove(link.as_fd(), b"trusted.t").unwrap();
        assert_eq!(get(link.as_fd(), b"trusted.t").unwrap(), None);
    }
}
