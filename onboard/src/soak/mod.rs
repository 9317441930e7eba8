//! A soak: a drone and an operator over a real network, faults that a seed names, and books that must balance.
//!
//! The node is the one that flies, with the default configuration but for its deadlines. Frames come to it over the network.
//! Its engine is the one asked for behind a shell that fails and stalls when it is told to. What goes wrong when stands in a
//! schedule that leaves two thirds of the time alone. At the end every frame and every query must be accounted for, the
//! drone must answer again, and its memory must not have grown.

mod books;
mod drone;
mod error;
mod fault;
mod memory;
mod operator;
mod picture;
mod report;
mod run;
mod sabotage;
mod schedule;
mod seeded;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;

use crate::config::Config;
use crate::engine::EngineOptions;
use crate::loopback::free_endpoint;
use crate::node::Node;

pub use error::SoakError;
pub use memory::{MemoryJudgement, MemoryReport};
pub use report::{FramesReport, Progress, Report};

use operator::Operator;
use run::Run;
use sabotage::Sabotage;

/// No soak is planned for longer than this, a hundred years: keeps sums of times far from their end.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How long a soak lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Until this much time has passed.
    Time(Duration),
    /// This many frames.
    Frames(u64),
}

/// What goes wrong in a soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Every kind of fault, in each minute at least once.
    All,
    /// Nothing.
    None,
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
    /// How long. Memory is judged from 45 seconds on.
    pub length: Length,
    /// Frames per second of the camera; above 0.
    pub frames_per_second: f64,
    /// How much longer the engine is made to take for each frame.
    pub slower: Duration,
    /// An outcome that takes longer is refused as too late.
    pub deadline: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// Names the faults.
    pub seed: u64,
    /// By how much memory may grow between the second third and the last one.
    pub most_growth_bytes: u64,
}

impl SoakOptions {
    /// How long the flight is, if the camera keeps its rate.
    fn planned_length(&self) -> Duration {
        let length = match self.length {
            Length::Time(time) => time,
            Length::Frames(frames) => {
                Duration::try_from_secs_f64(frames as f64 / self.frames_per_second).unwrap_or(LONGEST)
            }
        };
        length.min(LONGEST)
    }

    /// From one frame to the next.
    fn frame_interval(&self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.frames_per_second).unwrap_or(LONGEST)
    }
}

/// Soaks; `told` hears how it goes. Needs tokio's multi-threaded runtime, as zenoh does.
///
/// # Errors
/// When drone or operator do not start. What does not hold in flight stands in [`Report::broken`].
pub async fn soak(options: &SoakOptions, mut told: impl FnMut(Progress)) -> Result<Report, SoakError> {
    let sabotage = Arc::new(Sabotage::new(options.slower));
    let endpoint = free_endpoint().map_err(SoakError::operator("find a free port"))?;
    let Config { node, camera } = drone::config(options, &endpoint, &sabotage)?;
    let drone = node.drone.clone();
    let node = Node::start(node).await?;
    let feed = node.feed(camera)?;
    let operator = Operator::join(options, &endpoint, drone).await?;
    let mut run = Run::new(options, &node, operator, &sabotage);
    run.fly(&mut told).await?;
    let report = run.settle().await?;
    run.end().await?;
    drop(feed);
    node.stop().await?;
    Ok(report)
}
