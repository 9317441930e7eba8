//! When an engine that failed is opened again, and when another one flies in its place.
//!
//! A state machine over instants that are handed in: no clock, no thread, no engine.

use std::time::{Duration, Instant};

/// No pause is longer, whatever the configuration says; keeps sums of instants far from their end.
const DAY: Duration = Duration::from_secs(86_400);

/// The rules of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryLimits {
    /// Pause after the first failure; it doubles with every further one.
    pub first_pause: Duration,
    /// The longest pause, at most a day.
    pub longest_pause: Duration,
    /// Answers without a failure after which an engine's earlier failures are forgotten.
    pub good_answers: u32,
    /// Failures of the first engine in a row after which the fallback flies, where there is one; 0 counts as 1.
    pub fallback_after: u32,
    /// Failures in a row of everything that may fly after which it is given up; 0 never gives up.
    pub give_up_after: u32,
}

impl Default for RecoveryLimits {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            good_answers: 20,
            fallback_after: 3,
            give_up_after: 12,
        }
    }
}

impl RecoveryLimits {
    /// The pause after so many failures in a row.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        let longest = self.longest_pause.min(DAY);
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1));
        doubled.and_then(|times| self.first_pause.checked_mul(times)).map_or(longest, |pause| pause.min(longest))
    }
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that was asked for.
    First,
    /// The one that the configuration allows in its place.
    Fallback,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something fails.
    Rest,
    /// Nothing before this instant, unless something happens.
    Wait(Instant),
    /// Open this engine.
    Open(Which),
    /// Nothing more is to be hoped for in this process.
    GiveUp,
}

/// What is known of one engine.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Runs and openings that failed in a row.
    failures: u32,
    /// Good answers since it was opened, as long as there are failures to forget.
    good: u32,
    /// Not to be opened before.
    next: Option<Instant>,
}

/// Which engine flies, and what failed so far.
#[derive(Debug, Clone)]
pub struct Recovery {
    limits: RecoveryLimits,
    has_fallback: bool,
    flies: Option<Which>,
    first: Record,
    fallback: Record,
}

impl Recovery {
    /// The first engine flies and nothing has failed.
    #[must_use]
    pub fn new(limits: RecoveryLimits, has_fallback: bool) -> Self {
        let (first, fallback) = Default::default();
        Self { limits, has_fallback, flies: Some(Which::First), first, fallback }
    }

    /// Which engine flies; `None` while none does.
    #[must_use]
    pub fn flies(&self) -> Option<Which> {
        self.flies
    }

    /// Failures of an engine in a row.
    #[must_use]
    pub fn failures(&self, which: Which) -> u32 {
        match which {
            Which::First => self.first.failures,
            Which::Fallback => self.fallback.failures,
        }
    }

    /// An engine failed: in a run, or when it was opened.
    pub fn failed(&mut self, which: Which, now: Instant) {
        if self.flies == Some(which) {
            self.flies = None;
        }
        let limits = self.limits;
        let record = self.record(which);
        record.failures = record.failures.saturating_add(1);
        record.good = 0;
        record.next = now.checked_add(limits.pause(record.failures));
    }

    /// An engine was opened and flies from now on.
    pub fn opened(&mut self, which: Which) {
        self.flies = Some(which);
        let record = self.record(which);
        record.good = 0;
        record.next = None;
    }

    /// The engine that flies gave an answer. True when its earlier failures are forgotten by this.
    pub fn answered(&mut self) -> bool {
        let Some(which) = self.flies else { return false };
        let enough = self.limits.good_answers;
        let record = self.record(which);
        if record.failures == 0 {
            return false;
        }
        record.good = record.good.saturating_add(1);
        if record.good < enough {
            return false;
        }
        *record = Record::default();
        true
    }

    /// Another model flies on the first engine: what was before does not count.
    pub fn replaced(&mut self) {
        *self = Self::new(self.limits, self.has_fallback);
    }

    /// What is to be done now. The first engine comes first; the fallback's turn is only while nothing flies.
    #[must_use]
    pub fn next(&self, now: Instant) -> Step {
        if self.flies == Some(Which::First) {
            return Step::Rest;
        }
        if self.hopeless() {
            return Step::GiveUp;
        }
        let late =
            self.has_fallback && self.flies.is_none() && self.first.failures >= self.limits.fallback_after.max(1);
        let candidates = [(Which::First, Some(&self.first)), (Which::Fallback, late.then_some(&self.fallback))];
        let mut soonest: Option<Instant> = None;
        for (which, record) in candidates {
            match record.map(|record| record.next) {
                Some(Some(at)) if at > now => soonest = Some(soonest.map_or(at, |other| other.min(at))),
                Some(_) => return Step::Open(which),
                None => {}
            }
        }
        soonest.map_or(Step::Rest, Step::Wait)
    }

    fn hopeless(&self) -> bool {
        let most = self.limits.give_up_after;
        let tried = |record: &Record| record.failures >= most;
        most > 0 && self.flies.is_none() && tried(&self.first) && (!self.has_fallback || tried(&self.fallback))
    }

    fn record(&mut self, which: Which) -> &mut Record {
        match which {
            Which::First => &mut self.first,
            Which::Fallback => &mut self.fallback,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> RecoveryLimits {
        RecoveryLimits {
            first_pause: SECOND,
            longest_pause: 8 * SECOND,
            good_answers: 3,
            fallback_after: 2,
            give_up_after: 0,
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> = (0..8).map(|failures| limits().pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 8, 8, 8]);
        assert_eq!(limits().pause(u32::MAX), 8 * SECOND);
        let endless = RecoveryLimits { longest_pause: Duration::MAX, ..limits() };
        assert_eq!(endless.pause(u32::MAX), DAY);
    }

    #[test]
    fn a_failure_is_followed_by_a_pause_and_forgotten_after_good_answers() {
        let start = Instant::now();
        let mut recovery = Recovery::new(limits(), false);
        assert_eq!(recovery.next(start), Step::Rest);
        recovery.failed(Which::First, start);
        assert_eq!(recovery.next(start), Step::Wait(start + SECOND));
        assert_eq!(recovery.next(start + SECOND), Step::Open(Which::First));
        recovery.opened(Which::First);
        assert_eq!((recovery.next(start + SECOND), recovery.failures(Which::First)), (Step::Rest, 1));
        assert_eq!([recovery.answered(), recovery.answered(), recovery.answered()], [false, false, true]);
        assert_eq!(recovery.failures(Which::First), 0);
    }

    #[test]
    fn a_failure_between_good_answers_counts_on() {
        let start = Instant::now();
        let mut recovery = Recovery::new(limits(), false);
        for failures in 1..=3 {
            recovery.failed(Which::First, start);
            assert_eq!(recovery.next(start), Step::Wait(start + limits().pause(failures)));
            recovery.opened(Which::First);
            recovery.answered();
            recovery.answered();
        }
    }

    /// Promise: P3
    #[test]
    fn the_fallback_flies_late_and_the_first_engine_comes_back() {
        let start = Instant::now();
        let mut recovery = Recovery::new(limits(), true);
        recovery.failed(Which::First, start);
        assert_eq!(recovery.next(start), Step::Wait(start + SECOND), "one failure is not enough");
        recovery.failed(Which::First, start);
        assert_eq!(recovery.next(start), Step::Open(Which::Fallback));
        recovery.opened(Which::Fallback);
        assert_eq!(recovery.next(start), Step::Wait(start + 2 * SECOND));
        assert_eq!(recovery.next(start + 2 * SECOND), Step::Open(Which::First));
        assert_eq!(recovery.flies(), Some(Which::Fallback), "it flies on while the first engine is tried");
        recovery.opened(Which::First);
        assert_eq!(recovery.next(start + 2 * SECOND), Step::Rest);
    }

    #[test]
    fn it_is_given_up_only_when_nothing_is_left() {
        let start = Instant::now();
        let strict = RecoveryLimits { give_up_after: 2, fallback_after: 1, ..limits() };
        let mut alone = Recovery::new(strict, false);
        alone.failed(Which::First, start);
        assert_ne!(alone.next(start), Step::GiveUp);
        alone.failed(Which::First, start);
        assert_eq!(alone.next(start), Step::GiveUp);
        let mut both = Recovery::new(strict, true);
        both.failed(Which::First, start);
        both.failed(Which::First, start);
        assert_eq!(both.next(start), Step::Open(Which::Fallback));
        both.failed(Which::Fallback, start);
        both.failed(Which::Fallback, start);
        assert_eq!(both.next(start), Step::GiveUp);
        both.replaced();
        assert_eq!(both.next(start), Step::Rest, "another model begins anew");
    }

    proptest! {
        /// Whatever happens: nothing is opened within its pause, no fallback unless it is allowed and the first engine is
        /// gone, and what flies was opened.
        ///
        /// Promise: P3
        #[test]
        fn no_order_of_events_breaks_the_rules(
            events in proptest::collection::vec((0_u8..4, 0_u64..5000), 1..200),
            has_fallback: bool,
        ) {
            let mut now = Instant::now();
            let mut recovery = Recovery::new(limits(), has_fallback);
            let mut failed_at = [None::<(Instant, u32)>; 2];
            for (event, millis) in events {
                now += Duration::from_millis(millis);
                let which = recovery.flies();
                match (event, which) {
                    (0, Some(which)) => {
                        recovery.failed(which, now);
                        failed_at[which as usize] = Some((now, recovery.failures(which)));
                    }
                    (1, _) => {
                        recovery.answered();
                    }
                    _ => match recovery.next(now) {
                        Step::Open(which) => {
                            if let Some((at, failures)) = failed_at[which as usize] {
                                prop_assert!(now >= at + limits().pause(failures));
                            }
                            if which == Which::Fallback {
                                prop_assert!(has_fallback && recovery.flies().is_none());
                                prop_assert!(recovery.failures(Which::First) >= limits().fallback_after);
                            }
                            if event == 2 {
                                recovery.opened(which);
                                prop_assert_eq!(recovery.flies(), Some(which));
                            } else {
                                recovery.failed(which, now);
                                failed_at[which as usize] = Some((now, recovery.failures(which)));
                            }
                        }
                        Step::Wait(until) => prop_assert!(until > now && until <= now + limits().longest_pause),
                        Step::Rest => prop_assert_eq!(recovery.flies(), Some(Which::First)),
                        Step::GiveUp => prop_assert!(false, "it never gives up with these limits"),
                    },
                }
            }
        }
    }
}
