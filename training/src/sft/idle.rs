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
pub(super) struct Idle(Mutex<Count>);

impl Idle {
    /// Nobody computes yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Count { computing: 0, idle: Duration::ZERO, since: Instant::now() }))
    }

    /// Runs what computes.
    pub(super) fn busy<R>(&self, compute: impl FnOnce() -> R) -> R {
        self.with(|count| count.begin(Instant::now()));
        let result = compute();
        self.with(|count| count.end(Instant::now()));
        result
    }

    /// Seconds so far in which nobody computed.
    pub(super) fn seconds(&self) -> f32 {
        self.with(|count| count.until(Instant::now())).as_secs_f32()
    }

    fn with<R>(&self, what: impl FnOnce(&mut Count) -> R) -> R {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
}
