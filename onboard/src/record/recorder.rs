//! The recorder: a bounded queue from the perception thread to a thread that writes.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use kestrel_link::{Outcome, Query, Standing, Unplaced};
use kestrel_perception::{GateHistory, Pose};

use super::error::RecordError;
use super::messages::{Answered, Flight, Model, Seen, Time};
use super::state::RecordState;
use super::write::{Event, FlightFile};
use super::writing::{Ended, write};
use crate::camera::unix_nanos;
use crate::node::Frame;
use crate::pipeline::{Answer, Look};
use crate::queue::{Sender, queue};

/// Bytes of frames and outcomes that may wait to be written, unless a single frame has more.
const MOST_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Frames and outcomes that may wait to be written.
pub(super) const MOST_QUEUED: usize = 256;
/// What an event takes besides pictures and masks, about.
const EVENT_BYTES: usize = 1024;

/// Where a flight is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordOptions {
    /// A new file; `{start}` in its name becomes the second since the Unix epoch in which the flight starts.
    pub file: PathBuf,
    /// The record ends at about this size in bytes; 0 sets no bound.
    pub most_bytes: u64,
}

impl RecordOptions {
    /// Says that the file is there already, before a flight is made ready for nothing.
    ///
    /// # Errors
    /// When it is.
    pub fn check(&self) -> Result<(), RecordError> {
        let path = named(&self.file, unix_nanos() / 1_000_000_000);
        if path.exists() { Err(RecordError::Exists { path }) } else { Ok(()) }
    }
}

/// Takes in what the perception thread sees and says, and never holds it up: what does not fit is counted and left out.
///
/// Dropping it writes what waits and ends the file.
pub struct Recorder {
    events: Option<Sender<Waiting, MOST_QUEUED>>,
    shared: Arc<RecordState>,
    writer: Option<JoinHandle<()>>,
    looks: u64,
    /// The look at hand, when it is in the record.
    current: Option<Current>,
}

/// What waits to be written.
pub(super) struct Waiting {
    pub(super) event: Event,
    pub(super) weight: usize,
}

/// What became of an answer besides what it says.
pub(crate) struct Told {
    /// From when both frame and query were there to the outcome.
    pub(crate) latency: Duration,
    /// Whether that was too late, so that the asker got a refusal in its place.
    pub(crate) late: bool,
    /// Whether that refusal had gone out before.
    pub(crate) untold: bool,
    /// The pose that masks were placed with.
    pub(crate) pose: Result<Pose, Unplaced>,
}

struct Current {
    look: u64,
    frame: u64,
    timestamp: Time,
    answers: u32,
}

impl Recorder {
    /// Creates the file and the thread that writes it.
    ///
    /// # Errors
    /// When the file is there already or cannot be created, or the thread cannot be started.
    pub fn start(options: &RecordOptions, flight: &Flight) -> Result<Self, RecordError> {
        let path = named(&options.file, flight.started_unix_nanos / 1_000_000_000);
        let created = File::options().write(true).create_new(true).open(&path);
        let file = created.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => RecordError::Exists { path: path.clone() },
            _ => RecordError::File { operation: "create", path: path.clone(), source },
        })?;
        let file = FlightFile::begin(BufWriter::new(file), flight)?;
        tracing::info!("recording into {}", path.display());
        let (events, waiting) = queue();
        let shared = Arc::new(RecordState::default());
        let (writing, most_bytes) = (Arc::clone(&shared), options.most_bytes);
        let writer = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || match write(&waiting, file, &writing, most_bytes) {
                Ok(Ended::WithFlight) => tracing::info!("{} is written", path.display()),
                Ok(Ended::AtSize) => {
                    writing.stop("the record has reached its largest size");
                    tracing::warn!("{} has reached its largest size: nothing more is recorded", path.display());
                }
                Err(error) => {
                    writing.stop(&error.to_string());
                    tracing::error!("{}: nothing more is recorded: {error}", path.display());
                }
            })
            .map_err(|source| RecordError::Thread { source })?;
        let mut recorder = Self::to(events, shared);
        recorder.writer = Some(writer);
        Ok(recorder)
    }

    fn to(events: Sender<Waiting, MOST_QUEUED>, shared: Arc<RecordState>) -> Self {
        Self { events: Some(events), shared, writer: None, looks: 0, current: None }
    }

    /// What both threads know.
    pub(crate) fn state(&self) -> Arc<RecordState> {
        Arc::clone(&self.shared)
    }

    /// Takes in a frame that is looked at from now on; `before` is what the gate remembered before it.
    pub(crate) fn look(&mut self, frame: &Arc<Frame>, model: &Arc<Model>, before: GateHistory, look: &Look<'_>) {
        let seen = Seen {
            timestamp: Time::of(frame.capture_unix_nanos),
            look: self.looks,
            frame: frame.number,
            width: frame.image.width(),
            height: frame.image.height(),
            model: model.name.clone(),
            model_hash: model.manifest_hash.clone(),
            history_before: before.into(),
            history_after: look.gate_history().into(),
            refusal: look.refusal().cloned(),
            most_views: look.most_views(),
            steady: Some(Time::of(frame.steady_nanos)),
            capture_doubt: frame.doubt,
        };
        self.see(seen, frame, model);
    }

    fn see(&mut self, seen: Seen, frame: &Arc<Frame>, model: &Arc<Model>) {
        self.looks += 1;
        let current = Current { look: seen.look, frame: seen.frame, timestamp: seen.timestamp, answers: 0 };
        let weight = frame.image.as_raw().len() + EVENT_BYTES;
        let (seen, frame, model) = (Box::new(seen), Arc::clone(frame), Arc::clone(model));
        let kept = self.offer(Event::Look { seen, frame, model, at: unix_nanos() }, weight);
        self.current = kept.then_some(current);
        if !kept {
            self.shared.lost_frames.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes in an answer about the frame at hand: what perception said, placed on the earth, the `turn` of a query that
    /// stands, and what became of it.
    pub(crate) fn answer(&mut self, query: &Query, answer: &Answer, turn: u32, told: &Told) {
        let Answer { outcome, standing, .. } = answer;
        self.answered(query, (outcome, turn, standing.as_ref()), told);
    }

    fn answered(&mut self, query: &Query, (outcome, turn, standing): (&Outcome, u32, Option<&Standing>), told: &Told) {
        // Without its frame an outcome could not be replayed.
        let kept = match &mut self.current {
            None => false,
            Some(current) => {
                let answered = Answered {
                    timestamp: current.timestamp,
                    look: current.look,
                    order: current.answers,
                    frame: current.frame,
                    query_id: query.id.clone(),
                    late: told.late,
                    latency_micros: u64::try_from(told.latency.as_micros()).unwrap_or(u64::MAX),
                    outcome: outcome.clone(),
                    untold: told.untold,
                    pose: told.pose.ok(),
                    unplaced: told.pose.err(),
                    turn,
                    standing: standing.cloned(),
                };
                current.answers += 1;
                let weight = EVENT_BYTES + counts_bytes(outcome);
                let (query, answered) = (Box::new(query.clone()), Box::new(answered));
                self.offer(Event::Answer { query, answered, at: unix_nanos() }, weight)
            }
        };
        if !kept {
            // Of an answer that nobody was told the refusal counts that was given in its place.
            self.shared.lost_outcomes.fetch_add(u64::from(!told.untold), Ordering::Relaxed);
        }
    }

    /// Puts an event into the queue if there is room; gives whether there was.
    fn offer(&self, event: Event, weight: usize) -> bool {
        let Some(events) = &self.events else { return false };
        let queued = self.shared.queued_bytes.fetch_add(weight, Ordering::Relaxed);
        // A frame that is larger than the whole queue may wait alone: else such a camera could never be recorded.
        let fits = queued == 0 || queued.saturating_add(weight) <= MOST_QUEUED_BYTES;
        let kept = fits && events.try_send(Waiting { event, weight }).is_ok();
        if !kept {
            self.shared.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        kept
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.events.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the recording thread panicked");
        }
    }
}

/// The file's name with the flight's start in it.
fn named(file: &Path, start_seconds: u64) -> PathBuf {
    match file.to_str() {
        Some(name) => PathBuf::from(name.replace("{start}", &start_seconds.to_string())),
        None => file.to_owned(),
    }
}

fn counts_bytes(outcome: &Outcome) -> usize {
    let segments = match outcome {
        Outcome::Segmented { masks } => masks.as_slice(),
        Outcome::Refused(refusal) => match &refusal.verdict {
            kestrel_link::Verdict::TargetAmbiguous { candidates } => candidates.as_slice(),
            _ => &[],
        },
    };
    segments.iter().map(|segment| segment.mask.counts.len()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::messages::{History, Losses, example};
    use super::*;
    use image::RgbImage;
    use std::time::Instant;

    fn frame(number: u64, side: u32) -> Arc<Frame> {
        let (image, admitted) = (RgbImage::new(side, side), Instant::now());
        let (capture_unix_nanos, steady_nanos) = (number, number);
        Arc::new(Frame { number, image, capture_unix_nanos, doubt: None, steady_nanos, pose: None, admitted })
    }

    fn model() -> Arc<Model> {
        Arc::new(Model {
            name: "m@1".into(),
            manifest_hash: "00".into(),
            thresholds_hash: "11".into(),
            engine: "tract".into(),
            library: None,
            slot: String::new(),
        })
    }

    fn see(recorder: &mut Recorder, frame: &Arc<Frame>) {
        let history = History { fingerprint: None, repeats: 0 };
        let seen = Seen {
            timestamp: Time::of(frame.capture_unix_nanos),
            look: recorder.looks,
            frame: frame.number,
            width: frame.image.width(),
            height: frame.image.height(),
            model: "m@1".into(),
            model_hash: "00".into(),
            history_before: history.clone(),
            history_after: history,
            refusal: None,
            most_views: None,
            steady: None,
            capture_doubt: None,
        };
        recorder.see(seen, frame, &model());
    }

    fn ask(recorder: &mut Recorder) {
        answer(recorder, false);
    }

    fn answer(recorder: &mut Recorder, untold: bool) {
        let query = Query::new("q", "the car");
        let masks = Outcome::Segmented { masks: Vec::new() };
        let latency = Duration::from_millis(3);
        let told = Told { latency, late: untold, untold, pose: Err(Unplaced::PoseUnknown) };
        recorder.answered(&query, (&masks, 0, None), &told);
    }

    /// What would break: the memory of a drone whose disk is slower than its camera.
    ///
    /// Promise: P5
    #[test]
    fn a_writer_that_does_not_come_along_loses_frames_and_counts_them() {
        let (events, waiting) = queue();
        let mut recorder = Recorder::to(events, Arc::default());
        // 12 MiB each: five fit.
        for number in 0..20 {
            see(&mut recorder, &frame(number, 2048));
            ask(&mut recorder);
        }
        let queued = recorder.shared.queued_bytes.load(Ordering::Relaxed);
        assert!(queued <= MOST_QUEUED_BYTES, "{queued}");
        let recording = recorder.shared.recording();
        assert_eq!((recording.lost_frames, recording.lost_outcomes), (15, 15), "outcomes go with their frames");
        drop(recorder);
        assert_eq!(std::iter::from_fn(|| waiting.receive()).count(), 10);
    }

    /// What would break: books in which a refusal for lateness counts, and beside it the answer that came too late to be told.
    #[test]
    fn an_answer_that_nobody_was_told_is_no_lost_outcome() {
        let (events, waiting) = queue();
        // Nobody writes, so nothing is kept.
        drop(waiting);
        let mut recorder = Recorder::to(events, Arc::default());
        see(&mut recorder, &frame(0, 8));
        answer(&mut recorder, true);
        assert_eq!(recorder.shared.losses(), Losses { frames: 1, outcomes: 0 });
        answer(&mut recorder, false);
        assert_eq!(recorder.shared.losses(), Losses { frames: 1, outcomes: 1 });
    }

    /// Promise: P5
    #[test]
    fn a_frame_larger_than_the_queue_waits_alone() {
        let (events, _waiting) = queue();
        let mut recorder = Recorder::to(events, Arc::default());
        let large = frame(0, 5000);
        see(&mut recorder, &large);
        see(&mut recorder, &large);
        assert_eq!(recorder.shared.losses(), Losses { frames: 1, outcomes: 0 });
    }

    #[test]
    fn a_record_is_never_overwritten_and_its_name_may_hold_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let options = RecordOptions { file: folder.path().join("a-{start}.mcap"), most_bytes: 0 };
        let flight = example();
        drop(Recorder::start(&options, &flight).unwrap());
        let seconds = flight.started_unix_nanos / 1_000_000_000;
        assert!(folder.path().join(format!("a-{seconds}.mcap")).is_file());
        let error = Recorder::start(&options, &flight).err().expect("it is there already");
        assert!(matches!(error, RecordError::Exists { .. }), "{error}");
    }

    /// Promise: P5
    #[test]
    fn a_record_ends_at_its_largest_size_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let options = RecordOptions { file: folder.path().join("a.mcap"), most_bytes: 1 };
        let mut recorder = Recorder::start(&options, &example()).unwrap();
        let shared = recorder.state();
        see(&mut recorder, &frame(0, 8));
        drop(recorder);
        assert_eq!(shared.recording().stopped, "the record has reached its largest size");
    }
}
