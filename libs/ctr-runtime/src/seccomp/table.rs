// SPDX-License-Identifier: Apache-2.0
//! System calls by name and by number, read from `syscalls.tbl` while this crate compiles.
//!
//! What is left for run time is arrays of integers and one string: nothing in them has to be relocated
//! when a position-independent program starts, and a name is found with one hash.

const SOURCE: &[u8] = include_bytes!("syscalls.tbl");

/// How many calls there are. A call is an index below this, the same for every architecture.
pub(super) const CALLS: usize = count(SOURCE).0;
const NAME_BYTES: usize = count(SOURCE).1;
const COLUMNS: usize = 10;
const NONE: u32 = u32::MAX;

/// A call: its place in the table.
pub(super) type Call = u16;

/// The calls of one architecture by number: call + 1, or 0 for a number that no call has.
#[derive(Debug)]
pub(super) struct Column([u16; PLACES]);

const PLACES: usize = ORDINARY + 8;
const ORDINARY: usize = 600;
// arm keeps six calls of its own far away from all others; here they come right behind them.
const ARM_PRIVATE: u32 = 0xf0000;

impl Column {
    /// Every call with its number, in ascending order of the numbers.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, Call)> {
        self.0.iter().enumerate().filter_map(|(place, call)| {
            let number = if place < ORDINARY { place } else { place - ORDINARY + ARM_PRIVATE as usize };
            Some((number as u32, call.checked_sub(1)?))
        })
    }
}

pub(super) static X86_64: Column = column(0);
pub(super) static X86: Column = column(1);
pub(super) static X32: Column = column(2);
pub(super) static AARCH64: Column = column(3);
pub(super) static ARM: Column = column(4);
pub(super) static RISCV64: Column = column(5);
pub(super) static S390X: Column = column(6);
pub(super) static S390: Column = column(7);
pub(super) static PPC64LE: Column = column(8);
pub(super) static LOONGARCH64: Column = column(9);

/// Finds a call by its name.
pub(super) fn find(name: &str) -> Option<Call> {
    let mut slot = hash(name.as_bytes());
    loop {
        // A quarter of the slots stays empty, so that the walk ends.
        let call = SLOTS[slot % SLOT_COUNT].checked_sub(1)?;
        if name_of(call) == name.as_bytes() {
            return Some(call);
        }
        slot += 1;
    }
}

/// The name of a call.
pub(super) fn name_of(call: Call) -> &'static [u8] {
    &NAMES[usize::from(ENDS[usize::from(call)])..usize::from(ENDS[usize::from(call) + 1])]
}

static NAMES: [u8; NAME_BYTES] = PARSED.names;
static ENDS: [u16; CALLS + 1] = PARSED.ends;
static SLOTS: [u16; SLOT_COUNT] = slots();
const SLOT_COUNT: usize = 1024;

const PARSED: Parsed = parse(SOURCE);

struct Parsed {
    names: [u8; NAME_BYTES],
    // Where each name ends; the first element is where the first one begins.
    ends: [u16; CALLS + 1],
    numbers: [[u32; CALLS]; COLUMNS],
}

// Lines that describe a call, and the length of all their names.
const fn count(source: &[u8]) -> (usize, usize) {
    let (mut calls, mut bytes, mut at) = (0, 0, 0);
    while at < source.len() {
        if source[at] != b'#' {
            calls += 1;
            while source[at] != b' ' {
                bytes += 1;
                at += 1;
            }
        }
        at = next_line(source, at);
    }
    (calls, bytes)
}

const fn next_line(source: &[u8], mut at: usize) -> usize {
    while source[at] != b'\n' {
        at += 1;
    }
    at + 1
}

const fn parse(source: &[u8]) -> Parsed {
    let mut parsed = Parsed { names: [0; NAME_BYTES], ends: [0; CALLS + 1], numbers: [[NONE; CALLS]; COLUMNS] };
    let (mut at, mut call, mut end) = (0, 0, 0);
    while at < source.len() {
        if source[at] == b'#' {
            at = next_line(source, at);
            continue;
        }
        while source[at] != b' ' {
            parsed.names[end] = source[at];
            end += 1;
            at += 1;
        }
        parsed.ends[call + 1] = end as u16;
        let mut column = 0;
        while column < COLUMNS {
            while source[at] == b' ' {
                at += 1;
            }
            if source[at] == b'-' {
                at += 1;
            } else {
                let mut number = 0;
                while source[at].is_ascii_digit() {
                    number = number * 10 + (source[at] - b'0') as u32;
                    at += 1;
                }
                parsed.numbers[column][call] = number;
            }
            column += 1;
        }
        assert!(source[at] == b'\n', "a line of syscalls.tbl does not have one field per architecture");
        at += 1;
        call += 1;
    }
    parsed
}

const fn column(index: usize) -> Column {
    let mut by_number = [0; PLACES];
    let mut call = 0;
    while call < CALLS {
        let number = PARSED.numbers[index][call];
        if number != NONE {
            let place = if number < ARM_PRIVATE { number } else { number - ARM_PRIVATE + ORDINARY as u32 };
            assert!(by_number[place as usize] == 0, "two calls of syscalls.tbl share a number");
            by_number[place as usize] = call as u16 + 1;
        }
        call += 1;
    }
    Column(by_number)
}

// An open-addressed table of call + 1; 0 is an empty slot.
const fn slots() -> [u16; SLOT_COUNT] {
    const { assert!(CALLS < SLOT_COUNT / 4 * 3, "too many calls for this many slots") };
    let mut slots = [0; SLOT_COUNT];
    let mut call = 0;
    while call < CALLS {
        let (start, end) = (PARSED.ends[call] as usize, PARSED.ends[call + 1] as usize);
        let mut slot = hash(PARSED.names.split_at(end).0.split_at(start).1) % SLOT_COUNT;
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOT_COUNT;
        }
        slots[slot] = call as u16 + 1;
        call += 1;
    }
    slots
}

// FNV-1a, folded so that its low bits depend on all of it.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(column: &Column, name: &str) -> Option<u32> {
        let wanted = find(name)?;
        column.iter().find(|&(_, call)| call == wanted).map(|(number, _)| number)
    }

    #[test]
    fn every_name_finds_itself_and_no_other() {
        for call in 0..CALLS as Call {
            assert_eq!(find(name(call)), Some(call), "{}", name(call));
        }
        for unknown in ["", "reads", "rea", "no_such_call"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn numbers_ascend_in_every_column() {
        for column in [&X86_64, &X86, &X32, &AARCH64, &ARM, &RISCV64, &S390X, &S390, &PPC64LE, &LOONGARCH64] {
            let numbers: Vec<u32> = column.iter().map(|(number, _)| number).collect();
            assert!(numbers.len() > 300);
            assert!(numbers.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(number(&X86_64, "read"), Some(0));
        assert_eq!(number(&X86_64, "file_setattr"), Some(469));
        assert_eq!(number(&X86, "socketcall"), Some(102));
        assert_eq!(number(&X32, "rt_sigaction"), Some(512));
        assert_eq!(number(&AARCH64, "clone3"), Some(435));
        assert_eq!(number(&ARM, "set_tls"), Some(0xf0005));
        assert_eq!(number(&RISCV64, "riscv_flush_icache"), Some(259));
        assert_eq!(number(&PPC64LE, "swapcontext"), Some(249));
        assert_eq!(number(&AARCH64, "open"), None);
    }

    // They were added to the kernel with one table for all that come new.
    #[test]
    fn new_architectures_have_the_same_numbers() {
        for column in [&RISCV64, &LOONGARCH64] {
            let shared = column.iter().filter(|(_, call)| number(&AARCH64, name(*call)).is_some());
            let differing: Vec<&str> = shared
                .filter(|(n, call)| number(&AARCH64, name(*call)) != Some(*n))
                .map(|(_, call)| name(call))
                .collect();
            assert_eq!(differing, [""; 0]);
            assert!(column.iter().filter(|(_, call)| number(&AARCH64, name(*call)).is_none()).count() < 5);
        }
    }

    fn name(call: Call) -> &'static str {
        std::str::from_utf8(name_of(call)).unwrap()
    }

    // What this machine's libc was built with is a second opinion on the column that matters here.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_agree_with_libc() {
        for (name, wanted) in [
            ("clone", libc::SYS_clone),
            ("bpf", libc::SYS_bpf),
            ("openat2", libc::SYS_openat2),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(number(&X86_64, name).map(i64::from), Some(wanted), "{name}");
        }
    }
}
