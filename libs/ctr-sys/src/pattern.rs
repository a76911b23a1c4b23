// SPDX-License-Identifier: Apache-2.0
//! Extended regular expressions of POSIX, by the C library (regcomp(3)).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::mem::MaybeUninit;

/// A compiled expression.
pub struct Pattern(Box<libc::regex_t>);

impl Pattern {
    /// Compiles an expression. The error says what is wrong with it.
    pub fn new(expression: &str) -> Result<Self, String> {
        let text = CString::new(expression).map_err(|_| "it contains a NUL byte".to_owned())?;
        let mut compiled = Box::new(MaybeUninit::<libc::regex_t>::uninit());
        let flags = libc::REG_EXTENDED | libc::REG_NOSUB;
        // SAFETY: `text` is NUL-terminated, and `compiled` has room for what regcomp initialises.
        let code = unsafe { libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), flags) };
        if code != 0 {
            let mut message = [0_u8; 256];
            // SAFETY: regerror writes at most as many bytes as the buffer has, ends them with NUL, and only
            // reads what a failed regcomp has left.
            unsafe { libc::regerror(code, compiled.as_ptr(), message.as_mut_ptr().cast(), message.len()) };
            let length = message.iter().position(|byte| *byte == 0).unwrap_or(0);
            return Err(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        // SAFETY: regcomp has succeeded, and so has initialised it.
        Ok(Self(unsafe { compiled.assume_init() }))
    }

    /// Whether some part of a text matches. No expression matches a text with a NUL byte in it.
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the expression is compiled, the text NUL-terminated, and no matches are asked for.
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        // SAFETY: it was compiled, and nobody uses it any more.
        unsafe { libc::regfree(&raw mut *self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_matches_unless_it_is_anchored() {
        let pattern = Pattern::new("b+|^x$").unwrap();
        assert!(pattern.matches("abba") && pattern.matches("x"));
        assert!(!pattern.matches("xx") && !pattern.matches("b\0"));
        assert!(Pattern::new("a(").is_err_and(|why| !why.is_empty()));
        assert!(Pattern::new("\0").is_err());
    }
}
