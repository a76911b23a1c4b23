// SPDX-License-Identifier: Apache-2.0
//! Keeps containers from overwriting this program's file (CVE-2019-5736).
//!
//! A container whose program is `/proc/self/exe` runs this one instead, and can then open its file for
//! writing. So it is executed once more from a read-only view of its file, which cannot be opened for
//! writing by any path that leads through it. Nothing is copied, and a file that is on a read-only file
//! system already needs nothing.
//!
//! Nearly always `ctr_sys::early` has done so before the program began. What it left undone is done here:
//! without the privilege for mounts, or when the command line did not look like it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use ctr_cli::{Context, Error};
use ctr_sys::mount;
use nix::fcntl::{AT_FDCWD, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, fstatvfs};

const EXECUTABLE: &str = "/proc/self/exe";

/// Makes sure that this process runs from a file that nobody can write through it.
pub(crate) fn protect_executable() -> Result<(), Error> {
    // The name may be that of a descriptor.
    let _ = nix::sys::prctl::set_name(c"ctr-run");
    if ctr_sys::early::is_protected() {
        return Ok(());
    }
    let own = File::open(EXECUTABLE).unable_to(|| "open the own executable")?;
    if is_protected(&own) {
        return Ok(());
    }
    let protected = read_only_view().or_else(|_| sealed_copy(own)).unable_to(|| "protect the own executable")?;
    let args: Vec<CString> = std::env::args_os().map(c_string).collect();
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        c_string(entry)
    });
    let env: Vec<CString> = variables.collect();
    Err(ctr_sys::process::fexecve(protected.as_fd(), &args, &env)).unable_to(|| "execute the protected executable")
}

fn is_protected(own: &File) -> bool {
    let sealed = fcntl(own, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE));
    sealed || fstatvfs(own).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
}

fn read_only_view() -> io::Result<OwnedFd> {
    let view = mount::clone_tree(AT_FDCWD, Path::new(EXECUTABLE), false)?;
    mount::make_read_only(&view)?;
    Ok(view)
}

// Without the privilege for mounts: a copy in memory that is sealed.
fn sealed_copy(mut own: File) -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10; // Linux 6.3, where vm.memfd_noexec may ask for it
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = MFdFlags::from_bits_retain(flags.bits() | MFD_EXEC);
    let fd = memfd_create(c"ctr-run", executable).or_else(|_| memfd_create(c"ctr-run", flags))?;
    let mut copy = File::from(fd);
    own.rewind()?;
    io::copy(&mut own, &mut copy)?;
    copy.flush()?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

fn c_string(text: std::ffi::OsString) -> CString {
    CString::new(text.into_vec()).expect("the kernel's strings have no NUL inside")
}
