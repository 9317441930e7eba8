//! The perception thread: one frame after the other, every active query about each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kestrel_link::{Outcome, Query, Refusal, Reply, Verdict};
use kestrel_perception::policy;

use super::mailbox::{Frame, Job, Wake};
use super::{Asker, Flying, Inner};
use crate::pipeline::{Look, Segmenter};

/// Runs until the node stops.
pub(super) fn run(inner: &Inner, mut flying: Flying) {
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
                Some(frame) => next = look(inner, &mut flying.segmenter, &frame),
                None => next = inner.mailbox.wait(None),
            },
            Wake::Frame(frame) => {
                next = look(inner, &mut flying.segmenter, &frame);
                at_hand = Some(frame);
            }
        }
    }
}

/// Looks at one frame and answers about it until something else is to be done.
fn look(inner: &Inner, segmenter: &mut Segmenter, frame: &Frame) -> Wake<Flying> {
    let about = About { model: segmenter.model().to_owned(), engine: segmenter.engine().to_owned() };
    let mut look = match segmenter.look(&frame.image) {
        Ok(look) => look,
        Err(error) => {
            tracing::warn!("frame {} left out: {error}", frame.number);
            return inner.mailbox.wait(Some(frame));
        }
    };
    loop {
        while let Some(job) = inner.mailbox.take(frame) {
            answer(inner, &mut look, frame, job, &about);
        }
        match inner.mailbox.wait(Some(frame)) {
            Wake::Ask => {}
            other => return other,
        }
    }
}

struct About {
    model: String,
    engine: String,
}

fn answer(inner: &Inner, look: &mut Look<'_>, frame: &Frame, job: Job<Asker>, about: &About) {
    let mut outcome = match look.ask(&job.query) {
        Ok(answer) => answer.outcome,
        // Queries were checked at the door, so this is a fault of ours; the asker must still hear of it.
        Err(error) => {
            tracing::error!("query {}: {error}", job.query.id);
            refusal(Verdict::EngineDegraded, vec![("engine_failures".into(), 1.0)])
        }
    };
    if let Some(georeferencer) = &inner.georeferencer
        && let Err(error) = georeferencer.annotate(&mut outcome, frame.pose.as_ref())
    {
        // The mask was made here a moment ago; it goes out without a position.
        tracing::error!("query {}: {error}", job.query.id);
    }
    let latency = job.start.elapsed();
    let deadline = inner.mailbox.limits().deadline;
    let outcome = if latency > deadline { late(latency, deadline) } else { outcome };
    let mut reply = reply(inner, &job.query, latency, outcome);
    reply.frame = frame.number;
    reply.frame_width = frame.image.width();
    reply.frame_height = frame.image.height();
    reply.capture_unix_nanos = frame.capture_unix_nanos;
    reply.model.clone_from(&about.model);
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
    refusal(
        Verdict::DeadlineMissed,
        vec![("latency_millis".into(), millis(latency)), ("deadline_millis".into(), millis(deadline))],
    )
}

fn refusal(verdict: Verdict, evidence: Vec<(String, f32)>) -> Outcome {
    Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict })
}
