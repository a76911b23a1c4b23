// SPDX-License-Identifier: Apache-2.0
//! System calls without the C library, for code that runs where its thread-local `errno` is not there yet or is
//! another process' too.
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

/// Makes a system call; returns its result, or the negative of its errno.
///
/// # Safety
/// The arguments are what the system call wants.
pub(crate) unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
    let mut result = number as isize;
    // SAFETY: the kernel's calling convention on x86_64, which spoils rcx and r11; what the call does with
    // its arguments is the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
