//! Whether memory grew, judged by the thirds of a flight.
//!
//! What is loaded and grows to its size in the first third does not count, and neither does what an engine takes while it
//! is opened again: for a moment that is more than once it flies. The schedule makes the thirds alike.

use std::time::Duration;

use serde::Serialize;

/// Shorter thirds say nothing: in them it is chance which of the things that take memory for a while has come.
const LEAST_THIRD: Duration = Duration::from_secs(15);

/// What memory says of a flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryJudgement {
    /// It did not grow by more than it may.
    Held,
    /// It did.
    Grew,
    /// The flight was shorter than 45 seconds.
    TooShort,
    /// The system does not say how much there is, or the drone was not ready in one of the thirds.
    #[default]
    Unknown,
}

/// Memory, in bytes; all 0 where the system does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryReport {
    /// The most in the second third, while the drone was ready.
    pub middle_bytes: u64,
    /// The most in the last third, while the drone was ready.
    pub last_bytes: u64,
    /// The most of the whole flight.
    pub most_bytes: u64,
    /// By how much it may grow from the second third to the last.
    pub most_growth_bytes: u64,
    /// Whether it did.
    pub judgement: MemoryJudgement,
}

impl MemoryReport {
    /// What is to be said when it grew.
    pub(super) fn complaint(&self) -> Option<String> {
        let Self { middle_bytes, last_bytes, most_growth_bytes, judgement, .. } = self;
        (*judgement == MemoryJudgement::Grew)
            .then(|| format!("memory grew from {middle_bytes} to {last_bytes} bytes, by more than {most_growth_bytes}"))
    }
}

/// The most in each third of a flight.
#[derive(Debug)]
pub(super) struct Memory {
    length: Duration,
    most_growth_bytes: u64,
    /// While the drone was ready.
    thirds: [u64; 3],
    most: u64,
}

impl Memory {
    /// Nothing yet of a flight that lasts so long.
    pub(super) fn new(length: Duration, most_growth_bytes: u64) -> Self {
        Self { length, most_growth_bytes, thirds: [0; 3], most: 0 }
    }

    /// Takes in how much there is when a share of the flight, 0 to 1, is `done`.
    pub(super) fn see(&mut self, done: f64, bytes: u64, is_ready: bool) {
        self.most = self.most.max(bytes);
        if is_ready {
            let third = &mut self.thirds[((done * 3.0) as usize).min(2)];
            *third = bytes.max(*third);
        }
    }

    pub(super) fn report(&self) -> MemoryReport {
        let [_, middle_bytes, last_bytes] = self.thirds;
        let judgement = if self.length < LEAST_THIRD * 3 {
            MemoryJudgement::TooShort
        } else if middle_bytes == 0 || last_bytes == 0 {
            MemoryJudgement::Unknown
        } else if last_bytes > middle_bytes.saturating_add(self.most_growth_bytes) {
            MemoryJudgement::Grew
        } else {
            MemoryJudgement::Held
        };
        let (most_bytes, most_growth_bytes) = (self.most, self.most_growth_bytes);
        MemoryReport { middle_bytes, last_bytes, most_bytes, most_growth_bytes, judgement }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use MemoryJudgement::{Grew, Held, TooShort, Unknown};

    /// A flight of so many seconds in which 10 bytes of growth are allowed.
    fn judged(seconds: u64, seen: &[(f64, u64, bool)]) -> MemoryReport {
        let mut memory = Memory::new(Duration::from_secs(seconds), 10);
        seen.iter().for_each(|&(done, bytes, is_ready)| memory.see(done, bytes, is_ready));
        memory.report()
    }

    /// What would break: a leak that a soak does not see.
    ///
    /// Promise: P5
    #[test]
    fn growth_from_the_second_third_to_the_last_is_told() {
        let grown = [(0.1, 5, true), (0.5, 100, true), (0.6, 90, true), (0.7, 40, true), (0.9, 111, true)];
        let report = judged(60, &grown);
        assert_eq!((report.middle_bytes, report.last_bytes, report.judgement), (100, 111, Grew));
        assert!(report.complaint().unwrap().contains("from 100 to 111"));
        let held = judged(60, &[(0.1, 5, true), (0.5, 100, true), (1.0, 110, true)]);
        assert_eq!((held.judgement, held.complaint()), (Held, None));
        assert_eq!(
            judged(60, &[(0.1, 1, true), (0.4, 100, true), (0.9, 3, true)]).judgement,
            Held,
            "less is no growth"
        );
    }

    /// What would break: a soak that calls it a leak when an engine is opened.
    #[test]
    fn an_engine_that_is_opened_is_no_growth() {
        let opened = judged(60, &[(0.5, 100, true), (0.8, 900, false), (0.9, 100, true)]);
        assert_eq!((opened.judgement, opened.most_bytes), (Held, 900));
    }

    #[test]
    fn what_cannot_be_judged_is_not() {
        let grown = [(0.5, 100, true), (0.9, 900, true)];
        assert_eq!(judged(44, &grown).judgement, TooShort);
        assert_eq!(judged(45, &grown).judgement, Grew);
        assert_eq!(judged(60, &[(0.5, 100, true), (0.9, 900, false)]).judgement, Unknown, "never ready");
        assert_eq!(judged(60, &[(0.5, 0, true), (0.9, 0, true)]).judgement, Unknown, "the system says nothing");
        assert_eq!(judged(60, &[]).complaint(), None);
    }
}
