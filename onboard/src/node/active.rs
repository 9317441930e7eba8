//! A query that is being answered: for how long its outcomes are of use, when it is to be refused, and when it ends.

use std::time::{Duration, Instant};

use kestrel_link::Query;

use super::mailbox::{Frame, Limits};

/// One query to be answered about one frame.
pub(super) struct Job<A> {
    pub(super) query: Query,
    /// Who waits for the first answer.
    pub(super) asker: Option<A>,
    /// From when on both frame and query were there.
    pub(super) start: Instant,
    /// How long after that its outcome is of use.
    pub(super) deadline: Duration,
    /// Whether it is the first about this query.
    pub(super) begins: bool,
    /// Whether it is the last about this query.
    pub(super) ends: bool,
}

/// Why a query is refused without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Its answer about the frame with this number, which is being looked at, is late: both were there since `start`.
    Answer { frame: u64, start: Instant },
    /// The engine keeps it from newer frames, or from its first answer, for longer than its deadline.
    Engine,
    /// No frame came for it.
    Frame,
    /// Its time to live, this long, is over.
    Life(Duration),
}

/// What the engine is at work on, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AtWork {
    /// Number of the frame, and when it was admitted.
    pub(super) frame: u64,
    pub(super) admitted: Instant,
    /// Whether a newer one waits to be looked at.
    pub(super) newer: bool,
}

/// A query that is being answered, or waits for a frame; `A` is who asks.
pub(super) struct Active<A> {
    query: Query,
    asker: Option<A>,
    arrived: Instant,
    deadline: Duration,
    /// For how long it is answered; `None` until it has its answer.
    life: Option<Duration>,
    /// When that is over; `None` when it never is.
    ends_at: Option<Instant>,
    /// Since when it has had no outcome.
    waiting_since: Instant,
    /// Whether it is being answered, until that is sent; whoever does that is watched by others.
    in_hand: bool,
    /// The last frame it was answered about.
    answered: Option<u64>,
    /// Frames still to answer; `None` for as long as it lives.
    left: Option<u32>,
}

impl<A> Active<A> {
    /// A query that arrives `now`.
    pub(super) fn new(query: Query, asker: A, limits: &Limits, now: Instant) -> Self {
        let millis = |millis: u32| Duration::from_millis(millis.into());
        let life = query.time_to_live_millis.map(millis).or(query.stands().then_some(limits.standing));
        Self {
            arrived: now,
            deadline: query.deadline_millis.map_or(limits.deadline, |own| millis(own).min(limits.deadline)),
            life,
            ends_at: life.and_then(|life| now.checked_add(life)),
            waiting_since: now,
            in_hand: false,
            answered: None,
            left: (query.frames > 0).then_some(query.frames),
            asker: Some(asker),
            query,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.query.id
    }

    /// Whether nothing more is to be said about it.
    pub(super) fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether `query` lets it go on, if only to its last outcome. Who has had no answer yet has nothing that could, and may be
    /// owed reasons for the first.
    pub(super) fn goes_on_as(&self, query: &Query) -> bool {
        // Of a number of frames, too: what is said last comes behind the answer that is on its way.
        let is_withdrawn = query.time_to_live_millis == Some(0) && !query.explain && query.asks_as(&self.query);
        self.answered.is_some() && (is_withdrawn || query.renews(&self.query))
    }

    /// Goes on as one that renews or withdraws it: `by` is that, without anything that it has seen. Gives what is left of who waited.
    pub(super) fn renewed(&mut self, by: Self) -> Job<A> {
        let (asker, query) = (self.asker.take(), std::mem::replace(&mut self.query, by.query));
        let job = Job { query, asker, start: self.waiting_since, deadline: self.deadline, begins: false, ends: true };
        (self.asker, self.deadline) = (by.asker, by.deadline);
        (self.life, self.ends_at) = (by.life, by.ends_at);
        job
    }

    /// What is left of it when it is answered no more.
    pub(super) fn ended(self) -> Job<A> {
        Job {
            begins: self.answered.is_none(),
            ends: true,
            query: self.query,
            asker: self.asker,
            start: self.waiting_since,
            deadline: self.deadline,
        }
    }

    /// Whether it wants an answer about `frame`.
    pub(super) fn is_due(&self, frame: &Frame, limits: &Limits, now: Instant) -> bool {
        self.answered != Some(frame.number) && self.goes_to(frame.admitted, limits) && !self.has_ended(now)
    }

    /// Whether a frame that was admitted then is new enough for it.
    fn goes_to(&self, admitted: Instant, limits: &Limits) -> bool {
        self.arrived <= admitted || self.arrived.saturating_duration_since(admitted) < limits.reuse_frame
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.ends_at.is_some_and(|end| now >= end)
    }

    /// Puts it to `frame`.
    pub(super) fn take(&mut self, frame: &Frame) -> Job<A> {
        let begins = self.answered.is_none();
        self.in_hand = true;
        self.counts_as_answered(frame.number);
        Job {
            query: self.query.clone(),
            asker: self.asker.take(),
            start: frame.admitted.max(self.arrived),
            deadline: self.deadline,
            begins,
            ends: self.is_over(),
        }
    }

    /// It has its outcome about a frame: from `now` on it waits for the next one, unless it was put to that meanwhile.
    pub(super) fn told(&mut self, frame: u64, now: Instant) {
        if self.answered == Some(frame) {
            (self.in_hand, self.waiting_since) = (false, now);
        }
    }

    fn counts_as_answered(&mut self, frame: u64) {
        self.answered = Some(frame);
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// Why it is to be refused `now`, if it is: nobody is kept waiting by an engine that is `at_work` for longer than for an
    /// outcome.
    pub(super) fn overdue(&self, now: Instant, at_work: Option<AtWork>, limits: &Limits) -> Option<Overdue> {
        let waited = |since: Instant| now.saturating_duration_since(since);
        if self.in_hand {
            return None;
        }
        if self.has_ended(now) {
            return Some(Overdue::Life(self.life.unwrap_or_default()));
        }
        if let Some(AtWork { frame, admitted, newer }) = at_work {
            let start = self.arrived.max(admitted);
            let wants = self.goes_to(admitted, limits) && self.answered.is_none_or(|answered| answered < frame);
            // What is understood of words begins with an answer, and that is still to come.
            let begins = self.answered.is_none() && self.left != Some(1);
            if wants && !begins && waited(start) > self.deadline {
                return Some(Overdue::Answer { frame, start });
            }
            if (wants || newer) && waited(self.waiting_since.max(admitted)) > self.deadline {
                return Some(Overdue::Engine);
            }
        }
        (waited(self.waiting_since) >= limits.frame_timeout).then_some(Overdue::Frame)
    }

    /// Takes its refusal out; it ends with that, or waits anew from `now` on.
    pub(super) fn refused(&mut self, now: Instant, why: Overdue) -> Job<A> {
        let begins = self.answered.is_none();
        let start = match why {
            Overdue::Answer { start, .. } => start,
            _ => self.waiting_since,
        };
        match why {
            Overdue::Answer { frame, .. } => self.counts_as_answered(frame),
            Overdue::Life(_) => self.left = Some(0),
            Overdue::Engine | Overdue::Frame => self.left = self.left.map(|_| 0),
        }
        self.waiting_since = now;
        Job {
            query: self.query.clone(),
            asker: self.asker.take(),
            start,
            deadline: self.deadline,
            begins,
            ends: self.is_over(),
        }
    }
}

#[cfg(test)]
#[path = "active_tests.rs"]
mod tests;
