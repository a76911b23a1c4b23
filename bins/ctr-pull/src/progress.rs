// SPDX-License-Identifier: Apache-2.0
//! Progress bars: on standard error, where that is a terminal and nobody asked for quiet.

use std::io::IsTerminal;

use ctr_record::Descriptor;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{prefix} {bar:32} {bytes:>10} of {total_bytes:10} {binary_bytes_per_sec:>12} {msg}";

/// The bars of all transfers, or none at all.
#[derive(Clone)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        Self { bars: visible.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))) }
    }

    /// A bar for one blob.
    pub(crate) fn begin(&self, descriptor: &Descriptor) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
            let bar = bars.add(ProgressBar::new(descriptor.size).with_style(style.progress_chars("=> ")));
            bar.set_prefix(descriptor.digest.hex()[..12].to_owned());
            bar
        });
        Bar(bar)
    }
}

/// One transfer's bar; gone when it is dropped.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Says why nothing moves, or that something does again.
    pub(crate) fn say(&self, message: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_message(message);
            bar.tick();
        }
    }

    /// Sets where the transfer is.
    pub(crate) fn set(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
