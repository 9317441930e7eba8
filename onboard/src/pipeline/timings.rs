//! Where the time of an answer went.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::engine::Graph;

/// Wall time of each stage of one answer. What was prepared ahead of the engine took its time beside another frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Statistics of the frame; counted to the first query that is asked of it.
    pub gate: Duration,
    /// Resizing and normalising views; counted to the query that first needs the view.
    pub preprocess: Duration,
    /// Vision graph; counted like `preprocess`.
    pub vision: Duration,
    /// Words to tokens.
    pub words: Duration,
    /// Language graph.
    pub language: Duration,
    /// Mask graph.
    pub mask: Duration,
    /// Masks to the frame, refusal policy, encoding.
    pub postprocess: Duration,
    /// Runs of the vision, language and mask graph.
    pub runs: [u32; 3],
}

impl Timings {
    /// Time inside the engine.
    #[must_use]
    pub fn engine(&self) -> Duration {
        self.vision + self.language + self.mask
    }

    /// Time in all stages.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.engine() + self.overhead()
    }

    /// Time in our own stages.
    #[must_use]
    pub fn overhead(&self) -> Duration {
        self.gate + self.preprocess + self.words + self.postprocess
    }

    /// The stages in milliseconds, for people and JSON.
    #[must_use]
    pub fn millis(&self) -> Millis {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        Millis {
            gate: millis(self.gate),
            preprocess: millis(self.preprocess),
            vision: millis(self.vision),
            words: millis(self.words),
            language: millis(self.language),
            mask: millis(self.mask),
            postprocess: millis(self.postprocess),
            total: millis(self.total()),
        }
    }

    pub(super) fn add_run(&mut self, graph: Graph, time: Duration) {
        let (sum, runs) = match graph {
            Graph::Vision => (&mut self.vision, 0),
            Graph::Language => (&mut self.language, 1),
            Graph::Mask => (&mut self.mask, 2),
            // An answer with reasons keeps its own times: reading and writing are two things by one graph.
            Graph::Explain => return,
        };
        *sum += time;
        self.runs[runs] += 1;
    }
}

/// [`Timings`] in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Millis {
    /// See [`Timings::gate`].
    pub gate: f64,
    /// See [`Timings::preprocess`].
    pub preprocess: f64,
    /// See [`Timings::vision`].
    pub vision: f64,
    /// See [`Timings::words`].
    pub words: f64,
    /// See [`Timings::language`].
    pub language: f64,
    /// See [`Timings::mask`].
    pub mask: f64,
    /// See [`Timings::postprocess`].
    pub postprocess: f64,
    /// See [`Timings::total`].
    pub total: f64,
}

/// Runs `work` and adds its time to `sum`.
pub(super) fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *sum += start.elapsed();
    result
}
