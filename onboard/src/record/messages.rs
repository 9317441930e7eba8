//! What a recorded flight says, as it stands in the file.

use std::collections::BTreeMap;

use kestrel_link::{CaptureDoubt, Outcome, Query, Refusal, Standing, Unplaced};
use kestrel_perception::geo::{Bounds, Camera, GeoError};
use kestrel_perception::{GateHistory, GateThresholds, Georeferencer, Pose, TileOptions, Tiling};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::EngineChoice;
use crate::pipeline::StandingOptions;

/// A time since the Unix epoch as Foxglove writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Whole seconds.
    pub sec: u64,
    /// Nanoseconds beyond them, below 1,000,000,000.
    pub nsec: u32,
}

impl Time {
    /// The time of so many nanoseconds since the Unix epoch.
    #[must_use]
    pub fn of(unix_nanos: u64) -> Self {
        Self { sec: unix_nanos / 1_000_000_000, nsec: (unix_nanos % 1_000_000_000) as u32 }
    }

    /// Nanoseconds since the Unix epoch; the latest that there are when it lies beyond them.
    #[must_use]
    pub fn unix_nanos(self) -> u64 {
        self.sec.saturating_mul(1_000_000_000).saturating_add(u64::from(self.nsec))
    }
}

/// Which flight was recorded, and all that its outcomes depend on besides the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    /// The drone's id.
    pub drone: String,
    /// Version of the runtime.
    pub runtime: String,
    /// When it started, nanoseconds since the Unix epoch.
    pub started_unix_nanos: u64,
    /// When frames were looked at in tiles too.
    pub tiling: Tiling,
    /// What tiles were to show and to cost, where the tiling has a budget.
    #[serde(default)]
    pub tiles: TileOptions,
    /// Thresholds of the gate; `None` when every frame was admitted.
    pub gate: Option<GateThresholds>,
    /// Engine that was asked for.
    pub engine: EngineChoice,
    /// Threads within one operation; 0 means one per processor core.
    pub threads: usize,
    /// An outcome that took longer was refused as too late, in milliseconds, unless its query was due earlier.
    pub deadline_millis: u64,
    /// The processor, see [`processor`].
    pub processor: String,
    /// How queries that stand were followed.
    #[serde(default)]
    pub standing: StandingOptions,
    /// What masks were placed with; `None` when they had no positions.
    #[serde(default)]
    pub georeferencing: Option<Georeferencing>,
}

/// What masks were placed with, besides the pose of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Georeferencing {
    /// The camera's calibration.
    pub camera: Camera,
    /// What a position had to hold.
    pub bounds: Bounds,
}

impl Georeferencing {
    pub(crate) fn of(georeferencer: &Georeferencer) -> Self {
        Self { camera: *georeferencer.camera(), bounds: *georeferencer.bounds() }
    }

    /// What places masks as it did in flight.
    ///
    /// # Errors
    /// Names the first number that makes no sense.
    pub fn georeferencer(&self) -> Result<Georeferencer, GeoError> {
        Georeferencer::new(self.camera, self.bounds)
    }
}

/// A model that flew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// `name@version`.
    pub name: String,
    /// Hex SHA-256 of its manifest.
    pub manifest_hash: String,
    /// Hex SHA-256 of its thresholds.
    pub thresholds_hash: String,
    /// Engine and provider that were really active.
    pub engine: String,
    /// Library of the engine, where it is not part of the runtime.
    pub library: Option<String>,
    /// `A`, `B`, or empty when it was given by path.
    pub slot: String,
}

/// [`GateHistory`] for JSON, whose numbers do not hold 64 bits everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Hash of what was read of the last frame, in hex.
    pub fingerprint: Option<String>,
    /// How many frames in a row have repeated the one before.
    pub repeats: u32,
}

impl From<GateHistory> for History {
    fn from(history: GateHistory) -> Self {
        Self { fingerprint: history.fingerprint.map(|hash| format!("{hash:016x}")), repeats: history.repeats }
    }
}

impl History {
    /// The gate's own form; a fingerprint that is no hex number counts as none.
    #[must_use]
    pub fn gate(&self) -> GateHistory {
        let fingerprint = self.fingerprint.as_deref().and_then(|text| u64::from_str_radix(text, 16).ok());
        GateHistory { fingerprint, repeats: self.repeats }
    }
}

/// A frame that was looked at, without its picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The camera's capture time as the camera said it, believed or not.
    pub timestamp: Time,
    /// Counted from 0 over the flight; a frame is looked at again when the model was switched.
    pub look: u64,
    /// The frame's number, counted from 0 by the drone.
    pub frame: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `name@version` of the model that looked.
    pub model: String,
    /// Hex SHA-256 of its manifest.
    pub model_hash: String,
    /// What the gate remembered before.
    pub history_before: History,
    /// What the gate remembers after.
    pub history_after: History,
    /// Why the gate refused the frame; `None` when it let it pass.
    pub refusal: Option<Refusal>,
    /// How many views one answer might use, which follows from how long they took; `None` where the tiling has no budget.
    #[serde(default)]
    pub most_views: Option<u32>,
    /// The frame's time by a clock that nobody sets ([`Judgement::steady_nanos`](crate::camera::stamps::Judgement)), by which
    /// things were followed; `None` where that was the capture time, whatever was thought of it.
    #[serde(default)]
    pub steady: Option<Time>,
    /// Why the capture time was given to nobody; `None` when it was believed.
    #[serde(default)]
    pub capture_doubt: Option<CaptureDoubt>,
}

impl Seen {
    /// The time by which things were followed, in nanoseconds.
    pub(super) fn steady_nanos(&self) -> u64 {
        self.steady.unwrap_or(self.timestamp).unix_nanos()
    }
}

/// A query as it was put to a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The frame's capture time.
    pub timestamp: Time,
    /// [`Seen::look`].
    pub look: u64,
    /// Which query it was about this look, counted from 0.
    pub order: u32,
    /// [`Seen::frame`].
    pub frame: u64,
    /// The query.
    pub query: Query,
}

/// What perception answered to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The frame's capture time.
    pub timestamp: Time,
    /// [`Asked::look`].
    pub look: u64,
    /// [`Asked::order`].
    pub order: u32,
    /// [`Asked::frame`].
    pub frame: u64,
    /// [`Query::id`].
    pub query_id: String,
    /// Whether the answer came after the deadline, so that the asker got a refusal in its place.
    pub late: bool,
    /// From when both frame and query were there to the outcome, in microseconds on the drone's monotonic clock.
    pub latency_micros: u64,
    /// Masks or a refusal, placed on the earth, before the deadline was looked at and before masks were made coarser for the
    /// link.
    pub outcome: Outcome,
    /// Whether nobody was told, not even that it was late: a refusal had been given in its place, see [`Unperceived`].
    #[serde(default)]
    pub untold: bool,
    /// The pose that masks were placed with.
    #[serde(default)]
    pub pose: Option<Pose>,
    /// Why there was no pose.
    #[serde(default)]
    pub unplaced: Option<Unplaced>,
    /// How often a query that stands was answered before, as far back as what is kept of it goes; 0 for others.
    #[serde(default)]
    pub turn: u32,
    /// How it stands to the answers before; `None` for queries that do not stand.
    #[serde(default)]
    pub standing: Option<Standing>,
}

impl Answered {
    /// The pose that masks were placed with, or why there was none.
    pub(super) fn posed(&self) -> Result<&Pose, Unplaced> {
        self.pose.as_ref().ok_or(self.unplaced.unwrap_or(Unplaced::PoseUnknown))
    }
}

/// A refusal in which perception had no part: no frame came in time, the engine was lost, failed or was silent, or an answer
/// could not be sent in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unperceived {
    /// When it was given, by the drone's wall clock.
    pub timestamp: Time,
    /// [`Seen::frame`] of the frame that it is about; `None` where no frame came.
    pub frame: Option<u64>,
    /// The query.
    pub query: Query,
    /// Why.
    pub refusal: Refusal,
    /// How long the query or its frame had waited, in microseconds on the drone's monotonic clock.
    pub latency_micros: u64,
    /// Whether it was given instead of an answer that is in the record as in time: that one then waited too long to be sent.
    #[serde(default)]
    pub instead: bool,
}

/// What the drone counted from its start to the end of the flight.
///
/// Each outcome that it gave is once in the record, as an [`Answered`] that is not [untold](Answered::untold) or as an
/// [`Unperceived`] that was not given [instead](Unperceived::instead) of one: where nothing was lost, these are as many as
/// `segmented + refused`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Frames of the camera.
    pub frames: u64,
    /// Frames that nobody looked at.
    pub frames_dropped: u64,
    /// Outcomes with a mask.
    pub segmented: u64,
    /// Outcomes that refused.
    pub refused: u64,
}

impl Totals {
    /// Outcomes of both kinds.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        self.segmented.saturating_add(self.refused)
    }
}

/// What did not fit into the queue of the recording thread so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Frames that were looked at and are not in the record.
    pub frames: u64,
    /// Outcomes that were given and are not in the record.
    pub outcomes: u64,
}

/// The end of a flight that was recorded to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Looks in the record.
    pub looks: u64,
    /// Outcomes of perception in the record.
    pub outcomes: u64,
    /// Refusals in the record in which perception had no part.
    #[serde(default)]
    pub refusals: u64,
    /// Frames that are not in it.
    pub lost_frames: u64,
    /// Outcomes that were given and are not in it.
    pub lost_outcomes: u64,
    /// Why the record ends.
    pub why: String,
    /// What the drone counted; `None` where the record ended before the flight.
    #[serde(default)]
    pub totals: Option<Totals>,
}

/// The fields of a value as the texts of an MCAP metadata record; each is JSON.
pub(super) fn to_pairs(value: &impl Serialize) -> Result<BTreeMap<String, String>, serde_json::Error> {
    Ok(match serde_json::to_value(value)? {
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, value.to_string())).collect(),
        _ => BTreeMap::new(),
    })
}

/// The opposite of [`to_pairs`].
pub(super) fn from_pairs<T: DeserializeOwned>(pairs: &BTreeMap<String, String>) -> Result<T, serde_json::Error> {
    let mut fields = Map::new();
    for (key, text) in pairs {
        fields.insert(key.clone(), serde_json::from_str(text)?);
    }
    serde_json::from_value(Value::Object(fields))
}

/// An outcome as it would come back from a record: what is compared with one that did.
pub(super) fn as_read(outcome: Outcome) -> Outcome {
    let read = serde_json::to_vec(&outcome).and_then(|bytes| serde_json::from_slice(&bytes));
    // Numbers that JSON does not hold differ from whatever was recorded, and are shown as they are.
    read.unwrap_or(outcome)
}

/// The processor's name as the system gives it, else its architecture: the same program may round otherwise on another.
#[must_use]
pub fn processor() -> String {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = described.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// A flight for tests.
#[cfg(test)]
pub(super) fn example() -> Flight {
    Flight {
        drone: "7".into(),
        runtime: "0.1.0".into(),
        started_unix_nanos: 1_790_000_000_123_456_789,
        tiling: Tiling::Always,
        tiles: TileOptions { budget_millis: 700, ..TileOptions::default() },
        gate: Some(GateThresholds::default()),
        engine: EngineChoice::Tract,
        threads: 2,
        deadline_millis: 100,
        processor: "a \"quoted\" name".into(),
        standing: StandingOptions { verify_frames: 7, ..StandingOptions::default() },
        georeferencing: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::Verdict;
    use proptest::prelude::*;

    #[test]
    fn a_flight_comes_back_from_metadata() {
        let flight = Flight { started_unix_nanos: u64::MAX, ..example() };
        assert_eq!(from_pairs::<Flight>(&to_pairs(&flight).unwrap()).unwrap(), flight);
    }

    /// What would break: a replay that places masks with another camera's last bit.
    #[test]
    fn a_camera_comes_back_to_the_last_bit() {
        let camera: Camera = serde_json::from_str(include_str!("../../../docs/concepts/camera.json")).unwrap();
        let camera = Camera { focal_pixels: [1000.0 / 3.0, 0.1 + 0.2 + 1000.0], ..camera };
        let georeferencing = Some(Georeferencing { camera, bounds: Bounds::default() });
        let flight = Flight { georeferencing, ..example() };
        assert_eq!(from_pairs::<Flight>(&to_pairs(&flight).unwrap()).unwrap(), flight);
    }

    /// What would break: a record from before presence was heeded that cannot be read, or is replayed with other readings.
    #[test]
    fn a_flight_from_before_presence_was_heeded_comes_back() {
        let mut pairs = to_pairs(&example()).unwrap();
        let standing = pairs.get_mut("standing").unwrap();
        let mut fields: Value = serde_json::from_str(standing).unwrap();
        fields.as_object_mut().unwrap().remove("verify_presence_fall").unwrap();
        *standing = fields.to_string();
        let flight: Flight = from_pairs(&pairs).unwrap();
        assert_eq!((flight.standing.verify_frames, flight.standing.verify_presence_fall), (7, 1.0));
    }

    #[test]
    fn a_history_keeps_all_64_bits() {
        let history = GateHistory { fingerprint: Some(u64::MAX - 1), repeats: 3 };
        assert_eq!(History::from(history).gate(), history);
        assert_eq!(History::from(GateHistory::default()).gate(), GateHistory::default());
    }

    proptest! {
        /// What would break: positions that differ in flight and in replay, because a pose is not read back as it was.
        #[test]
        fn every_double_comes_back_to_the_last_bit(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<f64>(&text).unwrap().to_bits(), bits);
        }

        /// What would break: a replay that calls another last bit identical, or the same one different.
        ///
        /// Promise: P11
        #[test]
        fn every_number_comes_back_to_the_last_bit(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let evidence = vec![("value".to_owned(), value)];
            let refusal = Refusal { verdict: Verdict::TargetAbsent, evidence, advice: String::new() };
            let Outcome::Refused(read) = as_read(Outcome::Refused(refusal)) else { panic!("expected a refusal") };
            prop_assert_eq!(read.evidence[0].1.to_bits(), bits);
        }
    }
}
