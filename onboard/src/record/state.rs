//! What the threads of a node know of a record that is being written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kestrel_link::{Query, Recording, Refusal};

use super::messages::{Losses, Time, Totals, Unperceived};
use super::write::Event;
use crate::camera::unix_nanos;

/// Refusals that may wait to be written.
const MOST_REFUSALS: usize = 256;

/// What the threads of a node know of a record.
#[derive(Debug, Default)]
pub(crate) struct RecordState {
    pub(super) queued_bytes: AtomicUsize,
    pub(super) lost_frames: AtomicU64,
    pub(super) lost_outcomes: AtomicU64,
    /// Refusals in which perception had no part; other threads give them than the one that looks.
    refusals: Mutex<VecDeque<Event>>,
    totals: Mutex<Option<Totals>>,
    /// Why nothing is recorded any more; empty while something is.
    stopped: Mutex<String>,
}

impl RecordState {
    /// How the recording goes, for health.
    pub(crate) fn recording(&self) -> Recording {
        let Losses { frames, outcomes } = self.losses();
        Recording { lost_frames: frames, lost_outcomes: outcomes, stopped: locked(&self.stopped).clone() }
    }

    /// Takes in a refusal in which perception had no part; one that does not fit is counted as lost, unless it was given
    /// `instead` of an outcome that counts already.
    pub(crate) fn refuse(
        &self,
        query: &Query,
        frame: Option<u64>,
        (refusal, latency_micros): (&Refusal, u64),
        instead: bool,
    ) {
        let at = unix_nanos();
        let (query, refusal, timestamp) = (query.clone(), refusal.clone(), Time::of(at));
        let unperceived = Box::new(Unperceived { timestamp, frame, query, refusal, latency_micros, instead });
        let has_stopped = !locked(&self.stopped).is_empty();
        let mut refusals = locked(&self.refusals);
        if has_stopped || refusals.len() >= MOST_REFUSALS {
            self.lost_outcomes.fetch_add(u64::from(!instead), Ordering::Relaxed);
        } else {
            refusals.push_back(Event::Refusal { unperceived, at });
        }
    }

    /// The refusals that wait to be written.
    pub(super) fn take_refusals(&self) -> VecDeque<Event> {
        std::mem::take(&mut locked(&self.refusals))
    }

    /// Says what the drone counted over its flight, before the record ends.
    pub(crate) fn conclude(&self, totals: Totals) {
        *locked(&self.totals) = Some(totals);
    }

    pub(super) fn totals(&self) -> Option<Totals> {
        *locked(&self.totals)
    }

    pub(super) fn losses(&self) -> Losses {
        Losses {
            frames: self.lost_frames.load(Ordering::Relaxed),
            outcomes: self.lost_outcomes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn stop(&self, why: &str) {
        // Health is a small message.
        *locked(&self.stopped) = why.chars().take(200).collect();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::Verdict;

    /// What would break: the memory of a drone that refuses faster than its disk writes.
    #[test]
    fn refusals_that_do_not_fit_are_counted() {
        let state = RecordState::default();
        let query = Query::new("q", "the car");
        let refusal = Refusal { verdict: Verdict::DeadlineMissed, evidence: vec![], advice: "wait".into() };
        for _ in 0..MOST_REFUSALS + 3 {
            state.refuse(&query, None, (&refusal, 5), false);
        }
        assert_eq!(state.losses(), Losses { frames: 0, outcomes: 3 });
        assert_eq!(state.take_refusals().len(), MOST_REFUSALS);
        state.stop("the disk is full");
        state.refuse(&query, Some(3), (&refusal, 5), false);
        state.refuse(&query, Some(4), (&refusal, 5), true);
        assert!(state.take_refusals().is_empty(), "nobody would take it");
        assert_eq!(state.losses().outcomes, 4);
    }
}
