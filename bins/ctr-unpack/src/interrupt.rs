// SPDX-License-Identifier: Apache-2.0
//! Ctrl-C in the middle of a layer: what was written of it is removed before the process ends.
//!
//! A layer that is being applied may have filled gigabytes. A signal makes its stream fail, so that the
//! staged directory goes the way of any other failure; at all other times it ends the process at once.
//! After SIGKILL it is the next run that clears up.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ctr_cli::{Context, Error};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// What the signals that end a process have come to.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    received: Arc<AtomicUsize>,
    idle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub(crate) fn install() -> Result<Self, Error> {
        let interrupt = Self { received: Arc::new(AtomicUsize::new(0)), idle: Arc::new(AtomicBool::new(true)) };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: nothing is noted by a process that ends.
            flag::register_conditional_default(signal, Arc::clone(&interrupt.idle))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&interrupt.received), signal as usize))
                .unable_to(|| "handle signals")?;
        }
        Ok(interrupt)
    }

    /// Does something that leaves files behind when it is cut short; a signal makes its sources fail.
    pub(crate) fn guard<T>(&self, work: impl FnOnce() -> T) -> T {
        self.idle.store(false, Ordering::SeqCst);
        let result = work();
        self.idle.store(true, Ordering::SeqCst);
        self.end_if_received();
        result
    }

    /// A layer's blob that fails once a signal has come.
    pub(crate) fn source(&self, blob: File) -> impl Read + Send + 'static {
        Source { blob, received: Arc::clone(&self.received) }
    }

    // By the signal itself, so that a shell sees it and stops its loop.
    fn end_if_received(&self) {
        match self.received.load(Ordering::SeqCst) {
            0 => {}
            signal => drop(low_level::emulate_default_handler(signal as i32)),
        }
    }
}

struct Source {
    blob: File,
    received: Arc<AtomicUsize>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.received.load(Ordering::SeqCst) {
            0 => self.blob.read(buffer),
            signal => Err(io::Error::other(format!("interrupted by signal {signal}"))),
        }
    }
}
