//! The watchdog over the perception thread: what is being answered, since when, and who is told when that takes too long.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::CaptureDoubt;

use super::super::mailbox::{Frame, Job};
use super::super::{Asker, Inner};
use super::Fault;
use crate::health::watchdog::{Pulse, Watchdog, WatchdogLimits};

/// What a late refusal says of the frame that was being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct Seen {
    pub(in crate::node) number: u64,
    pub(in crate::node) width: u32,
    pub(in crate::node) height: u32,
    /// 0 beside a doubt.
    pub(in crate::node) capture_unix_nanos: u64,
    pub(in crate::node) capture_doubt: Option<CaptureDoubt>,
}

impl Seen {
    pub(in crate::node) fn of(frame: &Frame) -> Self {
        Self {
            number: frame.number,
            width: frame.image.width(),
            height: frame.image.height(),
            capture_unix_nanos: if frame.doubt.is_none() { frame.capture_unix_nanos } else { 0 },
            capture_doubt: frame.doubt,
        }
    }
}

struct State<A> {
    watchdog: Watchdog,
    job: Option<(Job<A>, Seen)>,
    /// Whether the engine is at work on one, told as late or not.
    busy: bool,
}

/// The one query that is being answered. Whoever takes it out answers it: the perception thread, or the watchdog for it.
pub(in crate::node) struct Running<A> {
    state: Mutex<State<A>>,
    idle: Condvar,
}

impl<A> Running<A> {
    pub(super) fn new(limits: WatchdogLimits) -> Self {
        let state = State { watchdog: Watchdog::new(limits), job: None, busy: false };
        Self { state: Mutex::new(state), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine is asked now.
    pub(in crate::node) fn begin(&self, job: Job<A>, seen: Seen, now: Instant) {
        let mut state = self.lock();
        state.watchdog.begin(now);
        state.job = Some((job, seen));
        state.busy = true;
    }

    /// The engine has answered. Gives the query back, unless it was answered as late in the meantime.
    pub(in crate::node) fn end(&self) -> Option<Job<A>> {
        let mut state = self.lock();
        state.watchdog.end();
        state.busy = false;
        self.idle.notify_all();
        state.job.take().map(|(job, _)| job)
    }

    /// Waits until no query is being answered, for at most `most`.
    pub(in crate::node) fn give_way(&self, most: Duration) {
        let waited = self.idle.wait_timeout_while(self.lock(), most, |state| state.busy);
        drop(waited);
    }

    /// How the engine is.
    pub(super) fn pulse(&self, now: Instant) -> Pulse {
        self.lock().watchdog.pulse(now)
    }

    /// Takes the query out when the engine is silent for too long.
    fn take_late(&self, now: Instant) -> Option<(Job<A>, Seen)> {
        let mut state = self.lock();
        if state.watchdog.pulse(now) == Pulse::Well {
            return None;
        }
        state.job.take()
    }

    /// Takes the query out of the hands of a thread that is no more.
    pub(in crate::node) fn abandon(&self) -> Option<(Job<A>, Seen)> {
        let mut state = self.lock();
        state.busy = false;
        self.idle.notify_all();
        state.job.take()
    }
}

/// Queries that are to be refused for lateness now, with the frame that was being looked at, if there was one.
///
/// Nobody waits for a silent engine longer than for an outcome.
pub(in crate::node) fn late(inner: &Inner, now: Instant) -> Vec<(Job<Asker>, Option<Seen>)> {
    let limits = inner.mailbox.limits();
    let running = &inner.upkeep.running;
    let patience = match running.pulse(now) {
        Pulse::Well => limits.frame_timeout,
        Pulse::Late(_) | Pulse::Hung(_) => limits.frame_timeout.min(limits.deadline),
    };
    let taken = running.take_late(now).map(|(job, seen)| (job, Some(seen)));
    if let Some((job, _)) = &taken {
        inner.mailbox.told(&job.query.id);
    }
    taken.into_iter().chain(inner.mailbox.expire(patience).into_iter().map(|job| (job, None))).collect()
}

/// What the warden's thread does again and again: looks at the engine, and says when it falls silent and when it answers.
///
/// It publishes nothing itself, because a congested link could hold it up.
pub(super) fn watch(inner: Arc<Inner>) -> impl FnMut() + Send + 'static {
    let mut was_silent = false;
    move || {
        let now = Instant::now();
        inner.upkeep.warden_was_here(now);
        let pulse = inner.upkeep.running.pulse(now);
        let is_silent = pulse != Pulse::Well;
        if is_silent != was_silent {
            match pulse {
                Pulse::Well => tracing::info!("the engine answers again"),
                Pulse::Late(silent) | Pulse::Hung(silent) => {
                    tracing::error!("the engine has not answered for {:.1} s", silent.as_secs_f64());
                }
            }
            was_silent = is_silent;
            inner.health_changed();
        }
        if let Pulse::Hung(silent) = pulse
            && inner.upkeep.fault().is_none()
        {
            inner.upkeep.fail(Fault::EngineHung { silent });
            inner.health_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::Query;

    const LATE: Duration = Duration::from_secs(1);

    fn running(start: Instant) -> Running<&'static str> {
        let running = Running::new(WatchdogLimits { late: LATE, hung: 3 * LATE });
        let query = Query { id: "q".into(), text: "car".into(), hint: None, frames: 1, explain: false };
        let seen = Seen { number: 7, width: 4, height: 3, capture_unix_nanos: 5, capture_doubt: None };
        running.begin(Job { query, asker: Some("a"), start, begins: true, ends: true }, seen, start);
        running
    }

    /// Promise: P1
    #[test]
    fn a_query_is_answered_by_exactly_one() {
        let start = Instant::now();
        let fast = running(start);
        assert!(fast.take_late(start + LATE / 2).is_none());
        assert_eq!(fast.end().unwrap().asker, Some("a"));
        assert!(fast.take_late(start + 9 * LATE).is_none());

        let slow = running(start);
        let (job, seen) = slow.take_late(start + LATE).unwrap();
        assert_eq!((job.asker, seen.number), (Some("a"), 7));
        assert!(slow.take_late(start + 2 * LATE).is_none());
        assert_eq!(slow.pulse(start + 3 * LATE), Pulse::Hung(3 * LATE), "it is still being waited for");
        slow.give_way(Duration::ZERO);
        assert!(slow.lock().busy, "who gives way goes on when that takes too long");
        assert!(slow.end().is_none(), "answered already");
        slow.give_way(Duration::MAX);
        assert_eq!(slow.pulse(start + 3 * LATE), Pulse::Well);
    }
}
