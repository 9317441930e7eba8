//! The perception thread: one frame after the other, every active query about each; and how an outcome is finished.
//!
//! What is kept of queries that stand belongs to the model: it goes when another model is switched in, and stays when the
//! same model's engine is opened anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kestrel_link::{Outcome, Query, Refusal, Reply, Standing, Unexplained, Verdict};
use kestrel_perception::policy;

use super::explaining;
use super::mailbox::{Frame, Job, Overdue, Wake};
use super::owed::Owed;
use super::stages::{Finished, Outgoing};
use super::upkeep::Seen;
use super::{Asker, Flying, Inner};
use crate::pipeline::{Answer, Look, Prepared, StandingQueries};
use crate::record::{Model, Recorder, Told};

/// What the perception thread flies.
struct Craft {
    /// `None` while the engine is lost.
    flying: Option<Flying>,
    /// The model, on the last engine that flew it.
    about: Arc<Model>,
    /// Engine and provider as outcomes name them; the last ones while the engine is lost.
    engine: Arc<str>,
    /// What is kept of queries that stand.
    standing: StandingQueries,
    /// Ids that they gave up in answers that came too late to be told.
    owed: Owed,
}

impl Craft {
    fn new(flying: Flying, most_queries: usize) -> Self {
        Self {
            about: Arc::clone(&flying.about),
            engine: flying.engine.as_str().into(),
            standing: flying.segmenter.standing(most_queries),
            owed: Owed::new(most_queries),
            flying: Some(flying),
        }
    }

    /// The same model on an engine that was opened anew.
    fn mend(&mut self, flying: Flying) {
        self.about = Arc::clone(&flying.about);
        self.engine = flying.engine.as_str().into();
        self.flying = Some(flying);
    }
}

/// Runs until the node stops; gives the record back, into which those who then still wait are yet to be written.
pub(super) fn run(
    inner: &Inner,
    flying: Flying,
    mut recorder: Option<Recorder>,
    outgoing: &Outgoing,
) -> Option<Recorder> {
    let most_queries = inner.mailbox.limits().active_queries;
    let mut craft = Craft::new(flying, most_queries);
    let mut at_hand: Option<Arc<Frame>> = None;
    let mut next = inner.mailbox.wait(None);
    loop {
        match next {
            Wake::Stop => return recorder,
            Wake::Switch(model) => {
                craft = Craft::new(model, most_queries);
                inner.upkeep.mender.replaced();
                next = inner.mailbox.wait(at_hand.as_deref());
            }
            Wake::Mended(model) => {
                // What was opened for a model that no longer flies is let go.
                if model.about.manifest_hash == craft.about.manifest_hash {
                    craft.mend(model);
                    inner.announce(Arc::clone(&craft.about));
                }
                next = inner.mailbox.wait(at_hand.as_deref());
            }
            // Only a frame is looked at can a query wait for it, unless the model was switched in between.
            Wake::Ask => match at_hand.clone() {
                Some(frame) => next = look(inner, &mut craft, (&frame, None), recorder.as_mut(), outgoing),
                None => next = inner.mailbox.wait(None),
            },
            Wake::Frame(frame, prepared) => {
                next = look(inner, &mut craft, (&frame, Some(prepared)), recorder.as_mut(), outgoing);
                at_hand = Some(frame);
            }
        }
    }
}

/// Looks at one frame and answers about it until something else is to be done.
fn look(
    inner: &Inner,
    craft: &mut Craft,
    (frame, prepared): (&Arc<Frame>, Option<Box<Prepared>>),
    mut recorder: Option<&mut Recorder>,
    outgoing: &Outgoing,
) -> Wake<Flying> {
    let mut prepared = prepared.unwrap_or_default();
    if let Some(mut flying) = craft.flying.take() {
        let before = flying.segmenter.gate_history();
        let looked = flying.segmenter.look_prepared(&frame.image, &mut prepared);
        inner.mailbox.give_back(prepared);
        let next = match looked {
            Ok(mut look) => {
                outgoing.sent().for_each(|outcome| look.recycle_outcome(outcome));
                if let Some(recorder) = recorder.as_deref_mut() {
                    recorder.look(frame, &craft.about, before, &look);
                }
                answer_all(inner, &mut look, frame, craft, recorder, outgoing)
            }
            Err(error) => {
                tracing::warn!("frame {} left out: {error}", frame.number);
                inner.mailbox.left_out(frame);
                Ok(inner.mailbox.wait(Some(frame)))
            }
        };
        match next {
            Ok(next) => {
                craft.flying = Some(flying);
                return next;
            }
            Err(why) => {
                inner.upkeep.metrics.engine_failed();
                inner.upkeep.mender.lost(flying, why);
                inner.health_changed();
            }
        }
    } else {
        inner.mailbox.give_back(prepared);
    }
    refuse_all(inner, frame, craft, outgoing)
}

/// Answers every query about the frame until something else is to be done; an error is what the engine did when it failed.
fn answer_all(
    inner: &Inner,
    look: &mut Look<'_>,
    frame: &Arc<Frame>,
    craft: &mut Craft,
    mut recorder: Option<&mut Recorder>,
    outgoing: &Outgoing,
) -> Result<Wake<Flying>, String> {
    loop {
        while let Some(job) = inner.mailbox.take(frame) {
            if let Some(why) = answer(inner, look, (frame, job), craft, recorder.as_deref_mut(), outgoing) {
                return Err(why);
            }
        }
        match inner.mailbox.wait(Some(frame)) {
            Wake::Ask => {}
            other => return Ok(other),
        }
    }
}

/// Refuses every query about the frame until something else is to be done: there is no engine to ask.
///
/// In the record these refusals stand apart: nothing was perceived that could be perceived again.
fn refuse_all(inner: &Inner, frame: &Arc<Frame>, craft: &mut Craft, outgoing: &Outgoing) -> Wake<Flying> {
    loop {
        while let Some(job) = inner.mailbox.take(frame) {
            if job.begins {
                // It has its first outcome here: what one of its id had understood before is not its own.
                craft.standing.forget(&job.query.id);
                craft.owed.forget(&job.query.id);
            }
            let verdict = Verdict::EngineDegraded;
            let evidence = vec![("engine_failures".into(), inner.upkeep.mender.failures() as f32)];
            let refusal = Refusal { advice: policy::advice(&verdict), evidence, verdict };
            let outcome = Outcome::Refused(refusal);
            let said = Said { outcome, standing: None, perceived: false, in_time: true, seen: false };
            outgoing.send(inner, finished(frame, job, said, craft));
        }
        match inner.mailbox.wait(Some(frame)) {
            Wake::Ask => {}
            other => return other,
        }
    }
}

/// Answers one query; gives what the engine did wrong when it failed.
fn answer(
    inner: &Inner,
    look: &mut Look<'_>,
    (frame, job): (&Arc<Frame>, Job<Asker>),
    craft: &mut Craft,
    recorder: Option<&mut Recorder>,
    outgoing: &Outgoing,
) -> Option<String> {
    let (query, start, deadline) = (job.query.clone(), job.start, job.deadline);
    let (begins, ends) = (job.begins, job.ends);
    if begins {
        craft.owed.forget(&query.id);
    }
    inner.upkeep.running.begin(job, Seen::of(frame), Instant::now());
    // Whoever is being answered is told though this panics: it stands in others' hands until the answer is whole.
    let (mut answer, turn) = ask(look, &mut craft.standing, &query, begins, frame.steady_nanos);
    inner.upkeep.metrics.runs(&answer.timings);
    let pose = inner.poses.of(frame);
    if let Some(georeferencer) = &inner.georeferencer
        && let Err(error) = georeferencer.annotate(&mut answer.outcome, pose.as_ref().map_err(|why| *why))
    {
        // The mask was made here a moment ago; it goes out without a position.
        tracing::error!("query {}: {error}", query.id);
    }
    let job = inner.upkeep.running.end();
    if ends {
        craft.standing.forget(&query.id);
    }
    let latency = start.elapsed();
    let late = job.is_none() || latency > deadline;
    if answer.failure.is_none() {
        // A frame that the gate refused says nothing of the engine.
        if answer.whole.is_some() {
            inner.upkeep.mender.answered();
        }
        if let Some(recorder) = recorder {
            recorder.answer(&query, &answer, turn, &Told { latency, late, untold: job.is_none(), pose });
        }
    }
    let said = Said {
        outcome: answer.outcome,
        standing: answer.standing,
        perceived: answer.failure.is_none(),
        in_time: !late,
        seen: answer.whole.is_some() && answer.failure.is_none(),
    };
    if let Some(whole) = answer.whole.take() {
        look.recycle(whole);
    }
    let Some(job) = job else {
        // Who waited for too long was refused for lateness in the meantime.
        inner.mailbox.told(&query.id, frame.number);
        craft.owed.keep(&query.id, said.standing.as_ref().filter(|_| !ends));
        look.recycle_outcome(said.outcome);
        return answer.failure;
    };
    let mut said = said;
    craft.owed.pay(&query.id, said.standing.as_mut());
    if ends {
        craft.owed.forget(&query.id);
    }
    outgoing.send(inner, finished(frame, job, said, craft));
    answer.failure
}

/// Asks once, or goes on with a query that stands; gives how often that was answered before, too.
fn ask(look: &mut Look<'_>, standing: &mut StandingQueries, query: &Query, begins: bool, nanos: u64) -> (Answer, u32) {
    if !query.stands() {
        standing.forget(&query.id);
        return (look.answer_to(query), 0);
    }
    let kept = standing.of(query, begins);
    let turn = kept.turn();
    (look.answer_standing(kept, nanos), turn)
}

/// What there is to say about a frame.
pub(super) struct Said {
    outcome: Outcome,
    standing: Option<Standing>,
    /// Whether perception answered, so that the recorder has it.
    perceived: bool,
    /// Whether it was made in time; it may still be sent too late.
    in_time: bool,
    /// Whether the model looked at the frame, so that reasons can be given.
    seen: bool,
}

/// What there is to say about a frame with all that is needed to send it.
fn finished(frame: &Arc<Frame>, job: Job<Asker>, said: Said, craft: &Craft) -> Finished {
    let (about, engine) = (Arc::clone(&craft.about), Arc::clone(&craft.engine));
    Finished { job, frame: Arc::clone(frame), said, about, engine }
}

/// Sends an outcome about a frame, or that it came too late, and leaves the wish for its reasons; gives back what nobody
/// needs any more.
pub(super) fn finish(inner: &Inner, finished: Finished) -> Outcome {
    let Finished { job, frame, said, about, engine } = finished;
    let Said { outcome, standing, perceived, in_time, seen: explainable } = said;
    let seen = Seen::of(&frame);
    // With the time that it waited here: late is late, whatever it waited for.
    let (latency, deadline) = (job.start.elapsed(), job.deadline);
    let outcome = if latency > deadline { late(latency, deadline) } else { outcome };
    let mut reply = reply(inner, &job.query, latency, outcome);
    // Told of a late answer too: what is given up is told only once.
    reply.standing = standing;
    place(&mut reply, seen);
    reply.model.clone_from(&about.name);
    reply.engine.push_str(&engine);
    let instead = perceived && in_time && latency > deadline;
    if !perceived || instead {
        record(inner, &job, Some(frame.number), &reply, instead);
    }
    // What was made in time and could not be sent as it is, was told as a refusal too.
    if inner.send(&mut reply, job.asker.as_ref()) && perceived && in_time && !instead {
        record(inner, &job, Some(frame.number), &reply, true);
    }
    // Not before: others tell what is said last of a query, and that comes behind this.
    inner.mailbox.told(&job.query.id, frame.number);
    let is_seen = explainable && latency <= deadline;
    explaining::give(inner, &job, if is_seen { Ok(&frame) } else { Err((Unexplained::Unseen, Some(seen))) });
    reply.outcome
}

/// Records a refusal in which perception had no part, if there is a record; one that is given `instead` of an outcome that
/// the recorder has as in time says so.
fn record(inner: &Inner, job: &Job<Asker>, frame: Option<u64>, reply: &Reply, instead: bool) {
    if let (Some(recording), Outcome::Refused(refusal)) = (&inner.recording, &reply.outcome) {
        recording.refuse(&job.query, frame, (refusal, reply.latency_micros), instead);
    }
}

/// Refuses a query that waited too long, or whose life is over; `seen` is the frame that it is about, if there is one.
pub(super) fn expire(inner: &Inner, job: &Job<Asker>, why: Overdue, seen: Option<Seen>) {
    let waited = job.start.elapsed();
    let outcome = match why {
        Overdue::Answer { .. } | Overdue::Engine => late(waited, job.deadline),
        Overdue::Frame => late(waited, inner.mailbox.limits().frame_timeout),
        Overdue::Life(life) => over(life),
    };
    let mut reply = reply(inner, &job.query, waited, outcome);
    match seen {
        Some(seen) => place(&mut reply, seen),
        // No frame was looked at: the next one's number, and no size.
        None => reply.frame = inner.mailbox.frames().0,
    }
    record(inner, job, seen.map(|seen| seen.number), &reply, false);
    inner.send(&mut reply, job.asker.as_ref());
    // A query that stands and saw no frame yet may still see one.
    if job.ends || seen.is_some() {
        let why = if why == Overdue::Frame { Unexplained::NoFrame } else { Unexplained::Unseen };
        explaining::give(inner, job, Err((why, seen)));
    }
}

/// Names the frame.
fn place(reply: &mut Reply, seen: Seen) {
    reply.frame = seen.number;
    reply.frame_width = seen.width;
    reply.frame_height = seen.height;
    reply.capture_unix_nanos = seen.capture_unix_nanos;
    reply.capture_doubt = seen.capture_doubt;
    reply.frame_age_micros = Some(micros(seen.admitted.elapsed()));
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn reply(inner: &Inner, query: &Query, latency: Duration, outcome: Outcome) -> Reply {
    Reply {
        drone: inner.publisher.drone.to_string(),
        query_id: query.id.clone(),
        query_text: query.text.clone(),
        frame: 0,
        frame_width: 0,
        frame_height: 0,
        capture_unix_nanos: 0,
        capture_doubt: None,
        latency_micros: micros(latency),
        frame_age_micros: None,
        model: String::new(),
        engine: String::new(),
        outcome,
        standing: None,
    }
}

fn late(latency: Duration, deadline: Duration) -> Outcome {
    let millis = |time: Duration| time.as_secs_f32() * 1e3;
    let verdict = Verdict::DeadlineMissed;
    let evidence = vec![("latency_millis".into(), millis(latency)), ("deadline_millis".into(), millis(deadline))];
    Outcome::Refused(Refusal { advice: policy::advice(&verdict), evidence, verdict })
}

/// The last that is said about a query whose time to live is over.
fn over(life: Duration) -> Outcome {
    let advice = match life.is_zero() {
        true => "The query was withdrawn: ask anew.",
        false => "The query's time to live is over: ask anew, and renew it before it ends.",
    };
    let evidence = vec![("time_to_live_millis".into(), life.as_secs_f32() * 1e3)];
    Outcome::Refused(Refusal { verdict: Verdict::DeadlineMissed, evidence, advice: advice.into() })
}
