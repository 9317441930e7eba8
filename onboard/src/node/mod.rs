//! The node: a drone on the network.
//!
//! [`Node::start`] opens the model, joins the network and answers queries about the frames that [`Frames::put`] hands it.
//! The camera, the network and the perception thread meet in a bounded mailbox, so a slow model drops frames and never queues them.
//! While the engine looks at one frame, the next is prepared and the outcomes of the last are sent.

mod active;
mod error;
mod explaining;
mod feeding;
mod flying;
mod link;
mod mailbox;
mod owed;
mod poses;
mod push;
mod rhythm;
mod sending;
mod stages;
mod twin;
mod upkeep;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kestrel_link::{DroneId, Health, Readiness, Unexplained, decode};
use kestrel_perception::Georeferencer;
use kestrel_perception::geo::PosesOptions;
use tokio::sync::Notify;
use zenoh::handlers::FifoChannel;
use zenoh::query::Query as Asker;

use crate::engine::EngineOptions;
use crate::pipeline::SegmenterOptions;
use crate::record::{Model, RecordOptions, RecordState, Totals};

pub use error::NodeError;
pub use explaining::ExplainOptions;
pub use feeding::Frames;
pub use flying::ModelSource;
pub use link::LinkOptions;
pub use mailbox::{Frame, Limits};
pub use upkeep::{Fault, UpkeepOptions, Vitals};

use explaining::Explaining;
use flying::Flying;
use link::Publisher;
use mailbox::{Mailbox, Overdue};
use poses::PoseKeeper;
use push::Slots;
use stages::Stages;
use upkeep::{Threads, Upkeep};

/// Requests that may wait for this node before zenoh holds the network back.
const WAITING_REQUESTS: usize = 16;
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// The tick of lateness: what is late, or whose life is over, is refused within this.
const EXPIRY_EVERY: Duration = Duration::from_millis(100);
/// An explainer whose engine hangs is left behind after this long.
const EXPLAINER_STOPS_WITHIN: Duration = Duration::from_secs(2);

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
    /// Which pose is taken for a frame that brings none, of those that come over the link.
    pub poses: PosesOptions,
    /// How answers are explained; `None` explains none.
    pub explain: Option<ExplainOptions>,
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
    poses: Arc<PoseKeeper>,
    explaining: Explaining,
    about: Mutex<Arc<Model>>,
    /// How the recording goes, where there is one.
    recording: Option<Arc<RecordState>>,
    segmented: AtomicU64,
    refused: AtomicU64,
    started: Instant,
    stopping: AtomicBool,
    health_changed: Notify,
    /// Held by whoever refuses what nobody answers any more, until all of that is told and recorded.
    expiring: Mutex<()>,
    upkeep: Upkeep,
}

impl Inner {
    /// Says that another model flies from now on.
    fn announce(&self, about: Arc<Model>) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = about;
        self.health_changed();
    }

    fn totals(&self) -> Totals {
        let (frames, frames_dropped) = self.mailbox.frames();
        let (segmented, refused) = (&self.segmented, &self.refused);
        Totals {
            frames,
            frames_dropped,
            segmented: segmented.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
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

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    stages: Option<Stages>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    threads: Option<Threads>,
    /// Takes poses in, and listens for another drone of this name, for as long as they are held.
    listening: Vec<zenoh::pubsub::Subscriber<()>>,
    /// Says that the drone is there for as long as it is held.
    alive: Option<zenoh::liveliness::LivelinessToken>,
}

impl Node {
    /// Opens the model, joins the network and begins to answer.
    ///
    /// Needs tokio's multi-threaded runtime, as zenoh does.
    ///
    /// # Errors
    /// When the model, the engine or the network cannot be had as configured, or a drone on the network has the same name;
    /// nothing falls back.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let opening = Arc::clone(&config);
        // Opening a model takes seconds and must not hold up whoever else lives on this runtime.
        let (flying, slots) = tokio::task::spawn_blocking(move || flying::open_model(&opening))
            .await
            .map_err(NodeError::link("open the model"))??;
        let session = zenoh::open(config.link.config()?).await.map_err(NodeError::link("join the network"))?;
        if let Err(taken) = twin::refuse(&session, &config.drone).await {
            // Nothing was said on it; what counts is why the drone does not start.
            let _ = session.close().await;
            return Err(taken);
        }
        // Last of what can fail for long, so that a start that fails leaves no empty record behind.
        let recorder = flying::record(&config)?;
        let drone = config.drone.clone();
        let inner = Arc::new(Inner {
            mailbox: Mailbox::new(config.limits),
            publisher: Publisher::new(&session, &drone),
            slots,
            georeferencer: config.georeferencer,
            poses: Arc::new(PoseKeeper::new(config.poses)),
            explaining: Explaining::new(config.explain, &flying.bundle),
            about: Mutex::new(Arc::clone(&flying.about)),
            recording: recorder.as_ref().map(|recorder| recorder.state()),
            segmented: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            health_changed: Notify::new(),
            expiring: Mutex::new(()),
            upkeep: Upkeep::new(&config),
        });
        let stages = Stages::start(&inner, flying, recorder, &config.segmenter)?;
        // From here on whatever fails drops the node, which ends its threads.
        let mut node =
            Self { inner, stages: Some(stages), tasks: Vec::new(), threads: None, listening: Vec::new(), alive: None };
        node.threads = Some(node.start_threads(&config)?);
        node.join(&session, &config).await?;
        Ok(node)
    }

    /// Starts the threads that do not look at frames.
    fn start_threads(&self, config: &Arc<NodeConfig>) -> Result<Threads, NodeError> {
        if config.explain.is_some() {
            let (reasoning, plan) = (Arc::clone(&self.inner), Arc::clone(config));
            std::thread::Builder::new()
                .name("explain".into())
                .spawn(move || explaining::run(&reasoning, &plan))
                .map_err(|source| NodeError::Thread { name: "explain", source })?;
        }
        Threads::start(&self.inner, config)
    }

    /// Takes part in the network from now on.
    async fn join(&mut self, session: &zenoh::Session, config: &Arc<NodeConfig>) -> Result<(), NodeError> {
        let (inner, drone) = (&self.inner, &config.drone);
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
        // Who knows no camera places nothing.
        if config.georeferencer.is_some() {
            self.listening.push(inner.poses.listen(session, drone.pose()).await?);
        }
        let taking = Arc::clone(inner);
        self.tasks = vec![
            tokio::spawn(async move {
                while let Ok(query) = queries.recv_async().await {
                    take_query(&taking, query).await;
                }
            }),
            tokio::spawn(take_pushes(Arc::clone(inner), Arc::clone(config), pushes)),
            tokio::spawn(publish_health(Arc::clone(inner))),
            tokio::spawn(expire_queries(Arc::clone(inner))),
        ];
        self.listening.push(inner.upkeep.twin.listen(session, drone).await?);
        // Last, so that whoever sees the token can ask at once.
        let alive =
            session.liveliness().declare_token(drone.alive()).await.map_err(NodeError::link("declare liveliness"))?;
        self.alive = Some(alive);
        Ok(())
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
            let (recorder, panicked) = stages.map(Stages::join).unwrap_or_default();
            // What expired a moment ago is told before the record ends and the network is left.
            let _expiring = inner.expiring.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((job, seen)) = inner.upkeep.running.abandon() {
                let why = Overdue::Answer { frame: seen.number, start: job.start };
                worker::expire(&inner, &job, why, Some(seen));
            }
            for job in &waiting {
                worker::expire(&inner, job, Overdue::Frame, None);
            }
            if let Some(recording) = &inner.recording {
                recording.conclude(inner.totals());
            }
            drop(recorder);
            explaining::stop(&inner, EXPLAINER_STOPS_WITHIN);
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
        drop(self.alive.take());
        self.inner.publisher.session.close().await.map_err(NodeError::link("leave the network"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whoever drops a node without `stop` still gets its threads ended.
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.inner.mailbox.stop();
        self.inner.explaining.stop(Duration::ZERO);
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Takes in one query, or says at once why not; says so to one that is replaced, too.
async fn take_query(inner: &Arc<Inner>, asker: Asker) {
    let payload = asker.payload().map(|payload| payload.to_bytes().into_owned()).unwrap_or_default();
    let (asker, why) = match decode::<kestrel_link::Query>(&payload) {
        // The other one would answer too: one question would have two outcomes.
        Ok(_) if inner.upkeep.twin.told(Instant::now()).is_some() => {
            let name = &inner.publisher.drone;
            (asker, format!("two drones are called {name}; hint: give each a name of its own with `drone`"))
        }
        Ok(query) => match inner.mailbox.ask(query, asker) {
            Ok(None) => return,
            Ok(Some(mut replaced)) => {
                let asker = replaced.asker.take();
                in_background(inner, move |inner| {
                    explaining::give(inner, &replaced, Err((Unexplained::NoFrame, None)))
                })
                .await;
                // Who has had an answer does not wait.
                let Some(asker) = asker else { return };
                (asker, "replaced: its id was asked anew; hint: give each query an id of its own".to_owned())
            }
            Err(asker) if inner.stopping() => (asker, "the drone is shutting down; hint: ask another one".to_owned()),
            Err(asker) => {
                let most = inner.mailbox.limits().active_queries;
                let hint = "wait for their answers, ask for fewer frames, or withdraw one";
                (asker, format!("busy: {most} queries are active; hint: {hint}"))
            }
        },
        Err(error) => (asker, format!("{error}; hint: {}", error.hint())),
    };
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

/// Refuses queries that no frame comes for, whose answer does not come, or whose life is over.
async fn expire_queries(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(EXPIRY_EVERY);
    loop {
        ticks.tick().await;
        in_background(&inner, expire).await;
    }
}

/// Refuses what is late by now.
fn expire(inner: &Inner) {
    let _expiring = inner.expiring.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    for (job, why, seen) in upkeep::late(inner, now) {
        worker::expire(inner, &job, why, seen);
    }
    if let Some(part) = explaining::late(inner, now) {
        inner.publisher.explanation(&part);
    }
}

/// Publishing can block on a congested link, which no task of the runtime may.
async fn in_background(inner: &Arc<Inner>, work: impl FnOnce(&Inner) + Send + 'static) {
    let inner = Arc::clone(inner);
    if tokio::task::spawn_blocking(move || work(&inner)).await.is_err() {
        tracing::error!("publishing panicked");
    }
}
