//! The node: a drone on the network.
//!
//! [`Node::start`] opens the model, joins the network and answers queries about the frames that [`Frames::put`] hands it.
//! The camera, the network and the perception thread meet in a bounded mailbox, so a slow model drops frames and never queues them.
//! While the engine looks at one frame, the next is prepared and the outcomes of the last are sent.

mod error;
mod feeding;
mod flying;
mod link;
mod mailbox;
mod push;
mod rhythm;
mod stages;
mod upkeep;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;
use kestrel_link::signature::VerifyingKey;
use kestrel_link::{DroneId, Health, Readiness, Reply, decode};
use kestrel_perception::{Georeferencer, Pose};
use tokio::sync::Notify;
use zenoh::handlers::FifoChannel;
use zenoh::query::Query as Asker;

use crate::camera::unix_nanos;
use crate::engine::EngineOptions;
use crate::pipeline::SegmenterOptions;
use crate::record::{Model, RecordOptions, RecordState};

pub use error::NodeError;
pub use link::LinkOptions;
pub use mailbox::{Frame, Limits};
pub use upkeep::{Fault, UpkeepOptions, Vitals};

use flying::Flying;
use link::Publisher;
use mailbox::Mailbox;
use push::Slots;
use stages::Stages;
use upkeep::{Threads, Upkeep};

/// Requests that may wait for this node before zenoh holds the network back.
const WAITING_REQUESTS: usize = 16;
const HEALTH_EVERY: Duration = Duration::from_secs(1);
const EXPIRY_EVERY: Duration = Duration::from_millis(100);

/// Which model flies.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A bundle in a folder, signed or not; no pushes are taken.
    Folder(PathBuf),
    /// The committed model of two slots; signed models can be pushed into them.
    Slots {
        /// Folder of the slots.
        dir: PathBuf,
        /// Keys whose bundles may enter.
        trusted: Vec<VerifyingKey>,
        /// A bundle that flies while the slots hold none.
        first: Option<PathBuf>,
    },
}

/// What a node is.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name on the network.
    pub drone: DroneId,
    /// Which model flies.
    pub model: ModelSource,
    /// A pushed model must answer each canary within this time.
    pub trial_latency: Duration,
    /// Which engine flies it.
    pub engine: EngineOptions,
    /// How it looks at frames.
    pub segmenter: SegmenterOptions,
    /// Places masks on the earth; `None` gives no positions.
    pub georeferencer: Option<Georeferencer>,
    /// How it joins the network.
    pub link: LinkOptions,
    /// Bounds.
    pub limits: Limits,
    /// Where the flight is recorded; `None` records nothing.
    pub record: Option<RecordOptions>,
    /// What is done when things go wrong.
    pub upkeep: UpkeepOptions,
}

/// What all threads and tasks of a node share.
struct Inner {
    mailbox: Mailbox<Asker, Flying>,
    publisher: Publisher,
    slots: Option<Slots>,
    georeferencer: Option<Georeferencer>,
    about: Mutex<Arc<Model>>,
    /// How the recording goes, where there is one.
    recording: Option<Arc<RecordState>>,
    segmented: AtomicU64,
    refused: AtomicU64,
    started: Instant,
    stopping: AtomicBool,
    health_changed: Notify,
    upkeep: Upkeep,
}

impl Inner {
    /// Publishes a reply and gives it to who asked; its masks are coarser afterwards where they were too long.
    fn send(&self, reply: &mut Reply, asker: Option<&Asker>) {
        self.upkeep.metrics.outcome(reply, unix_nanos());
        self.publisher.deliver(reply, asker);
    }

    /// Says that another model flies from now on.
    fn announce(&self, about: Arc<Model>) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = about;
        self.health_changed();
    }

    fn health_changed(&self) {
        self.health_changed.notify_one();
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn health(&self) -> Health {
        let about = self.about.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (frames_in, frames_dropped) = self.mailbox.frames();
        let readiness = match self.stopping() {
            true => Readiness::NotReady { why: "shutting down".into() },
            false => self.upkeep.readiness(Instant::now()),
        };
        Health {
            drone: self.publisher.drone.to_string(),
            readiness,
            model: about.name.clone(),
            model_hash: about.manifest_hash.clone(),
            slot: about.slot.clone(),
            engine: self.upkeep.mender.named(&about.engine),
            uptime_seconds: self.started.elapsed().as_secs(),
            frames_in,
            frames_dropped,
            segmented: self.segmented.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            degraded: self.upkeep.degraded(),
            recording: self.recording.as_ref().map(|state| state.recording()),
        }
    }
}

/// Where frames are handed to a node; can be cloned and moved to the camera's thread.
#[derive(Clone)]
pub struct Frames(Arc<Inner>);

impl Frames {
    /// Hands over a frame with the camera's capture time (nanoseconds since the Unix epoch); it replaces one that nobody looked at yet.
    ///
    /// Gives the frame's number, or `None` when the node has stopped. While the drone is hot, frames beyond the rate that is
    /// left are counted as dropped.
    pub fn put(&self, image: RgbImage, capture_unix_nanos: u64) -> Option<u64> {
        self.put_posed(image, capture_unix_nanos, None)
    }

    /// As [`Frames::put`], with the camera's pose at that moment, so that masks can be placed on the earth.
    pub fn put_posed(&self, image: RgbImage, capture_unix_nanos: u64, pose: Option<Pose>) -> Option<u64> {
        if !self.0.upkeep.admits(Instant::now()) {
            return self.0.mailbox.skip();
        }
        self.0.mailbox.put(image, capture_unix_nanos, pose)
    }
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    stages: Option<Stages>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    threads: Option<Threads>,
    /// Says that the drone is there for as long as it is held.
    _alive: zenoh::liveliness::LivelinessToken,
}

impl Node {
    /// Opens the model, joins the network and begins to answer.
    ///
    /// Needs tokio's multi-threaded runtime, as zenoh does.
    ///
    /// # Errors
    /// When the model, the engine or the network cannot be had as configured; nothing falls back.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let opening = Arc::clone(&config);
        // Opening a model takes seconds and must not hold up whoever else lives on this runtime.
        let (flying, slots) = tokio::task::spawn_blocking(move || flying::open_model(&opening))
            .await
            .map_err(NodeError::link("open the model"))??;
        let session = zenoh::open(config.link.config()?).await.map_err(NodeError::link("join the network"))?;
        // Last of what can fail for long, so that a start that fails leaves no empty record behind.
        let recorder = flying::record(&config)?;
        let drone = config.drone.clone();
        let inner = Arc::new(Inner {
            mailbox: Mailbox::new(config.limits),
            publisher: Publisher::new(&session, &drone),
            slots,
            georeferencer: config.georeferencer,
            about: Mutex::new(Arc::clone(&flying.about)),
            recording: recorder.as_ref().map(|recorder| recorder.state()),
            segmented: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            health_changed: Notify::new(),
            upkeep: Upkeep::new(&config),
        });
        let stages = Stages::start(&inner, flying, recorder, &config.segmenter)?;
        let threads = Threads::start(&inner, &config)?;
        let queries = session
            .declare_queryable(drone.query())
            .with(FifoChannel::new(WAITING_REQUESTS))
            .await
            .map_err(NodeError::link("declare the query key"))?;
        let pushes = session
            .declare_queryable(drone.model_push())
            .with(FifoChannel::new(1))
            .await
            .map_err(NodeError::link("declare the push key"))?;
        let taking = Arc::clone(&inner);
        let tasks = vec![
            tokio::spawn(async move {
                while let Ok(query) = queries.recv_async().await {
                    take_query(&taking, query).await;
                }
            }),
            tokio::spawn(take_pushes(Arc::clone(&inner), config, pushes)),
            tokio::spawn(publish_health(Arc::clone(&inner))),
            tokio::spawn(expire_queries(Arc::clone(&inner))),
        ];
        // Last, so that whoever sees the token can ask at once.
        let alive =
            session.liveliness().declare_token(drone.alive()).await.map_err(NodeError::link("declare liveliness"))?;
        Ok(Self { inner, stages: Some(stages), tasks, threads: Some(threads), _alive: alive })
    }

    /// Where frames are handed over.
    #[must_use]
    pub fn frames(&self) -> Frames {
        Frames(Arc::clone(&self.inner))
    }

    /// What the node says of itself now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.health()
    }

    /// Answers what still waits with a refusal, ends the record, leaves the network and ends every thread.
    ///
    /// # Errors
    /// When zenoh cannot close the session.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        self.inner.stopping.store(true, Ordering::Relaxed);
        let waiting = self.inner.mailbox.stop();
        let inner = Arc::clone(&self.inner);
        let stages = self.stages.take();
        let ended = tokio::task::spawn_blocking(move || {
            // First what is being answered, then those who will not be.
            let panicked = stages.map(Stages::join).unwrap_or_default();
            if let Some((job, seen)) = inner.upkeep.running.abandon() {
                worker::expire(&inner, &job, Some(seen));
            }
            for job in &waiting {
                worker::expire(&inner, job, None);
            }
            inner.publisher.health(&inner.health());
            panicked
        });
        for thread in ended.await.map_err(NodeError::link("end the perception thread"))? {
            tracing::error!("the {thread} thread panicked");
        }
        drop(self.threads.take());
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // An aborted task is no error; waiting for it frees what it holds, the slots' lock among it.
            let _ = task.await;
        }
        self.inner.publisher.session.close().await.map_err(NodeError::link("leave the network"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whoever drops a node without `stop` still gets its threads ended.
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.inner.mailbox.stop();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Takes in one query, or says at once why not.
async fn take_query(inner: &Inner, asker: Asker) {
    let payload = asker.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
    let refused = match decode::<kestrel_link::Query>(&payload) {
        Ok(query) => match inner.mailbox.ask(query, asker) {
            Ok(()) => return,
            Err(asker) => {
                let most = inner.mailbox.limits().active_queries;
                (
                    asker,
                    format!("busy: {most} queries are active; hint: wait for their answers, or ask for fewer frames"),
                )
            }
        },
        Err(error) => (asker, format!("{error}; hint: {}", error.hint())),
    };
    let (asker, why) = refused;
    tracing::warn!("query refused: {why}");
    if let Err(error) = asker.reply_err(why).await {
        tracing::warn!("the asker was not told: {error}");
    }
}

/// Carries pushes through, one after the other.
async fn take_pushes(
    inner: Arc<Inner>,
    config: Arc<NodeConfig>,
    pushes: zenoh::query::Queryable<zenoh::handlers::FifoChannelHandler<Asker>>,
) {
    while let Ok(query) = pushes.recv_async().await {
        let (inner, config) = (Arc::clone(&inner), Arc::clone(&config));
        let carried = tokio::task::spawn_blocking(move || push::offered(&inner, &config, &query)).await;
        if carried.is_err() {
            tracing::error!("a model push panicked; the model from before flies on");
        }
    }
}

/// Publishes health at a fixed rate and at every change of state.
async fn publish_health(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = inner.health_changed.notified() => {}
        }
        in_background(&inner, |inner| inner.publisher.health(&inner.health())).await;
    }
}

/// Refuses queries that no frame comes for, or whose answer does not come.
async fn expire_queries(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(EXPIRY_EVERY);
    loop {
        ticks.tick().await;
        let late = upkeep::late(&inner, Instant::now());
        if !late.is_empty() {
            let refuse = move |inner: &Inner| late.iter().for_each(|(job, seen)| worker::expire(inner, job, *seen));
            in_background(&inner, refuse).await;
        }
    }
}

/// Publishing can block on a congested link, which no task of the runtime may.
async fn in_background(inner: &Arc<Inner>, work: impl FnOnce(&Inner) + Send + 'static) {
    let inner = Arc::clone(inner);
    if tokio::task::spawn_blocking(move || work(&inner)).await.is_err() {
        tracing::error!("publishing panicked");
    }
}
