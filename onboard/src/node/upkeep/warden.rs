//! The watchdog over the perception thread: what is being answered, since when, and who is told when that takes too long.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::CaptureDoubt;

use super::super::mailbox::{Frame, Job, Overdue};
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
    /// When it was handed over: its age counts from there.
    pub(in crate::node) admitted: Instant,
}

impl Seen {
    pub(in crate::node) fn of(frame: &Frame) -> Self {
        Self {
            number: frame.number,
            width: frame.image.width(),
            height: frame.image.height(),
            capture_unix_nanos: if frame.doubt.is_none() { frame.capture_unix_nanos } else { 0 },
            capture_doubt: frame.doubt,
            admitted: frame.admitted,
        }
    }
}

struct State<A> {
    watchdog: Watchdog,
    job: Option<Job<A>>,
    /// The frame that the engine is at work on, whether its query was told as late or not.
    seen: Option<Seen>,
}

/// The one query that is being answered. Whoever takes it out answers it: the perception thread, or who finds it late.
pub(in crate::node) struct Running<A> {
    state: Mutex<State<A>>,
    idle: Condvar,
}

impl<A> Running<A> {
    pub(super) fn new(limits: WatchdogLimits) -> Self {
        let state = State { watchdog: Watchdog::new(limits), job: None, seen: None };
        Self { state: Mutex::new(state), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine is asked now.
    pub(in crate::node) fn begin(&self, job: Job<A>, seen: Seen, now: Instant) {
        let mut state = self.lock();
        state.watchdog.begin(now);
        (state.job, state.seen) = (Some(job), Some(seen));
    }

    /// The engine has answered. Gives the query back, unless it was answered as late in the meantime.
    pub(in crate::node) fn end(&self) -> Option<Job<A>> {
        let mut state = self.lock();
        state.watchdog.end();
        state.seen = None;
        self.idle.notify_all();
        state.job.take()
    }

    /// Waits until no query is being answered, for at most `most`.
    pub(in crate::node) fn give_way(&self, most: Duration) {
        let waited = self.idle.wait_timeout_while(self.lock(), most, |state| state.seen.is_some());
        drop(waited);
    }

    /// How the engine is.
    pub(super) fn pulse(&self, now: Instant) -> Pulse {
        self.lock().watchdog.pulse(now)
    }

    /// The frame that the engine is at work on.
    fn at_work(&self) -> Option<Seen> {
        self.lock().seen
    }

    /// Takes the query out when its outcome is overdue, however short the engine's silence is.
    fn take_overdue(&self, now: Instant) -> Option<(Job<A>, Seen)> {
        let mut state = self.lock();
        let seen = state.seen?;
        let job = state.job.take_if(|job| now.saturating_duration_since(job.start) > job.deadline)?;
        Some((job, seen))
    }

    /// Takes the query out of the hands of a thread that is no more.
    pub(in crate::node) fn abandon(&self) -> Option<(Job<A>, Seen)> {
        let mut state = self.lock();
        let seen = state.seen.take();
        self.idle.notify_all();
        state.job.take().zip(seen)
    }
}

/// Queries that are to be refused for lateness now, and why, with the frame that is being looked at where it is about that.
///
/// Nobody waits for an engine longer than for an outcome: neither who is being answered nor who waits behind. The watchdog has
/// no part in it.
pub(in crate::node) fn late(inner: &Inner, now: Instant) -> Vec<(Job<Asker>, Overdue, Option<Seen>)> {
    let running = &inner.upkeep.running;
    let mut late = Vec::new();
    if let Some((job, seen)) = running.take_overdue(now) {
        inner.mailbox.told(&job.query.id, seen.number);
        let why = Overdue::Answer { frame: seen.number, start: job.start };
        late.push((job, why, Some(seen)));
    }
    let at_work = running.at_work();
    let waiting = inner.mailbox.expire(now, at_work.map(|seen| (seen.number, seen.admitted)));
    late.extend(waiting.into_iter().map(|(job, why)| {
        let seen = at_work.filter(|_| matches!(why, Overdue::Answer { .. }));
        (job, why, seen)
    }));
    late
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
    const MILLI: Duration = Duration::from_millis(1);

    /// The engine begins on a query that is due a tenth of the time after which it counts as silent, and that has waited for half
    /// of its own already.
    fn running(begun: Instant) -> Running<&'static str> {
        let running = Running::new(WatchdogLimits { late: LATE, hung: 3 * LATE });
        let deadline = LATE / 10;
        let (query, start) = (Query::new("q", "car"), begun - deadline / 2);
        let (capture_unix_nanos, capture_doubt, admitted) = (5, None, start);
        let seen = Seen { number: 7, width: 4, height: 3, capture_unix_nanos, capture_doubt, admitted };
        running.begin(Job { query, asker: Some("a"), start, deadline, begins: true, ends: true }, seen, begun);
        running
    }

    /// An instant from which one can go back.
    fn begun() -> Instant {
        Instant::now() + LATE
    }

    /// Promise: P1
    #[test]
    fn a_query_is_answered_by_exactly_one() {
        let begun = begun();
        let fast = running(begun);
        assert!(fast.take_overdue(begun + 50 * MILLI).is_none(), "it is due at that moment, and not late");
        assert_eq!(fast.end().unwrap().asker, Some("a"));
        assert!(fast.take_overdue(begun + 9 * LATE).is_none());

        let slow = running(begun);
        let (job, seen) = slow.take_overdue(begun + 51 * MILLI).unwrap();
        assert_eq!((job.asker, seen.number), (Some("a"), 7));
        assert!(slow.take_overdue(begun + 2 * LATE).is_none());
        assert_eq!(slow.pulse(begun + 3 * LATE), Pulse::Hung(3 * LATE), "it is still being waited for");
        slow.give_way(Duration::ZERO);
        assert!(slow.at_work().is_some(), "who gives way goes on when that takes too long");
        assert!(slow.end().is_none(), "answered already");
        slow.give_way(Duration::MAX);
        assert_eq!(slow.pulse(begun + 3 * LATE), Pulse::Well);
    }

    /// What would break: an operator who learns that an answer is late only when the engine counts as silent, at twice its
    /// deadline.
    ///
    /// Promise: P2
    #[test]
    fn lateness_is_told_while_the_engine_is_well() {
        let begun = begun();
        let slow = running(begun);
        let now = begun + 51 * MILLI;
        assert_eq!(slow.pulse(now), Pulse::Well);
        let (job, _) = slow.take_overdue(now).expect("its time counts from when frame and query were there");
        assert!(now - job.start > job.deadline);
        assert_eq!(slow.pulse(begun + LATE), Pulse::Late(LATE), "silence counts from when the engine was asked");
        assert!(slow.abandon().is_none() && slow.at_work().is_none());
    }
}
