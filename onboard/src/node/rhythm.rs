//! When the next frame is to be prepared, so that it is ready when the engine is free and not older than it must be.
//!
//! A frame prepared as soon as it comes would wait for as long as the engine takes for the one before, while newer frames
//! come in; preparing each of those too would take processor time from the engine for frames that nobody looks at. So the
//! newest frame is prepared shortly before the engine is expected to be free. The expectation is how long the engine took
//! last: where it is wrong, a frame is a little older or the engine waits a little, and no answer is another.

use std::time::{Duration, Instant};

/// Frames are ready before they are needed by their preparation's time and this much: threads do not wake at once.
const LEAST_LEAD: Duration = Duration::from_millis(2);

/// What is known of how long things take.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    /// Since when a frame has been looked at; `None` while the engine has nothing to do.
    since: Option<Instant>,
    /// How long the last frame was looked at.
    usual: Duration,
    /// How long the last preparation took.
    preparation: Duration,
}

impl Rhythm {
    /// The engine has work from now on.
    pub(super) fn busy(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The engine has nothing more to do.
    pub(super) fn idle(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.usual = now.saturating_duration_since(since);
        }
    }

    /// A frame was prepared in this time.
    pub(super) fn prepared(&mut self, took: Duration) {
        self.preparation = took;
    }

    /// How long to wait before the newest frame is prepared; `None` when that is to be done now.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let busy = now.saturating_duration_since(self.since?);
        let lead = self.preparation.saturating_mul(2).saturating_add(LEAST_LEAD);
        let pause = self.usual.checked_sub(busy)?.checked_sub(lead)?;
        (pause > Duration::ZERO).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_frame_is_prepared_shortly_before_the_engine_is_free() {
        let start = Instant::now();
        let mut rhythm = Rhythm::default();
        assert_eq!(rhythm.pause(start), None, "nothing is known, and the engine waits");
        rhythm.busy(start);
        assert_eq!(rhythm.pause(start), None, "nothing is known");
        rhythm.idle(start + 300 * MILLI);
        rhythm.prepared(4 * MILLI);
        let again = start + 310 * MILLI;
        assert_eq!(rhythm.pause(again), None, "the engine waits");
        rhythm.busy(again);
        rhythm.busy(again + 50 * MILLI);
        assert_eq!(rhythm.pause(again + 100 * MILLI), Some(190 * MILLI));
        assert_eq!(rhythm.pause(again + 290 * MILLI), None);
        assert_eq!(rhythm.pause(again + 900 * MILLI), None, "slower than usual");
    }

    #[test]
    fn a_fast_engine_is_never_waited_for() {
        let start = Instant::now();
        let mut rhythm = Rhythm::default();
        rhythm.busy(start);
        rhythm.idle(start + 5 * MILLI);
        rhythm.prepared(4 * MILLI);
        rhythm.busy(start + 5 * MILLI);
        assert_eq!(rhythm.pause(start + 5 * MILLI), None);
    }
}
