//! A soak under way: frames are shown and faults made at their times, and at the end the books are held against each other.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::time::{Duration, Instant};

use kestrel_link::Readiness;

use super::fault::Fault;
use super::memory::Memory;
use super::operator::Operator;
use super::report::{FramesReport, Progress, Report, shares};
use super::sabotage::Sabotage;
use super::schedule::{LONGEST_STALL, Plan, Planned, Schedule};
use super::seeded::Seeded;
use super::{Faults, Length, SoakError, SoakOptions, picture};
use crate::health::metrics::memory_bytes;
use crate::node::Node;

/// Frames between two single queries.
const QUERY_EVERY: u64 = 7;
/// How often memory is measured and progress told.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What an engine that is to be opened again takes for that beside its opening, about: a pause before, a frame behind.
const BEFORE_IT_FLIES: Duration = Duration::from_millis(100);
/// An hour in nanoseconds.
const HOUR_NANOS: u64 = 3_600_000_000_000;

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
pub(super) struct Run<'a> {
    options: &'a SoakOptions,
    node: &'a Node,
    operator: Operator,
    sabotage: &'a Sabotage,
    /// How long the flight is by plan.
    length: Duration,
    schedule: Peekable<Schedule>,
    /// Names the garbage.
    numbers: Seeded,
    memory: Memory,
    /// How often each kind of fault was made, and for how long something was wrong by plan.
    made: BTreeMap<&'static str, u64>,
    under_fault: Duration,
    lasting: Option<Lasting>,
    /// Moments at which a frame was due, and those of them at which the drone was not ready.
    moments: u64,
    not_ready: u64,
    start: Instant,
    /// How long the flight took.
    flown: Duration,
}

impl<'a> Run<'a> {
    /// A soak that begins now.
    pub(super) fn new(options: &'a SoakOptions, node: &'a Node, operator: Operator, sabotage: &'a Sabotage) -> Self {
        let length = options.planned_length();
        let plan = Plan {
            length,
            frame: options.frame_interval(),
            deadline: options.deadline,
            reopening: sabotage.opening().saturating_add(options.slower).saturating_add(BEFORE_IT_FLIES),
        };
        let schedule = match options.faults {
            Faults::All => Schedule::new(options.seed, plan),
            Faults::None => Schedule::empty(),
        };
        Self {
            options,
            node,
            operator,
            sabotage,
            length,
            schedule: schedule.peekable(),
            numbers: Seeded::new(!options.seed),
            memory: Memory::new(length, options.most_growth_bytes),
            // Every kind is in the report, made or not.
            made: Fault::ALL.iter().map(|fault| (fault.name(), 0)).collect(),
            under_fault: Duration::ZERO,
            lasting: None,
            moments: 0,
            not_ready: 0,
            start: Instant::now(),
            flown: Duration::ZERO,
        }
    }

    /// Shows frames and makes faults until the time is over.
    pub(super) async fn fly(&mut self, told: &mut impl FnMut(Progress)) -> Result<(), SoakError> {
        let mut ticks = tokio::time::interval(self.options.frame_interval());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        for number in 0.. {
            let done = self.done(number);
            let is_ready = self.is_ready();
            if looked.elapsed() >= LOOK_EVERY || done >= 1.0 {
                looked = Instant::now();
                let memory_bytes = memory_bytes().unwrap_or_default();
                self.memory.see(done, memory_bytes, is_ready);
                told(Progress { done, frames: number, faults: self.made.values().sum(), memory_bytes });
            }
            if done >= 1.0 || self.has_fault().await {
                break;
            }
            ticks.tick().await;
            self.moments += 1;
            self.not_ready += u64::from(!is_ready);
            let now = self.length.mul_f64(done);
            while let Some(planned) = self.schedule.next_if(|planned| planned.at <= now) {
                self.make(planned, number).await?;
            }
            self.show(number).await?;
            if number.is_multiple_of(QUERY_EVERY) {
                self.operator.ask();
            }
        }
        self.flown = self.start.elapsed();
        self.sabotage.end();
        Ok(())
    }

    /// Whether the node cannot go on.
    async fn has_fault(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.node.fault()).await.is_ok()
    }

    fn is_ready(&self) -> bool {
        self.node.health().readiness == Readiness::Ready
    }

    fn done(&self, frames: u64) -> f64 {
        match self.options.length {
            Length::Time(time) => self.start.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-3),
            Length::Frames(all) => frames as f64 / all.max(1) as f64,
        }
    }

    async fn make(&mut self, planned: Planned, number: u64) -> Result<(), SoakError> {
        let Planned { fault, lasts, runs, .. } = planned;
        tracing::info!("frame {number}: {} for {:.2} s", fault.name(), lasts.as_secs_f64());
        *self.made.entry(fault.name()).or_default() += 1;
        self.under_fault = self.under_fault.saturating_add(lasts);
        match fault {
            Fault::EngineFails => self.sabotage.fail(runs),
            Fault::EngineStalls => self.sabotage.stall(lasts),
            Fault::CameraStops
            | Fault::PictureFreezes
            | Fault::PictureTears
            | Fault::PictureChangesSize
            | Fault::ClockJumps => {
                let frames = (lasts.as_secs_f64() * self.options.frames_per_second).round().max(1.0) as u64;
                let until = number.saturating_add(frames);
                self.lasting = Some(Lasting { fault, until, at: number.saturating_sub(1) });
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
    pub(super) async fn settle(&mut self) -> Result<Report, SoakError> {
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
        // Before anything more is shown: what follows is no part of the flight.
        let mut report = self.report();
        if self.has_fault().await {
            self.operator.complain("the node has a fault");
        } else if !self.operator.answers_again(self.node, end + patience).await? {
            self.operator.complain(format!("no answer within the deadline of {:?} at the end", self.options.deadline));
        }
        if let Some(complaint) = report.memory.complaint() {
            self.operator.complain(complaint);
        }
        report.broken = self.operator.books().broken();
        Ok(report)
    }

    /// What came of the flight; nothing is said of promises yet.
    fn report(&self) -> Report {
        let (health, counted) = (self.node.health(), self.operator.counted(self.node));
        let books = self.operator.books();
        let share = |part: f64, whole: f64| if whole > 0.0 { (part / whole).min(1.0) } else { 0.0 };
        Report {
            seed: self.options.seed,
            seconds: self.flown.as_secs_f64(),
            model: health.model,
            engine: health.engine,
            under_fault: share(self.under_fault.as_secs_f64(), self.length.as_secs_f64()),
            not_ready: share(self.not_ready as f64, self.moments as f64),
            frames: FramesReport {
                published: books.published,
                taken: counted.taken,
                replaced: counted.replaced,
                lost: counted.lost,
                dropped: counted.frames_dropped,
            },
            segmented: counted.segmented,
            refused: counted.refused,
            heard: books.heard.clone(),
            shares: shares(&books.heard),
            queries: books.asked,
            garbage_refused: books.garbage_refused,
            faults: self.made.clone(),
            memory: self.memory.report(),
            broken: Vec::new(),
        }
    }

    /// Leaves the drone's network.
    pub(super) async fn end(self) -> Result<(), SoakError> {
        self.operator.leave().await
    }
}
