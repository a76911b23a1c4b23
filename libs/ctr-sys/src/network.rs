// SPDX-License-Identifier: Apache-2.0
//! A network namespace that is made while its maker goes on.
//!
//! Of all namespaces this one takes the kernel the longest, most of the time that a clone3 with all of them
//! takes, and to switch its loopback interface on nearly as long as any mount. So a process beside this one does
//! both: one that shares this one's memory and descriptors, which costs little to make, and that ends as soon as
//! the namespace has a descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::affinity::{self, CpuSet};

/// More than the few frames that the process beside needs.
const STACK: usize = 16 << 10;

/// A network namespace in the making.
#[derive(Debug)]
pub struct NetworkInMaking {
    /// Of the process that makes it; null once that has been waited for.
    pidfd: Option<OwnedFd>,
    shared: Box<Shared>,
}

/// What the process beside uses of this one's memory.
#[derive(Debug)]
#[repr(C, align(64))]
struct Shared {
    stack: std::cell::UnsafeCell<[u8; STACK]>,
    /// Where it is to run: the kernel may leave a new process on its maker's processor, where it has that wait or
    /// waits for it.
    elsewhere: Option<CpuSet>,
    /// The namespace's descriptor, or the negative of the errno of what failed.
    result: AtomicI32,
}

impl NetworkInMaking {
    /// Begins; `Unsupported` where that is not possible, and the namespace is to be made like any other.
    pub fn begin() -> io::Result<Self> {
        #[cfg(not(target_arch = "x86_64"))]
        return Err(io::ErrorKind::Unsupported.into());
        #[cfg(target_arch = "x86_64")]
        {
            let stack = std::cell::UnsafeCell::new([0; STACK]);
            let shared =
                Box::new(Shared { stack, elsewhere: affinity::elsewhere(), result: AtomicI32::new(-libc::EIO) });
            let mut pidfd: RawFd = -1;
            // No signal is sent at its end: it is no child that anybody else should wait for.
            let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_PIDFD;
            // SAFETY: the stack is as long as is said, aligned, and lives with `shared`, as does what `make` is
            // given, until the process has been waited for (`finish`, `drop`). It shares no thread-local
            // variable in use: `make` makes system calls without the C library and touches nothing else.
            let pid = unsafe {
                let top = shared.stack.get().cast::<u8>().add(STACK);
                libc::clone(make, top.cast(), flags, (&raw const *shared).cast_mut().cast(), &raw mut pidfd)
            };
            if pid < 0 {
                return Err(io::Error::last_os_error());
            }
            // Whichever of the two comes to it first: it may wait behind this one, or this one behind it.
            if let Some(elsewhere) = &shared.elsewhere {
                let _ = affinity::set_of(pid, elsewhere);
            }
            // SAFETY: CLONE_PIDFD has stored a new descriptor that nobody else knows.
            Ok(Self { pidfd: Some(unsafe { OwnedFd::from_raw_fd(pidfd) }), shared })
        }
    }

    /// Waits until the namespace is there, with its loopback interface on, and returns a descriptor of it.
    pub fn finish(mut self) -> io::Result<OwnedFd> {
        self.wait();
        match self.shared.result.swap(-libc::EIO, Ordering::Acquire) {
            // SAFETY: it was opened in the descriptors that both share, and nobody else knows it.
            fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        }
    }

    fn wait(&mut self) {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        use std::os::fd::AsFd;
        let Some(pidfd) = self.pidfd.take() else { return };
        let how = WaitPidFlag::WEXITED | WaitPidFlag::__WALL;
        while waitid(Id::PIDFd(pidfd.as_fd()), how) == Err(nix::errno::Errno::EINTR) {}
    }
}

impl Drop for NetworkInMaking {
    fn drop(&mut self) {
        self.wait();
        let fd = *self.shared.result.get_mut();
        if fd >= 0 {
            // SAFETY: as in `finish`, which leaves none behind.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// What the process beside does, from its first instruction to its last.
#[cfg(target_arch = "x86_64")]
extern "C" fn make(shared: *mut libc::c_void) -> libc::c_int {
    use crate::raw::call;
    // SAFETY: it outlives this process, and nobody writes to it meanwhile but to `result`.
    let shared = unsafe { &*shared.cast::<Shared>() };
    let path = c"/proc/self/ns/net".as_ptr() as usize;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    // SAFETY: integers, a NUL-terminated path, and a set of processors whose size is passed.
    let made = unsafe {
        if let Some(elsewhere) = &shared.elsewhere {
            let words = elsewhere.words();
            call(libc::SYS_sched_setaffinity, [0, size_of_val(words), words.as_ptr() as usize, 0, 0]);
        }
        let mut result = call(libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0, 0, 0]);
        if result == 0 {
            result = bring_loopback_up();
        }
        if result == 0 {
            result = call(libc::SYS_openat, [libc::AT_FDCWD as usize, path, flags, 0, 0]);
        }
        result
    };
    shared.result.store(made as i32, Ordering::Release);
    0
}

/// Switches the loopback interface on without the C library; returns 0, or the negative of an errno.
#[cfg(target_arch = "x86_64")]
fn bring_loopback_up() -> isize {
    use crate::raw::call;
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize;
    let request = crate::socket::loopback_up();
    // SAFETY: integers, and an ifreq that outlives the call; nobody else knows the socket.
    unsafe {
        let socket = call(libc::SYS_socket, [libc::AF_INET as usize, kind, 0, 0, 0]);
        if socket < 0 {
            return socket;
        }
        let how = libc::SIOCSIFFLAGS as usize;
        let result = call(libc::SYS_ioctl, [socket as usize, how, &raw const request as usize, 0, 0]);
        call(libc::SYS_close, [socket as usize, 0, 0, 0, 0]);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_network_namespace_is_made_and_this_process_stays_in_its_own() {
        let own = || std::fs::metadata("/proc/self/ns/net").map(|status| std::os::unix::fs::MetadataExt::ino(&status));
        let before = own().unwrap();
        let made = match NetworkInMaking::begin().and_then(NetworkInMaking::finish) {
            Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
                return eprintln!("SKIP network: {error}");
            }
            made => made.unwrap(),
        };
        let made = std::fs::File::from(made).metadata().map(|status| std::os::unix::fs::MetadataExt::ino(&status));
        assert_ne!(made.unwrap(), before);
        assert_eq!(own().unwrap(), before);
        // One that nobody wants any more.
        drop(NetworkInMaking::begin().unwrap());
    }
}
