// SPDX-License-Identifier: Apache-2.0
//! What a program does before anything of it runs: execute itself from a read-only view of its file.
//!
//! A program that containers must not be able to overwrite (CVE-2019-5736) executes itself once more from
//! such a view. Where it begins to run as usual, the C library has by then relocated it and looked at the
//! processor, and all of that is done again. So the linker is told to let the program begin here
//! (`--entry=ctr_sys_start`, from its build script): a handful of system calls, then the second execution,
//! or the C library's `_start` as if nothing had been.
//!
//! Nothing is relocated yet, in a static program: this code calls nothing outside of this file, uses no
//! table of pointers and no thread-local variable, and has the compiler make no call of `memcpy` or the like.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

static IS_PROTECTED: AtomicBool = AtomicBool::new(false);
/// The view's descriptor while it is held; -1: it is not.
static VIEW: AtomicI32 = AtomicI32::new(-1);
/// The least number that the view's descriptor has: beyond those that a caller passes on, which count from 3,
/// and within a small table of descriptors.
const LEAST_FD: RawFd = 60;

/// Whether the program began here, and runs from a file on a read-only mount.
///
/// It says nothing when it is false: the program may have begun elsewhere, or the words of its command line
/// were none to begin here for, or the view could not be had.
pub fn is_protected() -> bool {
    IS_PROTECTED.load(Ordering::Relaxed)
}

/// Takes hold of the view that this program runs from, if it began here: what it executes does not inherit it.
pub fn hold_view() {
    if !is_protected() {
        return;
    }
    // SAFETY: the auxiliary vector's entry is 0 or the address of a string that stays for the process' life.
    let name = unsafe {
        match libc::getauxval(libc::AT_EXECFN) {
            0 => return,
            address => CStr::from_ptr(address as *const libc::c_char),
        }
    };
    // As execveat(2) names what it executes by a descriptor.
    let number = name.to_str().ok().and_then(|name| name.strip_prefix("/dev/fd/")?.parse::<RawFd>().ok());
    let Some(fd) = number.filter(|fd| *fd >= LEAST_FD) else { return };
    // SAFETY: two integers are passed; a bad number is EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == 0 {
        VIEW.store(fd, Ordering::Relaxed);
    }
}

/// Lets the view go. Its mount is taken down with that, and the kernel has this process wait for a grace period
/// until it has: it is to be called where there is another process to wait for.
pub fn release_view() {
    let fd = VIEW.swap(-1, Ordering::Relaxed);
    if fd >= 0 {
        // SAFETY: it was opened for this alone, and nobody has it any more.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

#[cfg(target_arch = "x86_64")]
mod start {
    use std::mem::MaybeUninit;
    use std::sync::atomic::Ordering;

    use crate::raw::call;

    unsafe extern "C" {
        fn _start() -> !;
    }

    /// Where the kernel, or the loader, lets the program begin.
    ///
    /// # Safety
    /// It is for those to call, as they call `_start`.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn ctr_sys_start() -> ! {
        // rdx is `_start`'s, and is pushed twice so that the stack stays aligned for the call.
        std::arch::naked_asm!(
            "mov rdi, rsp",
            "push rdx",
            "push rdx",
            "call {protect}",
            "pop rdx",
            "pop rdx",
            "jmp {start}",
            protect = sym protect,
            start = sym _start,
        )
    }

    /// # Safety
    /// `stack` is the process' first stack: a count, so many arguments, null, the environment, null.
    unsafe extern "C" fn protect(stack: *const usize) {
        const MOUNT_ATTR_RDONLY: u64 = 1;
        const FLAGS: usize = 10;
        // SAFETY: the stack has the kernel's layout, by the promise above.
        let (count, args) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
        // SAFETY: as above, so these are as many NUL-terminated strings.
        if !unsafe { will_execute(count, args) } {
            return;
        }
        let path = c"/proc/self/exe".as_ptr() as usize;
        // Sixteen words are more than there are; libc does not name the one of the flags.
        let mut status = MaybeUninit::<[u64; 16]>::uninit();
        // SAFETY: a NUL-terminated path, and room for what is written.
        if unsafe { call(libc::SYS_statfs, [path, status.as_mut_ptr() as usize, 0, 0, 0]) } != 0 {
            return;
        }
        // SAFETY: the call has filled it to beyond that word.
        let flags = unsafe { status.as_ptr().cast::<u64>().add(FLAGS).read() };
        if flags & libc::ST_RDONLY != 0 {
            super::IS_PROTECTED.store(true, Ordering::Relaxed);
            return;
        }
        // SAFETY: a NUL-terminated path and integers.
        let view = unsafe {
            let how = libc::OPEN_TREE_CLONE as usize;
            call(libc::SYS_open_tree, [libc::AT_FDCWD as usize, path, how, 0, 0])
        };
        if view < 0 {
            return;
        }
        // It stays open through the execution: closed by that, it would be waited for (`release_view`).
        // SAFETY: integers; nobody else knows the first descriptor.
        let view = unsafe {
            let high = call(libc::SYS_fcntl, [view as usize, libc::F_DUPFD as usize, super::LEAST_FD as usize, 0, 0]);
            call(libc::SYS_close, [view as usize, 0, 0, 0, 0]);
            high
        };
        if view < 0 {
            return;
        }
        let view = view as usize;
        let (nothing, by_fd) = (c"".as_ptr() as usize, libc::AT_EMPTY_PATH as usize);
        // set, clear, propagation, user namespace
        let attributes: [u64; 4] = [MOUNT_ATTR_RDONLY, 0, 0, 0];
        let size = size_of_val(&attributes);
        // SAFETY: an empty path, and attributes whose size is passed.
        let result =
            unsafe { call(libc::SYS_mount_setattr, [view, nothing, by_fd, attributes.as_ptr() as usize, size]) };
        if result == 0 {
            // The count's null follows the arguments, and the environment follows that.
            let environment = args.wrapping_add(count + 1) as usize;
            // SAFETY: an empty path, and two lists of NUL-terminated strings that end with null.
            unsafe { call(libc::SYS_execveat, [view, nothing, args as usize, environment, by_fd]) };
        }
        // What could not be done here is tried, and explained, by the program itself.
        // SAFETY: nobody else knows the descriptor.
        unsafe { call(libc::SYS_close, [view, 0, 0, 0, 0]) };
    }

    /// Whether the command line has one of the words that make a container's process, or no word at all.
    ///
    /// An id may be such a word too: then the program is protected without need.
    ///
    /// # Safety
    /// `args` are `count` NUL-terminated strings.
    unsafe fn will_execute(count: usize, args: *const *const u8) -> bool {
        let mut only_options = true;
        let mut i = 1;
        while i < count {
            // SAFETY: there are so many, by the promise above; and these are NUL-terminated, as are the words.
            unsafe {
                let arg = *args.add(i);
                if is(arg, c"run".as_ptr().cast())
                    || is(arg, c"create".as_ptr().cast())
                    || is(arg, c"exec".as_ptr().cast())
                    || is(arg, c"restore".as_ptr().cast())
                {
                    return true;
                }
                only_options &= arg.read_volatile() == b'-';
            }
            i += 1;
        }
        only_options
    }

    /// Whether two strings are the same.
    ///
    /// # Safety
    /// Both are NUL-terminated.
    unsafe fn is(mut arg: *const u8, mut word: *const u8) -> bool {
        loop {
            // Volatile, or the compiler would see a strcmp in it and call that.
            // SAFETY: neither has ended, as no byte before was NUL.
            let (a, b) = unsafe { (arg.read_volatile(), word.read_volatile()) };
            if a != b || a == 0 {
                return a == b;
            }
            arg = arg.wrapping_add(1);
            word = word.wrapping_add(1);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::ffi::CString;

        fn executes(line: &str) -> bool {
            let words: Vec<CString> = line.split(' ').map(|word| CString::new(word).unwrap()).collect();
            let args: Vec<*const u8> = words.iter().map(|word| word.as_ptr().cast()).collect();
            // SAFETY: as many strings as are counted, all alive.
            unsafe { will_execute(args.len(), args.as_ptr()) }
        }

        #[test]
        fn the_words_that_make_a_process_are_found() {
            for line in ["ctr-run", "ctr-run --rm", "ctr-run --root /r run x", "ctr-run create", "ctr-run exec a ps"] {
                assert!(executes(line), "{line}");
            }
            for line in ["ctr-run state x", "ctr-run running", "ctr-run --root /r delete -f x", "ctr-run ru", "x list"]
            {
                assert!(!executes(line), "{line}");
            }
        }
    }
}
