//! The perception thread: one frame after the other, every active query about each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kestrel_link::{Outcome, Query, Refusal, Reply, Verdict};
use kestrel_perception::policy;

use super::mailbox::{Frame, Job, Wake};
use super::{Asker, Flying, Inner};
use crate::pipeline::Look;
use crate::record::{Model, Recorder};

/// Runs until the node stops; then the record is ended too.
pub(super) fn run(inner: &Inner, mut flying: Flying, mut recorder: Option<Recorder>) {
    let mut at_hand: Option<Arc<Frame>> = None;
    let mut next = inner.mailbox.wait(None);
    loop {
        match next {
            Wake::Stop => return,
            Wake::Switch(model) => {
                flying = model;
                next = inner.mailbox.wait(at_hand.as_deref());
            }
            // Only a frame is looked at can a query wait for it, unless the model was switched in between.
            Wake::Ask => match at_hand.clone() {
                Some(frame) => next = look(inner, &mut flying, &frame, recorder.as_mut()),
                None => next = inner.mailbox.wait(None),
            },
            Wake::Frame(frame) => {
                next = look(inner, &mut flying, &frame, recorder.as_mut());
                at_hand = Some(frame);
            }
        }
    }
}

/// Looks at one frame and answers about it until something else is to be done.
fn look(inner: &Inner, flying: &mut Flying, frame: &Arc<Frame>, mut recorder: Option<&mut Recorder>) -> Wake<Flying> {
    let about = Arc::clone(&flying.about);
    let before = flying.segmenter.gate_history();
    let mut look = match flying.segmenter.look(&frame.image) {
        Ok(look) => look,
        Err(error) => {
            tracing::warn!("frame {} left out: {error}", frame.number);
            return inner.mailbox.wait(Some(frame));
        }
    };
    if let Some(recorder) = recorder.as_deref_mut() {
        recorder.look(frame, &about, before, &look);
    }
    loop {
        while let Some(job) = inner.mailbox.take(frame) {
            answer(inner, &mut look, frame, job, &about, recorder.as_deref_mut());
        }
        match inner.mailbox.wait(Some(frame)) {
            Wake::Ask => {}
            other => return other,
        }
    }
}

fn answer(
    inner: &Inner,
    look: &mut Look<'_>,
    frame: &Frame,
    job: Job<Asker>,
    about: &Model,
    recorder: Option<&mut Recorder>,
) {
    let mut outcome = look.outcome(&job.query);
    let latency = job.start.elapsed();
    let deadline = inner.mailbox.limits().deadline;
    let is_late = latency > deadline;
    if let Some(recorder) = recorder {
        recorder.answer(&job.query, &outcome, latency, is_late);
    }
    if let Some(georeferencer) = &inner.georeferencer
        && let Err(error) = georeferencer.annotate(&mut outcome, frame.pose.as_ref())
    {
        // The mask was made here a moment ago; it goes out without a position.
        tracing::error!("query {}: {error}", job.query.id);
    }
    let outcome = if is_late { late(latency, deadline) } else { outcome };
    let mut reply = reply(inner, &job.query, latency, outcome);
    reply.frame = frame.number;
    reply.frame_width = frame.image.width();
    reply.frame_height = frame.image.height();
    reply.capture_unix_nanos = frame.capture_unix_nanos;
    reply.model.clone_from(&about.name);
    reply.engine.clone_from(&about.engine);
    inner.send(reply, job.asker.as_ref());
}

/// Refuses a query that waited too long for a frame.
pub(super) fn expire(inner: &Inner, job: &Job<Asker>) {
    let waited = job.start.elapsed();
    let outcome = late(waited, inner.mailbox.limits().frame_timeout);
    let mut reply = reply(inner, &job.query, waited, outcome);
    // No frame was looked at: the next one's number, and no size.
    reply.frame = inner.mailbox.frames().0;
    inner.send(reply, job.asker.as_ref());
}

fn reply(inner: &Inner, query: &Query, latency: Duration, outcome: Outcome) -> Reply {
    let counter = match outcome {
        Outcome::Segmented { .. } => &inner.segmented,
        Outcome::Refused(_) => &inner.refused,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Reply {
        drone: inner.publisher.drone.to_string(),
        query_id: query.id.clone(),
        query_text: query.text.clone(),
        frame: 0,
        frame_width: 0,
        frame_height: 0,
        capture_unix_nanos: 0,
        latency_micros: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
        model: String::new(),
        engine: String::new(),
        outcome,
    }
}

fn late(latency: Duration, deadline: Duration) -> Outcome {
    let millis = |time: Duration| time.as_secs_f32() * 1e3;
    let verdict = Verdict::DeadlineMissed;
    let evidence = vec![("latency_millis".into(), millis(latency)), ("deadline_millis".into(), millis(deadline))];
    Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict })
}
