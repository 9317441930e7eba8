//! The stages of a frame, each on a thread of its own: while the engine looks at one frame, the next is prepared and the
//! outcomes of the last are sent.
//!
//! camera → `preparing` (gate, resize) → `perception` (engine, masks, policy, positions) → `finishing` (encoding, sending).
//! Between the first two stands the [`Mailbox`](super::mailbox::Mailbox), where the newest frame wins; between the last two
//! a queue of [`FINISHED`] outcomes, none of which is lost: a link that takes nothing holds up the engine, and then frames
//! are dropped and counted, as by any slow engine.
//!
//! Masks are drawn and judged on the thread of the engine: whether words are read again, and which tiles are looked at, is
//! decided by the mask, and that is the engine's next work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use kestrel_link::Outcome;

use super::mailbox::{Frame, Incoming, Job};
use super::upkeep::PanicGuard;
use super::worker::Said;
use super::{Asker, Flying, Inner, NodeError, worker};
use crate::pipeline::{Preparer, SegmenterOptions};
use crate::queue::{Receiver, Sender, queue};
use crate::record::{Model, Recorder};

/// Outcomes that may wait to be sent, and sent ones whose memory may wait to be used again.
const FINISHED: usize = 16;

/// An outcome that is to be sent.
pub(super) struct Finished {
    pub(super) job: Job<Asker>,
    /// The frame that it is about.
    pub(super) frame: Arc<Frame>,
    pub(super) said: Said,
    /// The model that flew when it was made, and the engine as outcomes name it.
    pub(super) about: Arc<Model>,
    pub(super) engine: Arc<str>,
}

/// Where outcomes go to be sent, and come back from when they have been.
pub(super) struct Outgoing {
    finished: Sender<Finished, FINISHED>,
    sent: Receiver<Outcome, FINISHED>,
}

impl Outgoing {
    /// Hands over an outcome; waits while [`FINISHED`] others do.
    pub(super) fn send(&self, inner: &Inner, finished: Finished) {
        // Nobody is left without an answer for a finishing thread that is no more.
        if let Err(lost) = self.finished.send(finished) {
            worker::finish(inner, lost);
        }
    }

    /// Outcomes that have been sent, for their memory.
    pub(super) fn sent(&self) -> impl Iterator<Item = Outcome> + '_ {
        std::iter::from_fn(|| self.sent.try_receive())
    }
}

/// The threads of the stages.
pub(super) struct Stages {
    /// Gives the record back, into which those who still wait at the end are yet to be written.
    perception: JoinHandle<Option<Recorder>>,
    others: [(&'static str, JoinHandle<()>); 2],
}

impl Stages {
    /// Starts all of them, or none.
    pub(super) fn start(
        inner: &Arc<Inner>,
        flying: Flying,
        recorder: Option<Recorder>,
        options: &SegmenterOptions,
    ) -> Result<Self, NodeError> {
        let (finished, waiting) = queue();
        let (giving_back, sent) = queue();
        let outgoing = Outgoing { finished, sent };
        let preparer = Preparer::new(options);
        let start = || {
            let preparing = spawn(inner, "preparing", |inner| prepare(inner, preparer))?;
            let finishing = spawn(inner, "finishing", move |inner| finish(inner, &waiting, &giving_back))?;
            let perception = spawn(inner, "perception", move |inner| worker::run(inner, flying, recorder, &outgoing))?;
            Ok(Self { perception, others: [("preparing", preparing), ("finishing", finishing)] })
        };
        // Threads that run already end when the mailbox stops.
        start().inspect_err(|_| drop(inner.mailbox.stop()))
    }

    /// Waits until all have ended, which they do when the mailbox has stopped; gives the record and those that panicked.
    pub(super) fn join(self) -> (Option<Recorder>, Vec<&'static str>) {
        let mut panicked = Vec::new();
        let recorder = self.perception.join().unwrap_or_else(|_| {
            panicked.push("perception");
            None
        });
        panicked.extend(self.others.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)));
        (recorder, panicked)
    }
}

fn spawn<T: Send + 'static>(
    inner: &Arc<Inner>,
    name: &'static str,
    work: impl FnOnce(&Inner) -> T + Send + 'static,
) -> Result<JoinHandle<T>, NodeError> {
    let inner = Arc::clone(inner);
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        let _guard = PanicGuard::new(&inner, name);
        work(&inner)
    });
    thread.map_err(|source| NodeError::Thread { name, source })
}

/// Prepares the newest frame again and again, until the node stops.
fn prepare(inner: &Inner, mut preparer: Preparer) {
    while let Some(Incoming { frame, mut prepared, is_wanted }) = inner.mailbox.incoming() {
        preparer.prepare(&frame.image, is_wanted, &mut prepared);
        inner.mailbox.ready(frame, prepared);
    }
}

/// Sends outcomes until the perception thread has ended and none waits any more.
fn finish(inner: &Inner, waiting: &Receiver<Finished, FINISHED>, giving_back: &Sender<Outcome, FINISHED>) {
    let send = |finished| {
        // Only memory is lost with one that nobody takes back.
        let _ = giving_back.try_send(worker::finish(inner, finished));
    };
    one_by_one(std::iter::from_fn(|| waiting.receive()), send, || inner.panicked("finishing"));
}

/// Does each; one on which that panics holds up none behind it.
fn one_by_one<T>(all: impl IntoIterator<Item = T>, mut each: impl FnMut(T), panicked: impl Fn()) {
    for one in all {
        if catch_unwind(AssertUnwindSafe(|| each(one))).is_err() {
            panicked();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::cell::Cell;

    /// What would break: outcomes that wait behind one on which the finishing thread panics, told to nobody.
    #[test]
    fn one_that_panics_holds_up_none_behind_it() {
        let (mut done, panics) = (Vec::new(), Cell::new(0));
        let each = |one| {
            assert_ne!(one, 2, "told to panic");
            done.push(one);
        };
        one_by_one(0..5, each, || panics.set(panics.get() + 1));
        assert_eq!((done, panics.get()), (vec![0, 1, 3, 4], 1));
    }
}
