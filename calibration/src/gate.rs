//! The gate's bounds by the same risk control: how often clean frames may be refused.
//!
//! One number, [`GateThresholds::loosened`], orders a family of gates from loose to strict around the built-in one; the
//! frames that pass one gate pass every looser one. The strictest is taken down to which every bound stays within α.
//! A scene (flight, strip, cluster) is the unit, its loss the share of its frames that are refused.

use std::collections::BTreeMap;

use kestrel_link::manifest::RUNTIME_VERSION;
use kestrel_perception::gate::verdict;
use kestrel_perception::{GateThresholds, Statistics};
use serde::{Deserialize, Serialize};

use crate::confidence::{Losses, needed, p_value, upper_bound};
use crate::promise::Claim;
use crate::table::{parsed, pretty, wrong};
use crate::{CalibrationError, Missing};

/// The format written and read here.
pub const FORMAT: u32 = 1;
/// Longest table, in bytes.
pub const MAX_TABLE_BYTES: usize = 64 * 1024;
/// Name of all cameras together.
const POOLED: &str = "all cameras";

/// A frame as the gate measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The camera, or the data set that stands for it; of a spoilt frame the degradation.
    pub camera: String,
    /// The unit: frames of one scene are not independent.
    pub scene: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// What was measured.
    pub statistics: Statistics,
}

/// Bounds of the gate with what they promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateTable {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the gate's code.
    pub runtime: String,
    /// Day of the calibration.
    pub date: String,
    /// Greatest share of a scene's clean frames refused.
    pub alpha: f64,
    /// One less the confidence.
    pub delta: f64,
    /// How far the bounds lie from the built-in ones, see [`GateThresholds::loosened`].
    pub loosened: f32,
    /// The bounds.
    pub bounds: GateThresholds,
    /// All cameras together: every scene counts alike.
    pub pooled: Claim,
    /// Cameras with scenes enough for a promise of their own.
    pub cameras: Vec<Claim>,
    /// The others, measured and not promised; `needed` says how many scenes they would need.
    pub reported: Vec<Claim>,
    /// What the built-in bounds do, in the same order: all, then the cameras.
    pub built_in: Vec<Claim>,
    /// What becomes of spoilt frames, by degradation.
    pub spoilt: BTreeMap<String, Spoilt>,
}

/// Spoilt frames of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spoilt {
    /// Frames.
    pub frames: usize,
    /// Refused by the bounds of the table.
    pub refused: usize,
    /// Refused by the built-in bounds.
    pub refused_built_in: usize,
}

/// Shares by which the bounds move: the fixed sequence, from the loosest down.
fn shares() -> impl Iterator<Item = f32> {
    (0..=150).map(|step: u8| (100.0 - f32::from(step)) / 100.0)
}

/// Frames of a camera by scene.
struct Camera<'a> {
    name: String,
    scenes: BTreeMap<(&'a str, &'a str), Vec<&'a Seen>>,
}

impl<'a> Camera<'a> {
    fn of(name: &str, frames: impl Iterator<Item = &'a Seen>) -> Self {
        let mut scenes: BTreeMap<_, Vec<&Seen>> = BTreeMap::new();
        for frame in frames {
            scenes.entry((frame.camera.as_str(), frame.scene.as_str())).or_default().push(frame);
        }
        Self { name: name.to_owned(), scenes }
    }

    /// Sum of the scenes' losses.
    fn sum(&self, bounds: &GateThresholds) -> f64 {
        let refused = |frame: &&&Seen| verdict(&frame.statistics, frame.size, bounds).is_some();
        self.scenes.values().map(|frames| frames.iter().filter(refused).count() as f64 / frames.len() as f64).sum()
    }

    fn losses(&self) -> Losses {
        let single = self.scenes.values().all(|frames| frames.len() == 1);
        if single { Losses::Binary } else { Losses::Bounded }
    }

    fn claim(&self, bounds: &GateThresholds, alpha: f64, level: f64) -> Claim {
        let (sum, scenes) = (self.sum(bounds), self.scenes.len());
        Claim {
            name: self.name.clone(),
            scenes,
            questions: self.scenes.values().map(Vec::len).sum(),
            risk: if scenes == 0 { 0.0 } else { sum / scenes as f64 },
            upper: upper_bound(sum, scenes, level, self.losses()),
            needed: needed(alpha, level),
        }
    }
}

/// The strictest gate that refuses clean frames of all cameras together, and of each camera with scenes enough, no more
/// often than `alpha`, with confidence 1 − `delta` for all of them at once.
///
/// # Errors
/// When α or δ is no share, all cameras together have too few scenes, or even the loosest gate refuses too much.
pub fn gate(
    clean: &[Seen],
    spoilt: &[Seen],
    (alpha, delta): (f64, f64),
    date: &str,
) -> Result<GateTable, CalibrationError> {
    for (name, value) in [("alpha", alpha), ("delta", delta)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(CalibrationError::Share { name, got: value });
        }
    }
    let pooled = Camera::of(POOLED, clean.iter());
    let mut names: Vec<&str> = clean.iter().map(|frame| frame.camera.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut cameras: Vec<Camera<'_>> =
        names.iter().map(|name| Camera::of(name, clean.iter().filter(|frame| frame.camera == *name))).collect();
    cameras.sort_by_key(|camera| std::cmp::Reverse(camera.scenes.len()));
    // How many scenes there are does not depend on what the gate says of them.
    let fits = |count: usize| {
        let needed = needed(alpha, delta / (count + 1) as f64);
        cameras[..count].iter().chain([&pooled]).all(|camera| camera.scenes.len() >= needed)
    };
    let Some(count) = (0..=cameras.len()).rev().find(|count| fits(*count)) else {
        let needed = needed(alpha, delta);
        let missing = [&pooled].into_iter().chain(&cameras);
        let missing =
            missing.map(|camera| Missing { stratum: camera.name.clone(), got: camera.scenes.len(), needed }).collect();
        return Err(CalibrationError::TooFewScenes { alpha, delta, missing });
    };
    let level = delta / (count + 1) as f64;
    let (promised, others) = cameras.split_at(count);
    let within = |camera: &Camera<'_>, bounds: &GateThresholds| {
        p_value(camera.sum(bounds), camera.scenes.len(), alpha, camera.losses()) <= level
    };
    let at = |share: f32| GateThresholds::default().loosened(share);
    let kept = |share: &f32| promised.iter().chain([&pooled]).all(|camera| within(camera, &at(*share)));
    let Some(loosened) = shares().take_while(kept).last() else {
        let loosest = promised.iter().chain([&pooled]).map(|camera| camera.claim(&at(1.0), alpha, level));
        let worst = loosest.max_by(|a, b| a.upper.total_cmp(&b.upper));
        let (camera, bound) = worst.map_or((POOLED.to_owned(), 1.0), |claim| (claim.name, claim.upper));
        return Err(CalibrationError::NoGate { alpha, camera, bound });
    };
    let (bounds, built_in) = (at(loosened), GateThresholds::default());
    let claims = |cameras: &[Camera<'_>], bounds: &GateThresholds| {
        cameras.iter().map(|camera| camera.claim(bounds, alpha, level)).collect::<Vec<Claim>>()
    };
    let mut table = GateTable {
        format: FORMAT,
        runtime: RUNTIME_VERSION.to_owned(),
        date: date.to_owned(),
        alpha,
        delta,
        loosened,
        bounds,
        pooled: pooled.claim(&bounds, alpha, level),
        cameras: claims(promised, &bounds),
        reported: claims(others, &bounds),
        built_in: vec![pooled.claim(&built_in, alpha, level)],
        spoilt: BTreeMap::new(),
    };
    table.built_in.extend(claims(&cameras, &built_in));
    for frame in spoilt {
        let entry = table.spoilt.entry(frame.camera.clone()).or_default();
        let refused = |bounds| usize::from(verdict(&frame.statistics, frame.size, bounds).is_some());
        entry.frames += 1;
        entry.refused += refused(&bounds);
        entry.refused_built_in += refused(&built_in);
    }
    Ok(table)
}

impl GateTable {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// When it is too long, not this JSON, or says what cannot be.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CalibrationError> {
        let table: Self = parsed(bytes, MAX_TABLE_BYTES, "a table as `ground calibrate gate` writes it")?;
        table.validate()?;
        Ok(table)
    }

    /// The table as pretty JSON with a final newline.
    ///
    /// # Errors
    /// When it cannot be what it says.
    pub fn to_json(&self) -> Result<String, CalibrationError> {
        self.validate()?;
        pretty(self)
    }

    /// Checks that the bounds are those of the family, and every promised bound within α.
    ///
    /// # Errors
    /// Names the field, what was expected and what it says.
    pub fn validate(&self) -> Result<(), CalibrationError> {
        if self.format != FORMAT {
            return Err(wrong("format", FORMAT, self.format));
        }
        for (field, value) in [("alpha", self.alpha), ("delta", self.delta)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(wrong(field, "a share between 0 and 1", value));
            }
        }
        if !(-0.9..=1.0).contains(&self.loosened) {
            return Err(wrong("loosened", "a share in -0.9..=1", self.loosened));
        }
        let least = needed(self.alpha, self.delta / (self.cameras.len() + 1) as f64);
        for claim in self.cameras.iter().chain([&self.pooled]) {
            claim.check()?;
            claim.check_within(self.alpha, least)?;
        }
        self.reported.iter().chain(&self.built_in).try_for_each(Claim::check)?;
        if self.bounds != GateThresholds::default().loosened(self.loosened) {
            return Err(wrong("bounds", format!("the built-in ones moved by {}", self.loosened), "others"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
