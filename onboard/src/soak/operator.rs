//! The other end of a soak: camera, operator and stranger in one session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;
use kestrel_link::{DroneId, Outcome, PushPhase, PushState, Query, Readiness, Reply, Verdict, decode, encode};
use tokio::task::JoinSet;
use zenoh::Session;
use zenoh::qos::CongestionControl;

use super::books::{Books, Counted};
use super::picture::Ground;
use super::schedule::LONGEST_STALL;
use super::seeded::Seeded;
use super::{SoakError, SoakOptions};
use crate::camera::{Captured, Network, unix_nanos};
use crate::node::{LinkOptions, Node};

/// Id of the query that stands.
const STANDING: &str = "soak";
/// Single queries that wait at once; the drone takes more.
const MOST_WAITING: usize = 4;
/// Most bytes of a message of garbage.
const MOST_GARBAGE: u64 = 5000;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the start may take once the drone flies.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Operator {
    session: Session,
    drone: DroneId,
    network: Network,
    ground: Ground,
    text: String,
    /// Longest wait for one answer.
    patience: Duration,
    books: Arc<Mutex<Books>>,
    waiting: JoinSet<usize>,
    /// The query that stands is answered by publications; this keeps its reply from being an error.
    _standing: zenoh::handlers::FifoChannelHandler<zenoh::query::Reply>,
    _outcomes: zenoh::pubsub::Subscriber<()>,
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operator {
    /// Joins the network, and asks the query that stands before the first frame is shown.
    pub(super) async fn join(options: &SoakOptions, endpoint: &str, drone: DroneId) -> Result<Self, SoakError> {
        let link = LinkOptions { connect: vec![endpoint.to_owned()], ..LinkOptions::default() };
        let session = zenoh::open(link.config()?).await.map_err(SoakError::operator("join the drone's network"))?;
        let books = Arc::new(Mutex::new(Books::new(STANDING, options.deadline)));
        let hearing = Arc::clone(&books);
        let outcomes = session
            .declare_subscriber(drone.outcomes())
            .callback(move |sample| match decode::<Reply>(&sample.payload().to_bytes()) {
                Ok(reply) => lock(&hearing).hear(&reply),
                Err(error) => lock(&hearing).complain(format!("the drone published garbage: {error}")),
            })
            .await
            .map_err(SoakError::operator("listen to outcomes"))?;
        listened_to(&session, &drone.camera()).await?;
        let patience = options.deadline * LONGEST_STALL * 4 + PATIENCE;
        let query = Query { frames: 0, ..Query::new(STANDING, &options.text) };
        let query = encode(&query).map_err(SoakError::operator("ask"))?;
        let standing = session.get(drone.query()).payload(query).timeout(patience).await;
        let network = Network { session: session.clone(), drone: drone.clone() };
        let operator = Self {
            network,
            ground: options.picture.as_ref().map_or_else(Ground::drawn, Ground::of),
            text: options.text.clone(),
            patience,
            books,
            waiting: JoinSet::new(),
            _standing: standing.map_err(SoakError::operator("ask"))?,
            _outcomes: outcomes,
            session,
            drone,
        };
        // Requests are taken in turn: behind this one the query stands, and outcomes are on their way to this session.
        operator.disturb_queries(0).await?;
        Ok(operator)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    pub(super) fn complain(&self, what: impl Into<String>) {
        self.books().complain(what);
    }

    /// Publishes a frame whose clock is `ahead_nanos` ahead.
    pub(super) async fn show(&self, draw: impl FnOnce(&Ground) -> RgbImage, ahead_nanos: u64) -> Result<(), SoakError> {
        let capture_unix_nanos = unix_nanos().saturating_add(ahead_nanos);
        let frame = Captured { image: draw(&self.ground), capture_unix_nanos, pose: None };
        let network = self.network.clone();
        // Publishing blocks while the network is congested, which no task of the runtime may.
        let published = tokio::task::spawn_blocking(move || network.publish(None, &frame, false)).await;
        published.map_err(SoakError::operator("publish a frame"))??;
        self.books().published += 1;
        Ok(())
    }

    /// Asks a question of its own, unless many wait already.
    pub(super) fn ask(&mut self) {
        self.reap();
        if self.waiting.len() >= MOST_WAITING {
            return;
        }
        let number = {
            let mut books = self.books();
            books.asked += 1;
            books.asked
        };
        let query = Query::new(format!("soak-{number}"), &self.text);
        let (session, key, patience) = (self.session.clone(), self.drone.query(), self.patience);
        self.waiting.spawn(async move {
            let Ok(query) = encode(&query) else { return 0 };
            let Ok(answers) = session.get(key).payload(query).timeout(patience).await else { return 0 };
            let mut count = 0;
            while let Ok(answer) = answers.recv_async().await {
                let is_outcome =
                    answer.into_result().is_ok_and(|sample| decode::<Reply>(&sample.payload().to_bytes()).is_ok());
                count += usize::from(is_outcome);
            }
            count
        });
    }

    /// Enters the answers that have come.
    fn reap(&mut self) {
        while let Some(answered) = self.waiting.try_join_next() {
            lock(&self.books).answers(answered.unwrap_or_default());
        }
    }

    /// Waits for the answers that are still to come, and no longer than this.
    pub(super) async fn finish(&mut self, end: Instant) {
        while let Ok(Some(answered)) = tokio::time::timeout_at(end.into(), self.waiting.join_next()).await {
            lock(&self.books).answers(answered.unwrap_or_default());
        }
    }

    /// What the drone and its camera have counted by now.
    pub(super) fn counted(&self, node: &Node) -> Counted {
        let (health, camera) = (node.health(), node.camera_counts());
        Counted {
            taken: camera.frames,
            lost: camera.lost,
            replaced: camera.replaced,
            frames_in: health.frames_in,
            frames_dropped: health.frames_dropped,
            segmented: health.segmented,
            refused: health.refused,
        }
    }

    /// What does not balance by now.
    pub(super) fn unbalanced(&self, node: &Node) -> Vec<String> {
        self.books().unbalanced(&self.counted(node))
    }

    /// Whether the drone is ready and answers within its deadline, asked again and again until then.
    pub(super) async fn answers_again(&self, node: &Node, end: Instant) -> Result<bool, SoakError> {
        let query = Query::new("soak-end", &self.text);
        let query = encode(&query).map_err(SoakError::operator("ask"))?;
        for number in 0.. {
            if Instant::now() >= end {
                break;
            }
            // While its engine is opened again it refuses at once: asked then, it would be asked as fast as the network goes.
            if node.health().readiness != Readiness::Ready {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            self.show(|ground| ground.frame(number), 0).await?;
            let answers = self.session.get(self.drone.query()).payload(query.clone()).timeout(self.patience).await;
            let answers = answers.map_err(SoakError::operator("ask"))?;
            let Ok(answer) = answers.recv_async().await else { continue };
            let Ok(sample) = answer.into_result() else { continue };
            let Ok(reply) = decode::<Reply>(&sample.payload().to_bytes()) else { continue };
            let is_fit = match &reply.outcome {
                Outcome::Segmented { .. } => true,
                Outcome::Refused(refusal) => {
                    !matches!(refusal.verdict, Verdict::DeadlineMissed | Verdict::EngineDegraded)
                }
            };
            if is_fit && node.health().readiness == Readiness::Ready {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Publishes garbage where the drone takes its frames from.
    pub(super) async fn disturb_camera(&self, seed: u64) -> Result<(), SoakError> {
        let (header, picture) = (garbage(seed), garbage(seed ^ 1));
        self.session
            .put(self.drone.camera(), picture)
            .attachment(header)
            .congestion_control(CongestionControl::Block)
            .await
            .map_err(SoakError::operator("disturb the camera"))?;
        self.books().published += 1;
        Ok(())
    }

    /// Sends garbage in place of a query; it must be answered with an error.
    pub(super) async fn disturb_queries(&self, seed: u64) -> Result<(), SoakError> {
        let answer = self.disturb(self.drone.query(), seed).await?;
        self.books().garbage(answer.is_some_and(|answer| answer.is_err()));
        Ok(())
    }

    /// Sends garbage in place of an offer; it must be refused.
    pub(super) async fn disturb_pushes(&self, seed: u64) -> Result<(), SoakError> {
        let answer = self.disturb(self.drone.model_push(), seed).await?;
        let state = answer.and_then(Result::ok).and_then(|bytes| decode::<PushState>(&bytes).ok());
        self.books().garbage(state.is_some_and(|state| matches!(state.phase, PushPhase::Refused { .. })));
        Ok(())
    }

    /// The only answer to garbage: what was said, or an error; `None` when there was none.
    async fn disturb(&self, key: String, seed: u64) -> Result<Option<Result<Vec<u8>, ()>>, SoakError> {
        self.books().garbage += 1;
        let answers = self.session.get(key).payload(garbage(seed)).timeout(self.patience).await;
        let answers = answers.map_err(SoakError::operator("send garbage"))?;
        let answer = answers.recv_async().await.ok();
        Ok(answer
            .map(|answer| answer.into_result().map(|sample| sample.payload().to_bytes().into_owned()).map_err(drop)))
    }

    pub(super) async fn leave(self) -> Result<(), SoakError> {
        self.session.close().await.map_err(SoakError::operator("leave the drone's network"))
    }
}

/// Waits until somebody listens on a key: what is published before is lost without a trace.
async fn listened_to(session: &Session, key: &str) -> Result<(), SoakError> {
    let failed = "find the drone's camera";
    let publisher = session.declare_publisher(key.to_owned()).await.map_err(SoakError::operator(failed))?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if publisher.matching_status().await.map_err(SoakError::operator(failed))?.matching() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(SoakError::Operator { operation: failed, why: format!("nobody listens on {key}") })
}

/// Bytes that are no message: a break code stands nowhere in CBOR but at the end of what was begun (RFC 8949, 3.2.1).
fn garbage(seed: u64) -> Vec<u8> {
    let mut numbers = Seeded::new(seed);
    let length = numbers.below(MOST_GARBAGE);
    std::iter::once(0xff).chain((0..length).map(|_| numbers.next() as u8)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{FrameHeader, PushOffer};

    /// What would break: a soak that takes a valid message for garbage that was let through.
    ///
    /// Promise: P13
    #[test]
    fn garbage_is_never_a_message() {
        for seed in 0..2000 {
            let bytes = garbage(seed);
            assert!(decode::<Query>(&bytes).is_err() && decode::<PushOffer>(&bytes).is_err());
            assert!(decode::<FrameHeader>(&bytes).is_err());
        }
    }
}
