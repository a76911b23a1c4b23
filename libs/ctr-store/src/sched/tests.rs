// SPDX-License-Identifier: Apache-2.0
//! The limiter inside one process: locks of separate opens exclude one another there as well.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::mpsc;
use std::thread;

use super::*;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scratch(name: &str) -> (Scratch, Scheduler) {
    let root = std::env::temp_dir().join(format!("ctr-store-sched-{name}-{}", std::process::id()));
    let scheduler = Scheduler::open(&StateDir::open(&root).unwrap()).unwrap();
    (Scratch(root), scheduler)
}

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

#[test]
fn the_limit_is_kept_and_read_back() {
    let (_scratch, scheduler) = scratch("limit");
    assert_eq!(scheduler.limit().unwrap(), DEFAULT_LIMIT);
    scheduler.set_limit(3).unwrap();
    assert_eq!(scheduler.limit().unwrap(), 3);
    fs::write(scheduler.limit_file(), "many").unwrap();
    assert!(matches!(scheduler.limit(), Err(StoreError::Damaged { .. })));
}

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let (_scratch, scheduler) = scratch("order");
    let first = scheduler.acquire(1, &[]).unwrap();
    let (served, order) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..20_usize {
            let (scheduler, served) = (&scheduler, served.clone());
            scope.spawn(move || {
                let place = scheduler.acquire(1, &[number.to_string()]).unwrap();
                served.send(number).unwrap();
                drop(place);
            });
            until(|| scheduler.status().unwrap().waiters.len() == number + 1);
        }
        let status = scheduler.status().unwrap();
        assert_eq!(status.holders.len(), 1);
        let commands: Vec<String> =
            status.waiters.iter().map(|waiter| waiter.owner.as_ref().unwrap().command[0].clone()).collect();
        assert_eq!(commands, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        drop(first);
    });
    assert_eq!(order.try_iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(fs::read_dir(scheduler.queue()).unwrap().next().is_none());
}

#[test]
fn tickets_of_the_dead_hold_nobody_up_and_are_removed() {
    let (_scratch, scheduler) = scratch("dead");
    for number in [3, 7, 8] {
        fs::write(scheduler.queue().join(number.to_string()), "").unwrap();
    }
    assert!(scheduler.status().unwrap().waiters.is_empty());
    drop(scheduler.acquire(1, &[]).unwrap());
    assert!(fs::read_dir(scheduler.queue()).unwrap().next().is_none());
}

#[test]
fn a_waiter_that_gives_up_lets_the_one_behind_it_pass() {
    let (_scratch, scheduler) = scratch("giveup");
    let (queue, mutex) = (scheduler.queue(), scheduler.dir.join("mutex"));
    let draw = || Ticket::draw(&queue, &mutex, &Owner::this(&[])).unwrap();
    let (first, second, third) = (draw(), draw(), draw());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| third.wait_until_first().unwrap());
        drop(second);
        // The third now sleeps on the first, or is about to.
        assert!(!waiting.is_finished());
        drop(first);
        waiting.join().unwrap();
    });
}

#[test]
fn places_are_not_given_twice_and_a_freed_one_is_given_again() {
    let (_scratch, scheduler) = scratch("places");
    let mut places: Vec<Place> = (0..3).map(|_| scheduler.acquire(3, &[]).unwrap()).collect();
    let slots = |status: Status| status.holders.iter().map(|holder| holder.slot).collect::<Vec<_>>();
    assert_eq!(slots(scheduler.status().unwrap()), [0, 1, 2]);
    drop(places.remove(1));
    assert_eq!(slots(scheduler.status().unwrap()), [0, 2]);
    places.push(scheduler.acquire(3, &[]).unwrap());
    assert_eq!(slots(scheduler.status().unwrap()), [0, 1, 2]);
}

#[test]
fn the_owner_is_named() {
    let (_scratch, scheduler) = scratch("owner");
    let _place = scheduler.acquire(1, &["ctr-shim".into(), "--x".into()]).unwrap();
    let status = serde_json::to_value(scheduler.status().unwrap()).unwrap();
    let holder = &status["holders"][0];
    assert_eq!(holder["pid"], std::process::id());
    assert_eq!(holder["command"], serde_json::json!(["ctr-shim", "--x"]));
    assert!(holder["startTime"].as_u64().unwrap() > 0);
    assert_eq!(holder["slot"], 0);
}

#[test]
fn unlocking_frees_a_place_although_a_copy_of_its_descriptor_lives() {
    let (_scratch, scheduler) = scratch("unlock");
    let place = scheduler.acquire(1, &[]).unwrap();
    let copy = nix::unistd::dup(&place.file).unwrap();
    Inherited::take_number(place.into_inheritable().unwrap()).unwrap().release();
    drop(scheduler.acquire(1, &[]).unwrap());
    drop(copy);
}

#[test]
fn a_number_that_is_no_place_is_left_alone() {
    let (scratch, _scheduler) = scratch("foreign");
    let foreign = nix::unistd::dup(File::create(scratch.0.join("foreign")).unwrap()).unwrap();
    assert!(Inherited::take_number(foreign.as_raw_fd()).is_none());
    assert!(Inherited::take_number(1).is_none());
    assert!(Inherited::take_number(-1).is_none());
    // Still open, and still inheritable.
    assert!(ctr_sys::inherit::take(foreign.into_raw_fd()).is_some());
}
