//! A soak: a drone and an operator over a real network, faults that a seed names, and books that must balance.
//!
//! The node is the one that flies, with the default configuration but for its deadlines. Frames come to it over the network.
//! Its engine is the one asked for behind a shell that fails and stalls when it is told to. At the end every frame and every
//! query must be accounted for, the drone must answer again, and its memory must not have grown.

mod books;
mod operator;
mod picture;
mod sabotage;
mod seeded;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::RgbImage;
use serde::Serialize;

use crate::camera::CameraError;
use crate::config::{Config, ConfigError};
use crate::engine::EngineOptions;
use crate::health::metrics::memory_bytes;
use crate::health::recovery::RecoveryLimits;
use crate::health::watchdog::WatchdogLimits;
use crate::node::{Limits, LinkOptions, ModelSource, Node, NodeConfig, NodeError, UpkeepOptions};

use operator::Operator;
use sabotage::{Deck, Fault, Sabotage};
use seeded::Seeded;

/// Frames between two faults, unless the camera's last one still lasts; and between two single queries.
const FAULT_EVERY: u64 = 10;
const QUERY_EVERY: u64 = 7;
/// Frames of a fault of the camera that lasts.
const LASTING: u64 = 8;
/// How often memory is measured and progress told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A stall lasts at most this many deadlines. One that lasts for this many more counts as hung.
const LONGEST_STALL: u32 = 10;
/// An hour in nanoseconds.
const HOUR_NANOS: u64 = 3_600_000_000_000;

/// How long a soak lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Until this much time has passed.
    Time(Duration),
    /// This many frames.
    Frames(u64),
}

/// What is soaked, and how.
#[derive(Debug, Clone)]
pub struct SoakOptions {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// The engine behind the shell that fails.
    pub engine: EngineOptions,
    /// What the camera moves over, at least 2 pixels wide; `None` draws a ground with a red square.
    pub picture: Option<RgbImage>,
    /// What is asked.
    pub text: String,
    /// Whether degraded frames are refused before the model sees them.
    pub gate: bool,
    /// How long.
    pub length: Length,
    /// Frames per second of the camera; above 0.
    pub frames_per_second: f64,
    /// How much longer the engine is made to take for each frame.
    pub slower: Duration,
    /// An outcome that takes longer is refused as too late.
    pub deadline: Duration,
    /// Names the faults.
    pub seed: u64,
    /// By how much memory may grow between the second third and the last one.
    pub most_growth_bytes: u64,
}

/// How a soak goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// How much of it is done, 0 to 1.
    pub done: f64,
    /// Frames that were shown.
    pub frames: u64,
    /// Faults that were made.
    pub faults: u64,
    /// Bytes of main memory; 0 where the system does not say.
    pub memory_bytes: u64,
}

/// Frames on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FramesReport {
    /// Published for the camera, garbage included.
    pub published: u64,
    /// That the camera's thread took.
    pub taken: u64,
    /// That were replaced before it took them.
    pub replaced: u64,
    /// That could not be used.
    pub lost: u64,
    /// That the node took and looked at none of.
    pub dropped: u64,
}

/// Memory, in bytes; all 0 where the system does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryReport {
    /// The most in the second third.
    pub middle_bytes: u64,
    /// The most in the last third.
    pub last_bytes: u64,
    /// By how much it may grow between the two.
    pub most_growth_bytes: u64,
}

/// What came of a soak.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The seed that names it.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// The model.
    pub model: String,
    /// The engine.
    pub engine: String,
    /// Where frames went.
    pub frames: FramesReport,
    /// Outcomes of the node that are masks, and that refuse.
    pub segmented: u64,
    /// See `segmented`.
    pub refused: u64,
    /// Outcomes that were heard, by kind or reason; masks may be lost to newer ones on the way.
    pub heard: BTreeMap<String, u64>,
    /// Queries that were asked once beside the one that stands.
    pub queries: u64,
    /// Messages of garbage that were refused.
    pub garbage_refused: u64,
    /// How often each kind of fault was made.
    pub faults: BTreeMap<&'static str, u64>,
    /// Memory.
    pub memory: MemoryReport,
    /// Promises that did not hold; empty when all is well.
    pub broken: Vec<String>,
}

/// Why there was no soak.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoakError {
    /// The default configuration does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The drone does not fly.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The camera's frames cannot be sent.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The operator cannot do its part.
    #[error("{operation}: {why}")]
    Operator {
        /// What was being done.
        operation: &'static str,
        /// What came of it.
        why: String,
    },
}

impl SoakError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint(),
            Self::Node(error) => error.hint().into(),
            Self::Camera(error) => error.hint().into(),
            Self::Operator { .. } => "this machine must let a process talk to itself over 127.0.0.1".into(),
        }
    }

    fn operator<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Operator { operation, why: error.to_string() }
    }
}

/// Soaks; `told` hears how it goes. Needs tokio's multi-threaded runtime, as zenoh does.
///
/// # Errors
/// When drone or operator do not start. What does not hold in flight stands in [`Report::broken`].
pub async fn soak(options: &SoakOptions, mut told: impl FnMut(Progress)) -> Result<Report, SoakError> {
    let sabotage = Arc::new(Sabotage::new(options.slower));
    // Taken and let go: between that and zenoh's own listening nobody else is likely to get it.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.map_err(SoakError::operator("find a free port"))?.port();
    let endpoint = format!("tcp/127.0.0.1:{port}");
    let config = config(options, &endpoint, &sabotage)?;
    let Config { node, mut camera } = config;
    camera.frames_per_second = options.frames_per_second;
    let drone = node.drone.clone();
    let node = Node::start(node).await?;
    let feed = node.feed(camera)?;
    let operator = Operator::join(options, &endpoint, drone).await?;
    let (report, operator) = {
        let memory = MemoryReport { most_growth_bytes: options.most_growth_bytes, ..MemoryReport::default() };
        let mut run = Run {
            options,
            node: &node,
            operator,
            sabotage: &sabotage,
            numbers: Seeded::new(options.seed),
            deck: Deck::new(),
            memory,
            faults: 0,
            lasting: None,
            start: Instant::now(),
        };
        run.fly(&mut told).await?;
        sabotage.end();
        run.settle().await?;
        (run.report(), run.operator)
    };
    operator.leave().await?;
    drop(feed);
    node.stop().await?;
    Ok(report)
}

/// The node as it flies by default, with the deadlines of a soak.
fn config(options: &SoakOptions, endpoint: &str, sabotage: &Arc<Sabotage>) -> Result<Config, SoakError> {
    let text = "[model]\nbundle = \".\"\n[engine]\nname = \"tract\"\n[camera]\nsource = \"zenoh:\"\n";
    let config = Config::parse(text, "soak", |_| None, &[])?;
    let deadline = options.deadline;
    let mut segmenter = config.node.segmenter.clone();
    if !options.gate {
        segmenter.gate = None;
    }
    let upkeep = UpkeepOptions {
        opener: sabotage.opener(),
        recovery: RecoveryLimits {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(1),
            give_up_after: 0,
            ..config.node.upkeep.recovery
        },
        watchdog: WatchdogLimits { late: deadline * 2, hung: deadline * LONGEST_STALL * 6 },
        ..UpkeepOptions::of(deadline)
    };
    let node = NodeConfig {
        model: ModelSource::Folder(options.bundle.clone()),
        engine: options.engine.clone(),
        segmenter,
        link: LinkOptions { listen: vec![endpoint.to_owned()], ..LinkOptions::default() },
        // The query that the books are about stands for as long as the soak.
        limits: Limits { deadline, frame_timeout: deadline * 2, standing: Duration::MAX, ..config.node.limits },
        upkeep,
        ..config.node
    };
    Ok(Config { node, ..config })
}

/// A fault of the camera that lasts for some frames.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    fault: Fault,
    /// The first frame that is good again.
    until: u64,
    /// The frame at which a frozen picture stands.
    at: u64,
}

/// A soak under way.
struct Run<'a> {
    options: &'a SoakOptions,
    node: &'a Node,
    operator: Operator,
    sabotage: &'a Sabotage,
    numbers: Seeded,
    deck: Deck,
    memory: MemoryReport,
    faults: u64,
    lasting: Option<Lasting>,
    start: Instant,
}

impl Run<'_> {
    /// Shows frames and makes faults until the time is over.
    async fn fly(&mut self, told: &mut impl FnMut(Progress)) -> Result<(), SoakError> {
        let every = Duration::try_from_secs_f64(1.0 / self.options.frames_per_second).unwrap_or(Duration::MAX);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        for number in 0.. {
            let done = self.done(number);
            if looked.elapsed() >= LOOK_EVERY || done >= 1.0 {
                looked = Instant::now();
                let memory_bytes = self.measure(done);
                told(Progress { done, frames: number, faults: self.faults, memory_bytes });
            }
            if done >= 1.0 || self.has_fault().await {
                break;
            }
            ticks.tick().await;
            let is_good = self.lasting.is_none_or(|lasting| number >= lasting.until);
            if is_good && number % FAULT_EVERY == FAULT_EVERY / 2 {
                let fault = self.deck.draw(&mut self.numbers);
                self.make(fault, number).await?;
            }
            self.show(number).await?;
            if number.is_multiple_of(QUERY_EVERY) {
                self.operator.ask();
            }
        }
        Ok(())
    }

    /// Whether the node cannot go on.
    async fn has_fault(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.node.fault()).await.is_ok()
    }

    fn done(&self, frames: u64) -> f64 {
        match self.options.length {
            Length::Time(time) => self.start.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-3),
            Length::Frames(all) => frames as f64 / all.max(1) as f64,
        }
    }

    /// Measures memory; what is loaded and grows to its size in the first third does not count.
    fn measure(&mut self, done: f64) -> u64 {
        let bytes = memory_bytes().unwrap_or_default();
        if done >= 2.0 / 3.0 {
            self.memory.last_bytes = self.memory.last_bytes.max(bytes);
        } else if done >= 1.0 / 3.0 {
            self.memory.middle_bytes = self.memory.middle_bytes.max(bytes);
        }
        bytes
    }

    async fn make(&mut self, fault: Fault, number: u64) -> Result<(), SoakError> {
        self.faults += 1;
        tracing::info!("frame {number}: {}", fault.name());
        let mut last = |frames| self.lasting = Some(Lasting { fault, until: number + frames, at: number });
        match fault {
            Fault::EngineFails => self.sabotage.fail(1 + self.numbers.below(3) as u32),
            Fault::EngineStalls => {
                let tenths = 5 + self.numbers.below(u64::from(10 * LONGEST_STALL - 4)) as u32;
                self.sabotage.stall(self.options.deadline * tenths / 10);
            }
            Fault::PictureFreezes | Fault::PictureTears | Fault::PictureChangesSize => last(LASTING),
            Fault::ClockJumps => last(1),
            Fault::CameraStops => {
                let frames = self.options.deadline.as_secs_f64() * 3.0 * self.options.frames_per_second;
                last(frames.ceil() as u64);
            }
            Fault::GarbageForTheCamera => self.operator.disturb_camera(self.numbers.next()).await?,
            Fault::GarbageForAQuery => self.operator.disturb_queries(self.numbers.next()).await?,
            Fault::GarbageForAPush => self.operator.disturb_pushes(self.numbers.next()).await?,
        }
        Ok(())
    }

    async fn show(&self, number: u64) -> Result<(), SoakError> {
        let lasting = self.lasting.filter(|lasting| number < lasting.until);
        let operator = &self.operator;
        let Some(Lasting { fault, at, .. }) = lasting else {
            return operator.show(|ground| ground.frame(number), 0).await;
        };
        match fault {
            Fault::CameraStops => Ok(()),
            Fault::PictureFreezes => operator.show(|ground| ground.frame(at), 0).await,
            Fault::PictureTears => operator.show(|ground| picture::torn(ground.frame(number)), 0).await,
            Fault::PictureChangesSize => operator.show(|ground| picture::smaller(&ground.frame(number)), 0).await,
            Fault::ClockJumps => operator.show(|ground| ground.frame(number), HOUR_NANOS).await,
            _ => operator.show(|ground| ground.frame(number), 0).await,
        }
    }

    /// Waits until everything has its outcome and the drone answers again; what does not is told.
    async fn settle(&mut self) -> Result<(), SoakError> {
        let patience = Duration::from_secs(30) + self.options.deadline * LONGEST_STALL * 2;
        let end = Instant::now() + patience;
        self.operator.finish(end).await;
        let mut unbalanced = self.operator.unbalanced(self.node);
        while !unbalanced.is_empty() && Instant::now() < end && !self.has_fault().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            unbalanced = self.operator.unbalanced(self.node);
        }
        for line in unbalanced {
            self.operator.complain(line);
        }
        if self.has_fault().await {
            self.operator.complain("the node has a fault");
        } else if !self.operator.answers_again(self.node, end + patience).await? {
            self.operator.complain(format!("no answer within the deadline of {:?} at the end", self.options.deadline));
        }
        let MemoryReport { middle_bytes, last_bytes, most_growth_bytes } = self.memory;
        if middle_bytes > 0 && last_bytes > middle_bytes.saturating_add(most_growth_bytes) {
            self.operator.complain(format!(
                "memory grew from {middle_bytes} to {last_bytes} bytes, by more than {most_growth_bytes}"
            ));
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let (health, camera) = (self.node.health(), self.node.camera_counts());
        let books = self.operator.books();
        Report {
            seed: self.options.seed,
            seconds: self.start.elapsed().as_secs_f64(),
            model: health.model,
            engine: health.engine,
            frames: FramesReport {
                published: books.published,
                taken: camera.frames,
                replaced: camera.replaced,
                lost: camera.lost,
                dropped: health.frames_dropped,
            },
            segmented: health.segmented,
            refused: health.refused,
            heard: books.heard.clone(),
            queries: books.asked,
            garbage_refused: books.garbage_refused,
            faults: self.deck.drawn().clone(),
            memory: self.memory.clone(),
            broken: books.broken(),
        }
    }
}
