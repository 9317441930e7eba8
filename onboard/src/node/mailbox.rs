//! What waits for the perception thread: one frame, a few queries, a new model.
//!
//! A frame comes in, is prepared beside the engine, and is ready: at most one in each of these three places, and one that
//! is being looked at. Everything is bounded: a newer frame replaces one that nobody looked at, and a query beyond the
//! limit is refused.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;
use kestrel_link::{CaptureDoubt, Query};
use kestrel_perception::Pose;

use super::active::{Active, AtWork};
use super::rhythm::Rhythm;
use crate::camera::Captured;
use crate::camera::stamps::Judgement;
use crate::pipeline::Prepared;

pub(super) use super::active::{Job, Overdue};

/// Buffers of prepared frames that are kept: one is being filled, one is ready, one is being handed over.
const SPARE: usize = 3;

/// A frame of the camera.
#[derive(Debug)]
pub struct Frame {
    /// Counted from 0.
    pub number: u64,
    /// The picture.
    pub image: RgbImage,
    /// The camera's capture time, nanoseconds since the Unix epoch.
    pub capture_unix_nanos: u64,
    /// Why that time is not to be given to anybody; `None` when it is believed.
    pub doubt: Option<CaptureDoubt>,
    /// Its time by a clock that nobody sets, see [`Judgement::steady_nanos`]: things are followed by it from frame to frame.
    pub steady_nanos: u64,
    /// Where the camera was and where it looked, if that is known.
    pub pose: Option<Pose>,
    /// When it was handed over.
    pub admitted: Instant,
}

/// Bounds of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries answered at the same time.
    pub active_queries: usize,
    /// An outcome that takes longer is refused as too late; a query may want its own sooner, and not later.
    pub deadline: Duration,
    /// A query that arrives between two frames is answered from the last one when that is not older.
    pub reuse_frame: Duration,
    /// A query that sees no frame for this long is refused as too late.
    pub frame_timeout: Duration,
    /// A query that stands and names no time to live ends after this.
    pub standing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            active_queries: 8,
            deadline: Duration::from_secs(10),
            reuse_frame: Duration::from_secs(1),
            frame_timeout: Duration::from_secs(5),
            standing: Duration::from_secs(600),
        }
    }
}

/// What the perception thread shall do next.
pub(super) enum Wake<M> {
    /// A query waits for an answer about the frame at hand.
    Ask,
    /// Look at this frame, with what was prepared of it; to be given to [`Mailbox::give_back`] after that.
    Frame(Arc<Frame>, Box<Prepared>),
    /// Go on with this model.
    Switch(M),
    /// Go on with this model's engine opened anew, unless another model flies by now.
    Mended(M),
    /// End.
    Stop,
}

/// A frame that is to be prepared.
pub(super) struct Incoming {
    pub(super) frame: Arc<Frame>,
    /// What to prepare it in.
    pub(super) prepared: Box<Prepared>,
    /// Whether a query waits for it.
    pub(super) is_wanted: bool,
}

struct State<A, M> {
    /// The newest frame, while it is not prepared.
    incoming: Option<Arc<Frame>>,
    /// Whether a frame is being prepared.
    preparing: bool,
    /// The newest frame that is prepared and that nobody looked at.
    ready: Option<(Arc<Frame>, Box<Prepared>)>,
    /// The last frame that could not be looked at.
    unfit: Option<u64>,
    spare: [Option<Box<Prepared>>; SPARE],
    rhythm: Rhythm,
    next_number: u64,
    frames_dropped: u64,
    queries: Vec<Active<A>>,
    switch: Option<M>,
    mended: Option<M>,
    stopped: bool,
}

impl<A, M> State<A, M> {
    fn keep(&mut self, prepared: Box<Prepared>) {
        if let Some(place) = self.spare.iter_mut().find(|place| place.is_none()) {
            *place = Some(prepared);
        }
    }
}

/// The bounded meeting point of camera, network and perception; `A` is who asks, `M` a model.
pub(super) struct Mailbox<A, M> {
    state: Mutex<State<A, M>>,
    changed: Condvar,
    limits: Limits,
}

impl<A, M> Mailbox<A, M> {
    pub(super) fn new(limits: Limits) -> Self {
        let state = State {
            incoming: None,
            preparing: false,
            ready: None,
            unfit: None,
            spare: Default::default(),
            rhythm: Rhythm::default(),
            next_number: 0,
            frames_dropped: 0,
            queries: Vec::with_capacity(limits.active_queries),
            switch: None,
            mended: None,
            stopped: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), limits }
    }

    /// Puts a frame in place of the last one, whose capture time is believed; gives its number, or `None` when the node has
    /// stopped.
    pub(super) fn put(&self, image: RgbImage, capture_unix_nanos: u64, pose: Option<Pose>) -> Option<u64> {
        let judgement = Judgement { steady_nanos: capture_unix_nanos, ..Judgement::default() };
        self.put_judged(Captured { image, capture_unix_nanos, pose }, &judgement)
    }

    /// As [`Mailbox::put`], with what is thought of the capture time.
    pub(super) fn put_judged(&self, captured: Captured, judgement: &Judgement) -> Option<u64> {
        let Captured { image, capture_unix_nanos, pose } = captured;
        let &Judgement { doubt, steady_nanos, .. } = judgement;
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        let admitted = Instant::now();
        let frame = Arc::new(Frame { number, image, capture_unix_nanos, doubt, steady_nanos, pose, admitted });
        state.frames_dropped += u64::from(state.incoming.replace(frame).is_some());
        self.changed.notify_all();
        Some(number)
    }

    /// Waits for the next frame to prepare, and until it is time for that; `None` when the node stops.
    pub(super) fn incoming(&self) -> Option<Incoming> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let pause = state.rhythm.pause(Instant::now());
            state = match (state.incoming.take(), pause) {
                (Some(frame), None) => {
                    state.preparing = true;
                    let prepared = state.spare.iter_mut().find_map(Option::take).unwrap_or_default();
                    return Some(Incoming { frame, prepared, is_wanted: !state.queries.is_empty() });
                }
                (Some(frame), Some(pause)) => {
                    state.incoming = Some(frame);
                    self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
                (None, _) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes in a frame that was prepared; it replaces one that is ready and that nobody looked at.
    pub(super) fn ready(&self, frame: Arc<Frame>, prepared: Box<Prepared>) {
        let mut state = self.lock();
        state.preparing = false;
        if state.stopped {
            state.frames_dropped += 1;
            return;
        }
        state.rhythm.prepared(prepared.time());
        if let Some((_, replaced)) = state.ready.replace((frame, prepared)) {
            state.frames_dropped += 1;
            state.keep(replaced);
        }
        self.changed.notify_all();
    }

    /// Takes back what a frame was prepared in.
    pub(super) fn give_back(&self, prepared: Box<Prepared>) {
        self.lock().keep(prepared);
    }

    /// Counts a frame that is left out unseen; gives its number, or `None` when the node has stopped.
    pub(super) fn skip(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        state.frames_dropped += 1;
        Some(number)
    }

    /// A frame that was taken cannot be looked at: it counts as dropped, and queries wait for the next one.
    pub(super) fn left_out(&self, frame: &Frame) {
        let mut state = self.lock();
        if state.unfit.replace(frame.number) != Some(frame.number) {
            state.frames_dropped += 1;
        }
    }

    /// Takes in a query; one with the id of an active one renews it or replaces it, and what is left of that is given: nobody
    /// answers it any more. Gives the asker back when there are too many.
    pub(super) fn ask(&self, query: Query, asker: A) -> Result<Option<Job<A>>, A> {
        let mut state = self.lock();
        let now = Instant::now();
        let before = state.queries.iter().position(|active| active.id() == query.id);
        if let Some(index) = before
            && state.queries[index].goes_on_as(&query)
        {
            let left = state.queries[index].renewed(Active::new(query, asker, &self.limits, now));
            // Where its life was over and nobody had said so yet, the frame at hand may be one that was not put to it.
            self.changed.notify_all();
            return Ok(Some(left));
        }
        let replaced = before.map(|index| state.queries.remove(index).ended());
        if state.stopped || state.queries.len() >= self.limits.active_queries {
            return Err(asker);
        }
        state.queries.push(Active::new(query, asker, &self.limits, now));
        self.changed.notify_all();
        Ok(replaced)
    }

    /// Waits for what comes next after the frame `at_hand`. A query does not go to that while a newer one is on its way.
    pub(super) fn wait(&self, at_hand: Option<&Frame>) -> Wake<M> {
        let mut state = self.lock();
        state.rhythm.idle(Instant::now());
        if state.incoming.is_some() {
            // It is prepared now, however long the engine was expected to take.
            self.changed.notify_all();
        }
        loop {
            if state.stopped {
                return Wake::Stop;
            }
            if let Some(model) = state.switch.take() {
                self.changed.notify_all();
                return Wake::Switch(model);
            }
            if let Some(model) = state.mended.take() {
                return Wake::Mended(model);
            }
            if let Some((frame, prepared)) = state.ready.take() {
                state.rhythm.busy(Instant::now());
                return Wake::Frame(frame, prepared);
            }
            let now = Instant::now();
            let is_due = |frame: &Frame| state.queries.iter().any(|active| active.is_due(frame, &self.limits, now));
            let fit = at_hand.filter(|frame| state.unfit != Some(frame.number));
            if !state.preparing && state.incoming.is_none() && fit.is_some_and(is_due) {
                state.rhythm.busy(Instant::now());
                return Wake::Ask;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next query that wants an answer about `frame`; each is given once per frame. It does not expire until it was
    /// [told](Self::told).
    pub(super) fn take(&self, frame: &Frame) -> Option<Job<A>> {
        let mut state = self.lock();
        let now = Instant::now();
        let index = state.queries.iter().position(|active| active.is_due(frame, &self.limits, now))?;
        let job = state.queries[index].take(frame);
        if job.ends {
            state.queries.remove(index);
        }
        Some(job)
    }

    /// The query that was taken has its outcome about the frame with this number: from now on it waits for the next one, unless
    /// that was put to it already, or another query has its id by now.
    pub(super) fn told(&self, query_id: &str, frame: u64) {
        let mut state = self.lock();
        if let Some(active) = state.queries.iter_mut().find(|active| active.id() == query_id) {
            active.told(frame, Instant::now());
        }
    }

    /// Queries that are to be refused `now`, and why; those that end with it are taken out, others begin to wait anew.
    /// `looked_at` are number and admission of the frame that the engine is at work on.
    pub(super) fn expire(&self, now: Instant, looked_at: Option<(u64, Instant)>) -> Vec<(Job<A>, Overdue)> {
        let mut state = self.lock();
        let newer = state.preparing || state.incoming.is_some() || state.ready.is_some();
        let at_work = looked_at.map(|(frame, admitted)| AtWork { frame, admitted, newer });
        let mut late = Vec::new();
        for active in &mut state.queries {
            if let Some(why) = active.overdue(now, at_work, &self.limits) {
                late.push((active.refused(now, why), why));
            }
        }
        state.queries.retain(|active| !active.is_over());
        late
    }

    /// Hands a model to the perception thread and waits until it has taken it; false when the node stops first.
    pub(super) fn switch(&self, model: M) -> bool {
        let mut state = self.lock();
        state.switch = Some(model);
        self.changed.notify_all();
        while state.switch.is_some() && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.switch.is_none()
    }

    /// Hands the perception thread a model whose engine was opened anew, in place of one that it has not taken yet.
    pub(super) fn mend(&self, model: M) {
        self.lock().mended = Some(model);
        self.changed.notify_all();
    }

    /// Ends the perception thread; those who still wait get nothing more from it and are given back. Frames on their way are
    /// dropped.
    pub(super) fn stop(&self) -> Vec<Job<A>> {
        let mut state = self.lock();
        state.stopped = true;
        let on_their_way = [state.incoming.take().is_some(), state.ready.take().is_some()];
        state.frames_dropped += on_their_way.map(u64::from).iter().sum::<u64>();
        self.changed.notify_all();
        state.queries.drain(..).map(Active::ended).collect()
    }

    /// Frames handed over, and those of them that nobody looked at: replaced, left out, or on their way when the node stopped.
    pub(super) fn frames(&self) -> (u64, u64) {
        let state = self.lock();
        (state.next_number, state.frames_dropped)
    }

    /// Queries that are being answered or wait for a frame.
    pub(super) fn active(&self) -> usize {
        self.lock().queries.len()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, State<A, M>> {
        // A thread that panicked while it held the lock has left no half-made state: every change is a plain store.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
