//! Whether a running engine is silent for too long.
//!
//! A call into a driver that hangs cannot be cancelled from within the process. What can be done is to say so, to answer
//! those who wait, and after a hard limit to end the process, so that whoever supervises it starts a new one.

use std::time::{Duration, Instant};

/// Multiples of a deadline below this are raised to it: a watchdog must not bark at ordinary jitter.
const LEAST_LATE: Duration = Duration::from_millis(100);
/// Nor end a process for a pause of its machine.
const LEAST_HUNG: Duration = Duration::from_secs(10);

/// How long an engine may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogLimits {
    /// From here on the drone is not ready. Those who wait have been refused for lateness as their own deadlines passed.
    pub late: Duration,
    /// From here on the engine counts as hung and the process is to end.
    pub hung: Duration,
}

impl WatchdogLimits {
    /// Limits as multiples of an outcome's deadline; at least 100 ms and 10 s, and hung never before late.
    #[must_use]
    pub fn of(deadline: Duration, late_deadlines: f64, hung_deadlines: f64) -> Self {
        let times = |factor: f64| Duration::try_from_secs_f64(deadline.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        let late = times(late_deadlines).max(LEAST_LATE);
        Self { late, hung: times(hung_deadlines).max(LEAST_HUNG).max(late) }
    }
}

/// What the watchdog says of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// It answers, or was not asked anything.
    Well,
    /// It has been silent for this long.
    Late(Duration),
    /// It has been silent for this long, and nothing more is expected of it.
    Hung(Duration),
}

/// Beats in, a verdict out.
#[derive(Debug, Clone)]
pub struct Watchdog {
    limits: WatchdogLimits,
    /// When the engine was given what it has not answered yet.
    asked: Option<Instant>,
}

impl Watchdog {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(limits: WatchdogLimits) -> Self {
        Self { limits, asked: None }
    }

    /// The engine was asked.
    pub fn begin(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// The engine answered, well or not.
    pub fn end(&mut self) {
        self.asked = None;
    }

    /// How the engine is now.
    #[must_use]
    pub fn pulse(&self, now: Instant) -> Pulse {
        let Some(asked) = self.asked else { return Pulse::Well };
        let silent = now.saturating_duration_since(asked);
        if silent >= self.limits.hung {
            Pulse::Hung(silent)
        } else if silent >= self.limits.late {
            Pulse::Late(silent)
        } else {
            Pulse::Well
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn limits_are_multiples_of_the_deadline_within_reason() {
        let limits = WatchdogLimits::of(Duration::from_secs(10), 2.0, 6.0);
        assert_eq!((limits.late, limits.hung), (Duration::from_secs(20), Duration::from_secs(60)));
        let limits = WatchdogLimits::of(Duration::ZERO, 2.0, 6.0);
        assert_eq!((limits.late, limits.hung), (LEAST_LATE, LEAST_HUNG));
        let limits = WatchdogLimits::of(Duration::from_secs(60), 2.0, 1.0);
        assert_eq!(limits.hung, limits.late, "never hung before late");
        let limits = WatchdogLimits::of(Duration::MAX, f64::INFINITY, f64::NAN);
        assert_eq!(limits.hung, Duration::MAX);
    }

    proptest! {
        /// Promise: P2
        #[test]
        fn silence_only_grows_worse_and_ends_with_an_answer(late in 1_u32..1000, more in 0_u32..1000, steps in 1_u32..3000) {
            let limits = WatchdogLimits { late: late * MILLI, hung: (late + more) * MILLI };
            let start = Instant::now();
            let mut watchdog = Watchdog::new(limits);
            prop_assert_eq!(watchdog.pulse(start + steps * MILLI), Pulse::Well, "nothing was asked");
            watchdog.begin(start);
            let silent = steps * MILLI;
            let expected = match steps {
                steps if steps >= late + more => Pulse::Hung(silent),
                steps if steps >= late => Pulse::Late(silent),
                _ => Pulse::Well,
            };
            prop_assert_eq!(watchdog.pulse(start + silent), expected);
            watchdog.end();
            prop_assert_eq!(watchdog.pulse(start + 1000 * silent), Pulse::Well);
        }
    }
}
