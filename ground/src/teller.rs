//! Tells a person or a machine how long work goes on.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal as _;

/// A bar on a terminal, a line now and then elsewhere, an object a step for machines.
pub(crate) struct Teller {
    bar: ProgressBar,
    json: bool,
    lines: bool,
}

impl Teller {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if json || !terminal { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)") {
            bar.set_style(style);
        }
        Self { bar, json, lines: !json && !terminal }
    }

    /// Pictures are made, `done` of `all`.
    pub(crate) fn samples(&self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message("samples");
        if self.lines && done.is_multiple_of(256) {
            eprintln!("samples {done} of {all}");
        }
    }

    /// Something else that takes long.
    pub(crate) fn words(&self, words: &str) {
        if !self.json {
            eprintln!("{words}");
        }
    }

    /// A step is done; `shown` where it says more than others.
    pub(crate) fn step(&self, step: usize, steps: usize, entry: &impl Serialize, shown: bool) {
        self.bar.set_length(steps as u64);
        self.bar.set_position(step as u64);
        self.bar.set_message("steps");
        let text = serde_json::to_string(entry).unwrap_or_default();
        if self.json {
            println!("{text}");
        } else if shown || (self.lines && step.is_multiple_of(20)) {
            eprintln!("{text}");
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
