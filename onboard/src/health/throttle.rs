//! How many frames a hot drone looks at.

use std::time::{Duration, Instant};

/// Where between full and least rate a drone stays while its supply reports over-current.
const OVER_CURRENT_SHARE: f64 = 0.5;

/// Between which temperatures the frame rate falls, and how far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThrottleLimits {
    /// Degrees Celsius up to which nothing is throttled.
    pub warm_celsius: f64,
    /// Degrees Celsius from which the least rate is left; above `warm_celsius`.
    pub hot_celsius: f64,
    /// By how many degrees it must cool down before the rate rises again.
    pub hysteresis_celsius: f64,
    /// Frames per second of the camera.
    pub full_frames_per_second: f64,
    /// Frames per second that are looked at however hot it is; counts as the full rate when it is above that.
    pub least_frames_per_second: f64,
}

/// How much is throttled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Cool,
    /// The rate is between full and least.
    Warm,
    /// The least rate.
    Hot,
}

impl Level {
    /// Name for people and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cool => "cool",
            Self::Warm => "warm",
            Self::Hot => "hot",
        }
    }
}

/// The controller: the rate falls at once when it gets hotter, and rises only after it has cooled down by the hysteresis.
#[derive(Debug, Clone)]
pub struct Throttle {
    limits: ThrottleLimits,
    /// 0 at the full rate, 1 at the least one.
    heat: f64,
    over_current: bool,
}

impl Throttle {
    /// A controller that throttles nothing yet.
    #[must_use]
    pub fn new(limits: ThrottleLimits) -> Self {
        Self { limits, heat: 0.0, over_current: false }
    }

    /// Takes in a reading: the hottest sensor, if any could be read, and whether the supply reports over-current.
    pub fn update(&mut self, celsius: Option<f64>, over_current: bool) {
        self.over_current = over_current;
        self.heat = match celsius.filter(|celsius| celsius.is_finite()) {
            // Between these two the rate stays where it is.
            Some(celsius) => {
                let least = self.share(celsius);
                let most = self.share(celsius + self.limits.hysteresis_celsius.max(0.0));
                self.heat.max(least).min(most)
            }
            // Who cannot measure has no reason to throttle.
            None => 0.0,
        };
    }

    fn share(&self, celsius: f64) -> f64 {
        let ThrottleLimits { warm_celsius, hot_celsius, .. } = self.limits;
        if celsius >= hot_celsius {
            return 1.0;
        }
        ((celsius - warm_celsius) / (hot_celsius - warm_celsius)).clamp(0.0, 1.0)
    }

    fn throttled(&self) -> f64 {
        if self.over_current { self.heat.max(OVER_CURRENT_SHARE) } else { self.heat }
    }

    /// How much is throttled.
    #[must_use]
    pub fn level(&self) -> Level {
        match self.throttled() {
            share if share <= 0.0 => Level::Cool,
            share if share < 1.0 => Level::Warm,
            _ => Level::Hot,
        }
    }

    /// Frames per second to look at; `None` when nothing is throttled.
    #[must_use]
    pub fn frames_per_second(&self) -> Option<f64> {
        let ThrottleLimits { full_frames_per_second: full, least_frames_per_second: least, .. } = self.limits;
        let share = self.throttled();
        (share > 0.0).then(|| full - share * (full - least.min(full)))
    }
}

/// Lets through as many frames as a rate allows.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    next: Option<Instant>,
}

impl Pace {
    /// Whether a frame that arrives now is looked at, at `frames_per_second` above 0, or at any rate for `None`.
    pub fn admits(&mut self, now: Instant, frames_per_second: Option<f64>) -> bool {
        let Some(rate) = frames_per_second else {
            self.next = None;
            return true;
        };
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::from_secs(1));
        // Counted from when the frame was due, so that the rate is met on average; from now after a gap.
        let due = self.next.and_then(|next| next.checked_add(period)).filter(|due| *due > now);
        self.next = due.or_else(|| now.checked_add(period));
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn limits() -> ThrottleLimits {
        ThrottleLimits {
            warm_celsius: 70.0,
            hot_celsius: 90.0,
            hysteresis_celsius: 4.0,
            full_frames_per_second: 10.0,
            least_frames_per_second: 2.0,
        }
    }

    fn at(throttle: &mut Throttle, celsius: f64) -> (Level, Option<f64>) {
        throttle.update(Some(celsius), false);
        (throttle.level(), throttle.frames_per_second())
    }

    #[test]
    fn the_rate_falls_between_warm_and_hot_and_rises_after_cooling_down() {
        let mut throttle = Throttle::new(limits());
        assert_eq!(at(&mut throttle, 70.0), (Level::Cool, None));
        assert_eq!(at(&mut throttle, 80.0), (Level::Warm, Some(6.0)));
        assert_eq!(at(&mut throttle, 76.0), (Level::Warm, Some(6.0)), "within the hysteresis");
        assert_eq!(at(&mut throttle, 120.0), (Level::Hot, Some(2.0)));
        assert_eq!(at(&mut throttle, 87.0), (Level::Hot, Some(2.0)));
        assert_eq!(at(&mut throttle, 76.0), (Level::Warm, Some(6.0)));
        assert_eq!(at(&mut throttle, 66.0), (Level::Cool, None));
        throttle.update(Some(120.0), false);
        throttle.update(None, false);
        assert_eq!(throttle.level(), Level::Cool, "what cannot be measured is not throttled");
    }

    #[test]
    fn over_current_halves_the_way_to_the_least_rate() {
        let mut throttle = Throttle::new(limits());
        throttle.update(None, true);
        assert_eq!((throttle.level(), throttle.frames_per_second()), (Level::Warm, Some(6.0)));
        throttle.update(Some(90.0), true);
        assert_eq!(throttle.frames_per_second(), Some(2.0), "heat that asks for more wins");
        throttle.update(Some(20.0), false);
        assert_eq!(throttle.level(), Level::Cool);
    }

    #[test]
    fn a_slow_camera_is_not_throttled_below_its_own_rate() {
        let slow = ThrottleLimits { full_frames_per_second: 0.5, ..limits() };
        let mut throttle = Throttle::new(slow);
        assert_eq!(at(&mut throttle, 100.0), (Level::Hot, Some(0.5)));
    }

    proptest! {
        #[test]
        fn the_rate_stays_between_least_and_full(readings in proptest::collection::vec(proptest::num::f64::ANY, 1..50)) {
            let mut throttle = Throttle::new(limits());
            for celsius in readings {
                throttle.update(Some(celsius), false);
                if let Some(rate) = throttle.frames_per_second() {
                    prop_assert!((2.0..=10.0).contains(&rate), "{} at {}", rate, celsius);
                }
            }
        }

        /// What would break: a rate that swings with every tenth of a degree.
        #[test]
        fn jitter_within_the_hysteresis_changes_nothing(
            base in 60.0..100.0_f64,
            jitter in proptest::collection::vec(0.0..3.9_f64, 1..30),
        ) {
            let mut throttle = Throttle::new(limits());
            throttle.update(Some(base + 4.0), false);
            let before = throttle.frames_per_second();
            for below in jitter {
                throttle.update(Some(base + 4.0 - below), false);
                prop_assert_eq!(throttle.frames_per_second(), before);
            }
        }

        #[test]
        fn a_pace_admits_its_rate_and_no_more(gaps in proptest::collection::vec(1_u64..200, 1..300), rate in 0.5..50.0_f64) {
            let start = Instant::now();
            let mut now = start;
            let mut pace = Pace::default();
            let mut admitted = 0_u32;
            for gap in gaps {
                now += Duration::from_millis(gap);
                admitted += u32::from(pace.admits(now, Some(rate)));
                prop_assert!(f64::from(admitted) <= now.duration_since(start).as_secs_f64() * rate + 1.001);
            }
            prop_assert!(admitted > 0, "something is always looked at");
            prop_assert!(pace.admits(now, None) && pace.admits(now, None));
        }
    }
}
