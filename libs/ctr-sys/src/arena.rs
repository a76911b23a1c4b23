// SPDX-License-Identifier: Apache-2.0
//! An allocator for a program that lives for milliseconds.
//!
//! It hands out one piece of memory from its beginning to its end, and takes back only what it handed out last; what
//! is left of it goes with the process. There are no lists to search and no headers to write: a quarter of the
//! instructions of a start were those of malloc and free, and a process that is forked frees nothing, so that it
//! copies no page for that. When the piece is used up, and for what is large, the C library's allocator takes over,
//! so that a program that lives for long does not grow.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 768 << 10;
// Who reads the kernel's structures from a vector of bytes, as nix does control messages, counts on what malloc gives.
const ALIGN: usize = 16;
/// What is larger is the C library's.
const LARGE: usize = 64 << 10;

/// The allocator.
#[derive(Debug)]
#[repr(align(4096))]
pub struct Arena {
    // No page of it is there before it is written to.
    memory: UnsafeCell<[u8; SIZE]>,
    // How much of it is handed out.
    used: AtomicUsize,
}

// SAFETY: the memory is only ever reached through allocations, which do not overlap: `used` moves atomically, and
// only who has moved it over a place hands that out.
unsafe impl Sync for Arena {}

impl Arena {
    /// An unused one.
    #[expect(clippy::new_without_default, reason = "there is one, which is static")]
    pub const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    /// Has the kernel provide the first bytes of it at once, which takes it less than to do so page by page.
    pub fn populate(&self, bytes: usize) {
        // SAFETY: the range is the memory's own, and no byte of it changes.
        unsafe { libc::madvise(self.start().cast(), bytes.min(SIZE), libc::MADV_POPULATE_WRITE) };
    }

    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    // Where in the memory an allocation is; `None`: it is the C library's.
    fn place(&self, allocation: *mut u8) -> Option<usize> {
        let place = (allocation as usize).wrapping_sub(self.start() as usize);
        (place < SIZE).then_some(place)
    }

    // Moves the end of what is handed out, if it is still there. What one thread has done with a place that it gave
    // back comes before what another one does with it.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: what is handed out is within the memory, aligned, as large as was asked for, and nobody else's until it
// is given back (`Sync`); the rest is the C library's allocator, to which goes back what came from it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= LARGE && layout.align() <= 4096 {
            loop {
                let used = self.used.load(Ordering::Relaxed);
                let place = used.next_multiple_of(layout.align().max(ALIGN));
                if place + layout.size() > SIZE {
                    break;
                }
                if self.move_end(used, place + layout.size()) {
                    return self.start().wrapping_add(place);
                }
            }
        }
        // SAFETY: the caller's promise about the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, allocation: *mut u8, layout: Layout) {
        match self.place(allocation) {
            Some(place) => _ = self.move_end(place + layout.size(), place),
            // SAFETY: it is not this one's, so it came from there.
            None => unsafe { System.dealloc(allocation, layout) },
        }
    }

    unsafe fn realloc(&self, allocation: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = self.place(allocation) else {
            // SAFETY: it is not this one's, so it came from there; the rest is the caller's promise.
            return unsafe { System.realloc(allocation, layout, size) };
        };
        let last = self.move_end(place + layout.size(), place + size);
        if last || size <= layout.size() {
            return allocation;
        }
        // SAFETY: the caller's promise: the size is not too large for the alignment. Both allocations are as large
        // as what is copied, and apart from one another.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(allocation, new, layout.size());
                self.dealloc(allocation, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn what_was_handed_out_last_grows_in_place_and_is_taken_back() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        // SAFETY: layouts are not empty, and what is given back is of the layout that it was asked for with.
        unsafe {
            let first = arena.alloc(layout(3, 1));
            let aligned = arena.alloc(layout(8, 64));
            assert_eq!(aligned as usize % 64, 0);
            aligned.write(7);
            assert_eq!(arena.realloc(aligned, layout(8, 64), 100), aligned);
            // Not the last one any more.
            assert_eq!(arena.realloc(first, layout(3, 1), 2), first);
            first.write(9);
            let moved = arena.realloc(first, layout(2, 1), 50);
            assert!(moved != first && moved.read() == 9 && aligned.read() == 7);
            arena.dealloc(moved, layout(50, 1));
            assert_eq!(arena.alloc(layout(1, 1)), moved);
        }
    }

    #[test]
    fn bytes_are_aligned_as_mallocs_are() {
        static ARENA: Arena = Arena::new();
        for _ in 0..3 {
            // SAFETY: the layout is not empty.
            let bytes = unsafe { ARENA.alloc(layout(5, 1)) };
            assert!((bytes as usize).is_multiple_of(ALIGN));
        }
    }

    #[test]
    fn what_is_large_or_comes_late_is_the_c_librarys() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let half = layout(LARGE / 2, 8);
        // SAFETY: as above.
        unsafe {
            let large = arena.alloc(layout(LARGE + 1, 8));
            assert_eq!(arena.place(large), None);
            arena.dealloc(large, layout(LARGE + 1, 8));
            let all: Vec<*mut u8> = (0..SIZE / half.size()).map(|_| arena.alloc(half)).collect();
            assert!(all.iter().all(|one| arena.place(*one).is_some()));
            let late = arena.alloc(half);
            assert_eq!(arena.place(late), None);
            // What is in the way of growth in place: the end of the memory.
            let last = all[all.len() - 1];
            last.write(5);
            let grown = arena.realloc(last, half, half.size() + 1);
            assert!(arena.place(grown).is_none() && grown.read() == 5);
            arena.dealloc(grown, layout(half.size() + 1, 8));
            arena.dealloc(late, half);
        }
    }
}
