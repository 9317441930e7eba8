//! Model pushes: an offer comes in, the drone pulls the chunks, tries the model and switches, or stays with the old one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::{ChunkRequest, PushOffer, PushPhase, PushState, decode, encode};
use zenoh::Wait;
use zenoh::bytes::Encoding;
use zenoh::query::Query;

use super::{Flying, Inner, NodeConfig};
use crate::bundle::Bundle;
use crate::camera;
use crate::pipeline::Segmenter;
use crate::slots::{FolderDisk, Receiver, SlotError, SlotStore, TrialError, TrialReport, Trialled};

/// How long one chunk may take, and how often it is asked for before the push is given up.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK_TRIES: u32 = 5;
/// The state is published at most this often while chunks come in.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The slots of a node, with at most one push at a time.
pub(super) struct Slots {
    store: Mutex<SlotStore<FolderDisk>>,
}

impl Slots {
    pub(super) fn new(store: SlotStore<FolderDisk>) -> Self {
        Self { store: Mutex::new(store) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SlotStore<FolderDisk>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers an offer, and when it is taken carries the push through on this thread.
pub(super) fn offered(inner: &Arc<Inner>, config: &NodeConfig, query: &Query) {
    let drone = inner.publisher.drone.as_str();
    let refused = |why: String| PushState {
        drone: drone.to_owned(),
        model: String::new(),
        manifest_hash: String::new(),
        phase: PushPhase::Refused { why },
    };
    let Some(slots) = &inner.slots else {
        return respond(inner, query, &refused("this drone has no model slots: it flies a bundle by path".into()));
    };
    let payload = query.payload().map(|payload| payload.to_bytes()).unwrap_or_default();
    let begun = decode::<PushOffer>(&payload)
        .map_err(|error| format!("{error}; hint: {}", error.hint()))
        .and_then(|offer| slots.lock().begin(&offer).map_err(|error| format!("{error}; hint: {}", error.hint())));
    let mut receiver = match begun {
        Ok(receiver) => receiver,
        Err(why) => {
            tracing::warn!("model push refused: {why}");
            return respond(inner, query, &refused(why));
        }
    };
    let state = slots.lock().push_state(drone, Some(&receiver));
    tracing::info!("model push: {} begins", state.model);
    respond(inner, query, &state);
    match carry(inner, config, slots, &mut receiver) {
        Ok(()) => {}
        Err(error) => tracing::warn!("model push: {error}; the model from before flies on"),
    }
    publish(inner, slots, None);
    inner.health_changed();
}

fn respond(inner: &Inner, query: &Query, state: &PushState) {
    inner.upkeep.metrics.push(&state.phase);
    inner.publisher.push_state(state);
    let answered = encode(state).map_err(|error| error.to_string()).and_then(|bytes| {
        let key = inner.publisher.drone.model_push();
        query.reply(key, bytes).encoding(Encoding::APPLICATION_CBOR).wait().map_err(|error| error.to_string())
    });
    if let Err(error) = answered {
        tracing::warn!("model push: the pusher did not get its answer: {error}");
    }
}

fn publish(inner: &Inner, slots: &Slots, receiver: Option<&Receiver>) {
    let state = slots.lock().push_state(inner.publisher.drone.as_str(), receiver);
    inner.upkeep.metrics.push(&state.phase);
    inner.publisher.push_state(&state);
}

fn carry(inner: &Arc<Inner>, config: &NodeConfig, slots: &Slots, receiver: &mut Receiver) -> Result<(), SlotError> {
    pull(inner, slots, receiver)?;
    slots.lock().finish(receiver)?;
    publish(inner, slots, None);
    let mut trained: Option<Segmenter> = None;
    let trialled = slots.lock().trial(|bundle| {
        let (segmenter, report) = try_out(bundle, config)?;
        trained = Some(segmenter);
        Ok(report)
    })?;
    match (trialled, trained) {
        (Trialled::Committed { bundle, report }, Some(segmenter)) => {
            tracing::info!(
                "model push: {} passed {} canaries, least IoU {:.3}, slowest {} ms",
                bundle.manifest.model(),
                report.canaries,
                report.worst_iou,
                report.slowest_micros / 1000
            );
            let slot = slots.lock().record().committed.as_ref().map(|release| release.slot.name().to_owned());
            let flying = Flying::new(&bundle, segmenter, &slot.unwrap_or_default());
            let about = Arc::clone(&flying.about);
            // False only when the node stops; the new model flies from the next start on. Whoever hears that the push is
            // committed finds the new model in the drone's health: it is said here, before that is published.
            if inner.mailbox.switch(flying) {
                inner.explaining.fly(&bundle);
                inner.announce(about);
            }
        }
        (Trialled::RolledBack { why }, _) => tracing::warn!("model push: rolled back: {why}"),
        (Trialled::Committed { .. }, None) => {}
    }
    Ok(())
}

/// Pulls every chunk, asking again for what got lost.
fn pull(inner: &Inner, slots: &Slots, receiver: &mut Receiver) -> Result<(), SlotError> {
    let mut published = Instant::now();
    let mut tries = 0;
    while !receiver.is_complete() {
        receiver.ask_again();
        let Some(request) = receiver.next_request() else { break };
        match chunk(inner, &request) {
            Ok(bytes) => {
                let received = slots.lock().receive(receiver, &request, &bytes);
                match received {
                    Ok(()) => tries = 0,
                    Err(error) if error.is_retryable() && tries < CHUNK_TRIES => tries += 1,
                    // Wrong again and again: that ends the push, and who offered it is to hear so.
                    Err(error) if error.is_retryable() => return slots.lock().abandon(&error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            Err(why) => {
                tries += 1;
                tracing::debug!("chunk of {} at {}: {why}", request.path, request.offset);
                if tries >= CHUNK_TRIES || inner.stopping() {
                    let why = format!("chunk of {} from byte {}: {why}", request.path, request.offset);
                    return slots.lock().abandon(&why);
                }
            }
        }
        if published.elapsed() >= PROGRESS_EVERY {
            publish(inner, slots, Some(receiver));
            published = Instant::now();
        }
    }
    Ok(())
}

fn chunk(inner: &Inner, request: &ChunkRequest) -> Result<Vec<u8>, String> {
    let selector = request.selector(&inner.publisher.drone);
    let replies =
        inner.publisher.session.get(&selector).timeout(CHUNK_TIMEOUT).wait().map_err(|error| error.to_string())?;
    let mut why = "nobody answers".to_owned();
    while let Ok(reply) = replies.recv() {
        match reply.into_result() {
            Ok(sample) => return Ok(sample.payload().to_bytes().into_owned()),
            Err(error) => why = String::from_utf8_lossy(&error.payload().to_bytes()).chars().take(200).collect(),
        }
    }
    Err(why)
}

/// Opens a pushed model and holds it against its canaries and the latency bound.
fn try_out(bundle: &Bundle, config: &NodeConfig) -> Result<(Segmenter, TrialReport), TrialError> {
    let failed = |why: String| TrialError { why };
    let mut segmenter = config.open(bundle, config.engine.choice).map_err(|error| failed(error.to_string()))?;
    let mut report = TrialReport { canaries: 0, worst_iou: 1.0, slowest_micros: 0 };
    for canary in &bundle.canaries {
        let picture = camera::load(&canary.image).map_err(|error| failed(error.to_string()))?;
        let start = Instant::now();
        let answer = segmenter.segment(&picture, &canary.query).map_err(|error| failed(error.to_string()))?;
        let time = start.elapsed();
        let iou = canary.judge(&answer.outcome).map_err(failed)?;
        if time > config.trial_latency {
            return Err(failed(format!(
                "canary {}: expected an answer within {} ms, got one after {} ms",
                canary.image.display(),
                config.trial_latency.as_millis(),
                time.as_millis()
            )));
        }
        report.canaries += 1;
        report.worst_iou = report.worst_iou.min(iou);
        report.slowest_micros = report.slowest_micros.max(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
    Ok((segmenter, report))
}
