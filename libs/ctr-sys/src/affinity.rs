// SPDX-License-Identifier: Apache-2.0
//! On which CPUs a thread may run.
#![allow(unsafe_code)]

use std::io;

use nix::sys::resource::{UsageWho, getrusage};

/// How many CPUs a set can name; Linux can be built for 8192.
pub const MAX_CPUS: usize = 8192;

const WORDS: usize = MAX_CPUS / 64;

/// A set of CPUs.
#[derive(Clone, PartialEq, Eq)]
pub struct CpuSet(Box<[u64; WORDS]>);

impl CpuSet {
    /// No CPU.
    pub fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Every CPU that there is, and those that there may be once.
    pub fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// Adds a CPU. `false`: there can be none of that number.
    pub fn insert(&mut self, cpu: usize) -> bool {
        match self.0.get_mut(cpu / 64) {
            Some(word) => *word |= 1 << (cpu % 64),
            None => return false,
        }
        true
    }

    /// Takes a CPU away.
    pub fn remove(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word &= !(1 << (cpu % 64));
        }
    }

    /// How many CPUs are in the set.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / 64).is_some_and(|word| word & (1 << (cpu % 64)) != 0)
    }

    /// The set as the kernel takes it.
    pub(crate) fn words(&self) -> &[u64] {
        &*self.0
    }

    /// The set as a hexadecimal number, a bit for each CPU, as taskset(1) has it.
    pub fn mask(&self) -> String {
        let top = self.0.iter().rposition(|word| *word != 0).unwrap_or(0);
        let rest: String = self.0[..top].iter().rev().map(|word| format!("{word:016x}")).collect();
        format!("{:#x}{rest}", self.0[top])
    }
}

impl std::fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..MAX_CPUS).filter(|cpu| self.contains(*cpu))).finish()
    }
}

/// Lets this thread, and what it starts, run on these CPUs as far as they exist and its cpuset allows them
/// (sched_setaffinity(2)).
pub fn set(cpus: &CpuSet) -> io::Result<()> {
    set_of(0, cpus)
}

/// The same of another thread; 0 is this one.
pub(crate) fn set_of(thread: libc::pid_t, cpus: &CpuSet) -> io::Result<()> {
    let size = size_of_val(&*cpus.0);
    // SAFETY: the kernel reads `size` bytes, which is what the array has; it outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, size, cpus.0.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The CPUs that this thread may run on (sched_getaffinity(2)).
pub fn get() -> io::Result<CpuSet> {
    let mut cpus = CpuSet::none();
    let size = size_of_val(&*cpus.0);
    // SAFETY: the kernel writes at most `size` bytes, which is what the array has, and any bits are valid.
    let result = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, cpus.0.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cpus) }
}

/// The CPUs that this thread may run on but for the one that it runs on; `None`: there is no other.
pub fn elsewhere() -> Option<CpuSet> {
    but_this(get().ok()?)
}

fn but_this(mut cpus: CpuSet) -> Option<CpuSet> {
    cpus.remove(nix::sched::sched_getcpu().ok()?);
    (cpus.count() > 0).then_some(cpus)
}

/// How often this thread has had to leave its CPU to another one while it could have run (getrusage(2)).
pub fn preemptions() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.involuntary_context_switches())
}

/// A thread that has left its CPU to another one, and may go back to it once this is dropped.
#[derive(Debug)]
pub struct Aside(CpuSet);

impl Aside {
    /// Steps aside, if there is another CPU to go to.
    pub fn step() -> Option<Self> {
        let before = get().ok()?;
        set(&but_this(before.clone())?).ok()?;
        Some(Self(before))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Whoever may run everywhere may also run on what is added later.
        if set(&CpuSet::all()).is_err() || get().ok().as_ref() != Some(&self.0) {
            let _ = set(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_cpu() {
        let mut cpus = CpuSet::none();
        assert_eq!(cpus.mask(), "0x0");
        for cpu in [1, 2, 65] {
            cpus.insert(cpu);
        }
        assert_eq!(cpus.mask(), "0x20000000000000006");
    }

    #[test]
    fn a_thread_steps_aside_and_comes_back() {
        std::thread::spawn(|| {
            let before = get().unwrap();
            match Aside::step() {
                Some(aside) => {
                    let (now, here) = (get().unwrap(), nix::sched::sched_getcpu().unwrap());
                    assert!(now != before && now.contains(here));
                    drop(aside);
                }
                None => assert_eq!(before.count(), 1),
            }
            assert_eq!(get().unwrap(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_is_preempted_by_another_one_on_its_cpu() {
        let cpu = nix::sched::sched_getcpu().unwrap();
        let counted = [(); 2].map(|()| {
            std::thread::spawn(move || {
                let mut one = CpuSet::none();
                one.insert(cpu);
                set(&one).unwrap();
                let (before, start) = (preemptions(), std::time::Instant::now());
                while preemptions() == before && start.elapsed().as_secs() < 60 {}
                preemptions() - before
            })
        });
        assert!(counted.map(|thread| thread.join().unwrap()).iter().any(|count| *count > 0));
    }

    #[test]
    fn a_thread_runs_where_it_is_told_to() {
        std::thread::spawn(|| {
            let before = get().unwrap();
            let first = (0..MAX_CPUS).find(|cpu| before.contains(*cpu)).unwrap();
            let mut one = CpuSet::none();
            assert!(one.insert(first) && !one.insert(MAX_CPUS));
            set(&one).unwrap();
            assert_eq!(get().unwrap(), one);
            set(&CpuSet::all()).unwrap();
            assert_eq!(get().unwrap(), before);
            assert!(set(&CpuSet::none()).is_err());
        })
        .join()
        .unwrap();
    }
}
