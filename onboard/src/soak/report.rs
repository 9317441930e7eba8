//! What is told of a soak, while it goes on and when it is over.

use std::collections::BTreeMap;

use serde::Serialize;

use super::memory::MemoryReport;

/// How a soak goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// How much of it is done, 0 to 1.
    pub done: f64,
    /// Frames that were shown.
    pub frames: u64,
    /// Faults that were made.
    pub faults: u64,
    /// Bytes of main memory; 0 where the system does not say.
    pub memory_bytes: u64,
}

/// Frames on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FramesReport {
    /// Published for the camera, garbage included.
    pub published: u64,
    /// That the camera's thread took.
    pub taken: u64,
    /// That were replaced before it took them.
    pub replaced: u64,
    /// That could not be used.
    pub lost: u64,
    /// That the node took and looked at none of.
    pub dropped: u64,
}

/// What came of a soak. Counts are of the flight alone: frames that are shown behind it, to see whether the drone answers
/// again, are in none of them.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The seed that names it.
    pub seed: u64,
    /// How long the flight took.
    pub seconds: f64,
    /// The model.
    pub model: String,
    /// The engine.
    pub engine: String,
    /// Share of the time, 0 to 1, in which something was wrong on purpose, by the schedule.
    pub under_fault: f64,
    /// Share of the frames' moments, 0 to 1, at which the drone said that it was not ready.
    pub not_ready: f64,
    /// Where frames went.
    pub frames: FramesReport,
    /// Outcomes of the node that are masks, and that refuse.
    pub segmented: u64,
    /// See `segmented`.
    pub refused: u64,
    /// Outcomes that were heard, by kind or reason; masks may be lost to newer ones on the way.
    pub heard: BTreeMap<String, u64>,
    /// The shares of these, 0 to 1.
    pub shares: BTreeMap<String, f64>,
    /// Queries that were asked once beside the one that stands.
    pub queries: u64,
    /// Messages of garbage that were refused.
    pub garbage_refused: u64,
    /// How often each kind of fault was made.
    pub faults: BTreeMap<&'static str, u64>,
    /// Memory.
    pub memory: MemoryReport,
    /// Promises that did not hold; empty when all is well.
    pub broken: Vec<String>,
}

/// What share of all each count is, 0 to 1; 0 where nothing was counted.
pub(super) fn shares(counts: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    let all = counts.values().sum::<u64>().max(1);
    counts.iter().map(|(name, count)| (name.clone(), *count as f64 / all as f64)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn shares_are_of_all_that_was_heard() {
        let counts = BTreeMap::from([("segmented".to_owned(), 3), ("too_dark".to_owned(), 1)]);
        let expected = BTreeMap::from([("segmented".to_owned(), 0.75), ("too_dark".to_owned(), 0.25)]);
        assert_eq!(shares(&counts), expected);
        assert_eq!(shares(&BTreeMap::from([("none".to_owned(), 0)]))["none"], 0.0);
        assert!(shares(&BTreeMap::new()).is_empty());
    }
}
