//! Reasons for answers, given behind them: one explanation at a time, on a thread and with an engine of their own.
//!
//! The way of a wish: the perception thread sends the outcome of a query, and where reasons are wanted leaves frame and
//! question here ([`give`]). The explainer's thread ([`desk`]) takes them, gives way to queries that are being answered, and
//! publishes the thought as it is written. Nothing waits behind the explanation that is being written: who asks for another
//! one is told so. Every wish has exactly one end.

mod desk;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::manifest::EXPLAIN_FILE;
use kestrel_link::{ExplanationPart, Part, Query, Unexplained};

use super::mailbox::{Frame, Job};
use super::upkeep::Seen;
use super::{Asker, Inner};
use crate::bundle::Bundle;

pub(super) use desk::run;

/// An engine that is silent for this long beyond an explanation's deadline hangs.
const GRACE: Duration = Duration::from_secs(2);

/// How explanations are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExplainOptions {
    /// Threads within one operation of the engine that explains; 0 means one per processor core.
    pub threads: usize,
    /// Tokens of a thought at most.
    pub thought_tokens: usize,
    /// An explanation that is not whole after this long is cut short.
    pub deadline: Duration,
    /// One that cannot be begun within this time is refused.
    pub time_to_live: Duration,
    /// Before each step it waits until no query is being answered, but no longer than this, so that it goes on even where a
    /// query always is.
    pub give_way: Duration,
}

/// One thread; thoughts as long as models are taught; 20 s for all of it and 5 s to begin.
impl Default for ExplainOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            thought_tokens: 96,
            deadline: Duration::from_secs(20),
            time_to_live: Duration::from_secs(5),
            give_way: Duration::from_millis(200),
        }
    }
}

/// What is to be explained.
struct Order {
    number: u64,
    query: Query,
    frame: Arc<Frame>,
    asked: Instant,
}

/// The explanation that is being written, until its end is published.
struct Open {
    /// Its next part, but for what that says.
    next: ExplanationPart,
    /// When it hangs.
    hangs: Instant,
}

struct State {
    /// Number of the next explanation.
    number: u64,
    /// The bundle that flies, until its graphs are loaded.
    flies: Option<Bundle>,
    /// Whether that bundle can explain.
    can_explain: bool,
    order: Option<Order>,
    open: Option<Open>,
    /// Whether the thread is at work on an order, its end published or not.
    busy: bool,
    /// Whether there is a thread.
    alive: bool,
    stopped: bool,
}

/// Where the perception thread and the explainer's meet.
pub(super) struct Explaining {
    options: Option<ExplainOptions>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What the explainer's thread is to do.
enum Task {
    /// Load the graphs of this bundle.
    Load(Box<Bundle>),
    /// Explain this.
    Explain(Order),
}

/// What nobody ends any more.
enum Late {
    Order(Order),
    /// The end of an explanation.
    Open(Box<ExplanationPart>),
}

impl Explaining {
    /// Nothing to do yet for the bundle that flies first; without options every wish is refused.
    pub(super) fn new(options: Option<ExplainOptions>, first: &Bundle) -> Self {
        let state = State {
            number: 0,
            flies: Some(first.clone()),
            can_explain: can_explain(first),
            order: None,
            open: None,
            busy: false,
            alive: options.is_some(),
            stopped: false,
        };
        Self { options, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Another bundle flies from now on.
    pub(super) fn fly(&self, bundle: &Bundle) {
        let mut state = self.lock();
        state.can_explain = can_explain(bundle);
        state.flies = Some(bundle.clone());
        self.changed.notify_all();
    }

    /// Leaves a wish; gives why not where there is no room for it, with its number.
    fn order(&self, query: &Query, frame: &Arc<Frame>, now: Instant) -> Result<(), (u64, Unexplained)> {
        let mut state = self.lock();
        let number = state.number;
        state.number += 1;
        let refused = match (self.options, &*state) {
            (None, _) => Some(Unexplained::Off),
            (_, State { stopped: true, .. }) => Some(Unexplained::Stopping),
            (_, State { can_explain: false, .. }) => Some(Unexplained::NoGraph),
            (_, State { alive: false, .. }) => Some(Unexplained::EngineDegraded),
            (_, State { busy, order, .. }) if *busy || order.is_some() => Some(Unexplained::Busy),
            _ => None,
        };
        if let Some(why) = refused {
            return Err((number, why));
        }
        state.order = Some(Order { number, query: query.clone(), frame: Arc::clone(frame), asked: now });
        self.changed.notify_all();
        Ok(())
    }

    /// The number of a wish that is refused at once.
    fn number(&self) -> u64 {
        let mut state = self.lock();
        state.number += 1;
        state.number - 1
    }

    /// Waits for what is to be done next; `None` when the node stops.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        state.busy = false;
        loop {
            if state.stopped {
                return None;
            }
            if let Some(bundle) = state.flies.take() {
                return Some(Task::Load(Box::new(bundle)));
            }
            if let Some(order) = state.order.take() {
                state.busy = true;
                return Some(Task::Explain(order));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins an explanation whose parts are as `first`, but for what they say.
    fn begin(&self, first: ExplanationPart, hangs: Instant) {
        self.lock().open = Some(Open { next: first, hangs });
    }

    /// Says who writes the explanation.
    fn name(&self, model: &str, engine: &str) {
        if let Some(Open { next, .. }) = &mut self.lock().open {
            next.model = model.to_owned();
            next.engine = engine.to_owned();
        }
    }

    /// The next part of the explanation that is being written; `None` when its end was published meanwhile.
    fn piece(&self, text: String) -> Option<ExplanationPart> {
        let mut state = self.lock();
        let Open { next, .. } = state.open.as_mut()?;
        let part = ExplanationPart { part: Part::Piece { text }, ..next.clone() };
        next.sequence = next.sequence.saturating_add(1);
        Some(part)
    }

    /// The last part; `None` when its end was published meanwhile.
    fn end(&self, part: Part) -> Option<ExplanationPart> {
        let mut state = self.lock();
        let Open { next, .. } = state.open.take()?;
        // Before the end is published, so that who has heard it finds room for another.
        state.busy = false;
        Some(ExplanationPart { part, ..next })
    }

    fn stopping(&self) -> bool {
        self.lock().stopped
    }

    /// What nobody ends any more: an order that waits for an engine that does not load, or an explanation whose engine
    /// hangs or whose thread is no more.
    fn late(&self, now: Instant) -> Option<Late> {
        let mut state = self.lock();
        let patience = self.options.unwrap_or_default().time_to_live + GRACE;
        if let Some(order) = state.order.take_if(|order| now.saturating_duration_since(order.asked) > patience) {
            return Some(Late::Order(order));
        }
        let alive = state.alive;
        let Open { next, .. } = state.open.take_if(|open| !alive || now >= open.hangs)?;
        Some(Late::Open(Box::new(ExplanationPart { part: refusal(Unexplained::EngineDegraded), ..next })))
    }

    /// Ends the thread, and waits for that for at most `patience`: an engine that hangs, or that is still being loaded, is
    /// left behind.
    pub(super) fn stop(&self, patience: Duration) {
        let mut state = self.lock();
        state.stopped = true;
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(state, patience, |state| state.alive));
    }

    /// What a thread that was left behind does not end any more: a wish that it has not begun, and the end of the explanation
    /// that it is writing.
    fn abandon(&self) -> (Option<Order>, Option<ExplanationPart>) {
        let mut state = self.lock();
        let end = |Open { next, .. }| ExplanationPart { part: refusal(Unexplained::Stopping), ..next };
        (state.order.take(), state.open.take().map(end))
    }

    /// What the thread leaves behind when it ends.
    fn left(&self) -> Option<Order> {
        self.lock().order.take()
    }

    /// The thread has ended.
    fn ended(&self) {
        self.lock().alive = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn can_explain(bundle: &Bundle) -> bool {
    bundle.manifest.files.contains_key(EXPLAIN_FILE)
}

fn refusal(why: Unexplained) -> Part {
    Part::Refused { why, advice: why.advice().to_owned() }
}

/// Gives reasons for the answer to a job behind it, where they are wanted: for the first answer to its query.
///
/// `frame` is what was looked at, or why there are no reasons with what is known of the frame.
pub(super) fn give(inner: &Inner, job: &Job<Asker>, frame: Result<&Arc<Frame>, (Unexplained, Option<Seen>)>) {
    if !job.query.explain || !job.begins {
        return;
    }
    let (number, why, seen) = match frame {
        Ok(frame) => match inner.explaining.order(&job.query, frame, Instant::now()) {
            Ok(()) => return,
            Err((number, why)) => (number, why, Some(Seen::of(frame))),
        },
        Err((why, seen)) => (inner.explaining.number(), why, seen),
    };
    tracing::info!("query {} is not explained: {}", job.query.id, why.advice());
    let part = ExplanationPart { part: refusal(why), ..head(inner, &job.query, number, seen) };
    inner.publisher.explanation(&part);
}

/// Ends the explainer's thread within `patience`, and every explanation that it leaves without an end.
pub(super) fn stop(inner: &Inner, patience: Duration) {
    inner.explaining.stop(patience);
    let (order, open) = inner.explaining.abandon();
    let never_begun = order.map(|order| {
        let first = head(inner, &order.query, order.number, Some(Seen::of(&order.frame)));
        ExplanationPart { part: refusal(Unexplained::Stopping), ..first }
    });
    never_begun.iter().chain(&open).for_each(|part| inner.publisher.explanation(part));
}

/// The end, to be published, of what nobody else ends any more.
pub(super) fn late(inner: &Inner, now: Instant) -> Option<ExplanationPart> {
    Some(match inner.explaining.late(now)? {
        Late::Open(part) => *part,
        Late::Order(order) => {
            let first = head(inner, &order.query, order.number, Some(Seen::of(&order.frame)));
            ExplanationPart { part: refusal(Unexplained::Expired), ..first }
        }
    })
}

/// The first part of an explanation, but for what it says and who writes it.
fn head(inner: &Inner, query: &Query, number: u64, seen: Option<Seen>) -> ExplanationPart {
    let (frame, frame_width, frame_height) = seen.map_or((0, 0, 0), |seen| (seen.number, seen.width, seen.height));
    ExplanationPart {
        drone: inner.publisher.drone.to_string(),
        query_id: query.id.clone(),
        explanation: number,
        sequence: 0,
        frame,
        frame_width,
        frame_height,
        model: String::new(),
        engine: String::new(),
        part: Part::Piece { text: String::new() },
    }
}

#[cfg(test)]
mod tests;
