//! How long nothing was computed: the time in which the device waits for data.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts those who compute, and adds up the time in which nobody does.
#[derive(Debug, Clone, Copy)]
struct Count {
    computing: usize,
    idle: Duration,
    since: Instant,
}

impl Count {
    fn begin(&mut self, now: Instant) {
        if self.computing == 0 {
            self.idle += now.saturating_duration_since(self.since);
        }
        self.computing += 1;
    }

    fn end(&mut self, now: Instant) {
        self.computing = self.computing.saturating_sub(1);
        if self.computing == 0 {
            self.since = now;
        }
    }

    fn until(&self, now: Instant) -> Duration {
        let waiting = if self.computing == 0 { now.saturating_duration_since(self.since) } else { Duration::ZERO };
        self.idle + waiting
    }
}

/// Shared by the workers of a step.
#[derive(Debug)]
pub(crate) struct Idle(Mutex<Count>);

impl Idle {
    /// Nobody computes yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Count { computing: 0, idle: Duration::ZERO, since: Instant::now() }))
    }

    /// Runs what computes.
    pub(crate) fn busy<R>(&self, compute: impl FnOnce() -> R) -> R {
        self.with(|count| count.begin(Instant::now()));
        let result = compute();
        self.with(|count| count.end(Instant::now()));
        result
    }

    /// Seconds so far in which nobody computed.
    pub(crate) fn seconds(&self) -> f32 {
        self.with(|count| count.until(Instant::now())).as_secs_f32()
    }

    fn with<R>(&self, what: impl FnOnce(&mut Count) -> R) -> R {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The share of `seconds` that was `waited`.
pub(crate) fn share(waited: f32, seconds: f32) -> f32 {
    // Both are read from a clock, one after the other.
    (waited / seconds.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0)
}

/// Seconds of a run's steps, and those of them that were waited.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waited {
    waited: f64,
    seconds: f64,
    steps: usize,
}

impl Waited {
    /// One more step.
    pub(crate) fn add(&mut self, waited: f32, seconds: f32) {
        self.waited += f64::from(waited);
        self.seconds += f64::from(seconds);
        self.steps += 1;
    }

    /// The share of all steps' time together; `None` before the first.
    pub(crate) fn share(&self) -> Option<f32> {
        (self.steps > 0).then(|| share(self.waited as f32, self.seconds as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_in_which_nobody_computes_counts() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut count = Count { computing: 0, idle: Duration::ZERO, since: start };
        count.begin(at(2));
        count.begin(at(3));
        count.end(at(5));
        assert_eq!(count.until(at(9)), Duration::from_secs(2), "one still computes");
        count.end(at(9));
        assert_eq!(count.until(at(12)), Duration::from_secs(5));
        count.begin(at(13));
        assert_eq!(count.until(at(20)), Duration::from_secs(6));
        // A clock that stands still or steps back takes nothing away.
        count.end(at(1));
        count.begin(at(0));
        assert_eq!(count.until(at(20)), Duration::from_secs(6));
    }

    /// What would break: short steps would count as much as long ones, and a run that did none would have waited for nothing.
    #[test]
    fn a_run_waited_the_share_of_all_its_seconds() {
        let mut run = Waited::default();
        assert_eq!(run.share(), None);
        run.add(1.0, 2.0);
        run.add(0.0, 6.0);
        assert_eq!(run.share(), Some(0.125));
        assert_eq!((share(0.0, 0.0), share(3.0, 2.0)), (0.0, 1.0));
    }
}
