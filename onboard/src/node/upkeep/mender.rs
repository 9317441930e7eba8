//! Opens a lost engine again, on a thread of its own: opening takes seconds, in which frames go on being answered.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::flying::{Flying, named_fallback};
use super::super::{Inner, NodeConfig};
use super::Fault;
use crate::bundle::Bundle;
use crate::engine::EngineChoice;
use crate::health::recovery::{Recovery, RecoveryLimits, Step, Which};
use crate::pipeline::{SegmentError, Segmenter};

/// Most characters of what an engine said that are repeated in health.
const MOST_WHY: usize = 300;

/// Which model is to fly again.
#[derive(Debug, Clone)]
struct Model {
    bundle: Bundle,
    slot: String,
}

struct State {
    recovery: Recovery,
    /// The model whose engine was lost last.
    model: Option<Model>,
    /// Counts models, so that what was opened for an earlier one is not flown.
    generation: u64,
    /// What went wrong last.
    why: String,
    stopped: bool,
}

/// What the mender's thread is to do.
enum Task {
    Open(Box<Order>),
    GiveUp(String),
}

struct Order {
    which: Which,
    model: Model,
    generation: u64,
}

/// What is known of the engine's failures.
pub(in crate::node) struct Mender {
    state: Mutex<State>,
    changed: Condvar,
    first: EngineChoice,
    fallback: Option<EngineChoice>,
}

impl Mender {
    pub(super) fn new(limits: RecoveryLimits, first: EngineChoice, fallback: Option<EngineChoice>) -> Self {
        let recovery = Recovery::new(limits, fallback.is_some());
        let state = State { recovery, model: None, generation: 0, why: String::new(), stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), first, fallback }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine of `flying` failed. It is dropped here, before anything is opened anew: two sessions may not fit into the
    /// memory of a device.
    pub(in crate::node) fn lost(&self, flying: Flying, why: String) {
        let Flying { segmenter, bundle, about, which, .. } = flying;
        drop(segmenter);
        let slot = about.slot.clone();
        let mut state = self.lock();
        state.recovery.failed(which, Instant::now());
        let failures = state.recovery.failures(which);
        tracing::error!("{} is lost, failure {failures} in a row: {why}", self.choice(which));
        state.why = why.chars().take(MOST_WHY).collect();
        state.model = Some(Model { bundle, slot });
        self.changed.notify_all();
    }

    /// The engine answered well.
    pub(in crate::node) fn answered(&self) {
        if self.lock().recovery.answered() {
            tracing::info!("the engine has answered well for a while: its failures are forgotten");
        }
    }

    /// Another model flies on the first engine.
    pub(in crate::node) fn replaced(&self) {
        let mut state = self.lock();
        state.recovery.replaced();
        state.generation += 1;
        state.model = None;
        self.changed.notify_all();
    }

    /// Which engine flies; `None` while none does.
    pub(super) fn flies(&self) -> Option<Which> {
        self.lock().recovery.flies()
    }

    /// Failures in a row of the engine that was asked for.
    pub(in crate::node) fn failures(&self) -> u32 {
        self.lock().recovery.failures(Which::First)
    }

    /// Why nothing flies; `None` when something does.
    pub(super) fn trouble(&self, now: Instant) -> Option<String> {
        let state = self.lock();
        if state.recovery.flies().is_some() {
            return None;
        }
        let failures = state.recovery.failures(Which::First);
        let next = match state.recovery.next(now) {
            Step::Wait(until) => {
                let seconds = until.saturating_duration_since(now).as_secs_f64();
                format!("opened again in {seconds:.1} s")
            }
            Step::GiveUp => "given up".to_owned(),
            Step::Open(_) | Step::Rest => "being opened again".to_owned(),
        };
        Some(format!("{} failed {failures} times in a row and is {next}: {}", self.first, state.why))
    }

    /// That the fallback flies and why; `None` when it does not.
    pub(super) fn replaced_by(&self) -> Option<String> {
        let state = self.lock();
        let fallback = self.fallback.filter(|_| state.recovery.flies() == Some(Which::Fallback))?;
        Some(format!("{fallback} flies instead of {}: {}", self.first, state.why))
    }

    /// The engine that flies, as outcomes name it.
    pub(in crate::node) fn named(&self, engine: &str) -> String {
        let is_fallback = self.flies() == Some(Which::Fallback);
        match self.fallback.filter(|fallback| is_fallback && fallback.to_string() == engine) {
            Some(_) => named_fallback(engine, self.first),
            None => engine.to_owned(),
        }
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn choice(&self, which: Which) -> EngineChoice {
        match which {
            Which::First => self.first,
            // Without a fallback the state machine never asks for one.
            Which::Fallback => self.fallback.unwrap_or(self.first),
        }
    }

    /// Waits for what is to be done next; `None` when the node stops.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let pause = match state.recovery.next(now) {
                Step::Open(which) => match state.model.clone() {
                    Some(model) => {
                        let generation = state.generation;
                        return Some(Task::Open(Box::new(Order { which, model, generation })));
                    }
                    None => None,
                },
                Step::GiveUp => return Some(Task::GiveUp(state.why.clone())),
                Step::Wait(until) => Some(until.saturating_duration_since(now)),
                Step::Rest => None,
            };
            state = match pause {
                Some(pause) => self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes in what came of an order; gives what is to fly.
    fn settle(&self, order: Order, opened: Result<Segmenter, SegmentError>) -> Option<Flying> {
        let mut state = self.lock();
        if state.stopped || state.generation != order.generation {
            return None;
        }
        let choice = self.choice(order.which);
        let Model { bundle, slot } = order.model;
        match (opened, order.which) {
            (Ok(segmenter), Which::First) => {
                state.recovery.opened(Which::First);
                tracing::info!("{choice} flies again");
                Some(Flying::new(&bundle, segmenter, &slot))
            }
            (Ok(segmenter), Which::Fallback) => {
                state.recovery.opened(Which::Fallback);
                tracing::warn!("FALLBACK: {choice} flies instead of {}: {}", self.first, state.why);
                Some(Flying::fallback(&bundle, segmenter, &slot, self.first))
            }
            (Err(error), which) => {
                state.recovery.failed(which, Instant::now());
                tracing::error!("opening {choice} anew failed: {error}");
                state.why = error.to_string().chars().take(MOST_WHY).collect();
                None
            }
        }
    }
}

/// The mender's thread: opens what the rules say, until the node stops or nothing is to be hoped for.
pub(super) fn mend(inner: &Inner, config: &NodeConfig) {
    let mender = &inner.upkeep.mender;
    loop {
        match mender.next() {
            None => return,
            Some(Task::GiveUp(why)) => {
                inner.upkeep.fail(Fault::EngineLost { why });
                inner.health_changed();
                return;
            }
            Some(Task::Open(order)) => {
                let opened = config.open(&order.model.bundle, mender.choice(order.which));
                if let Some(flying) = mender.settle(*order, opened) {
                    inner.mailbox.mend(flying);
                }
                inner.health_changed();
            }
        }
    }
}
