//! Records as a promise counts them: by scene, by stratum, and by what would be shown at a threshold.

use std::collections::BTreeMap;

use kestrel_link::Presence;
use kestrel_training::benchmark::SEEDS;
use kestrel_training::metrics::{CLEAR_PIXELS, Kind, Record};
use kestrel_training::sample::Stratum;
use serde::{Deserialize, Serialize};

use crate::CalibrationError;
use crate::confidence::Losses;
use crate::rules::{MIN_AREA_PIXELS, sigmoid};

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The set's name.
    pub set: String,
    /// Seed of its scenes and questions.
    pub seed: u64,
    /// Pictures at most, where that was asked for; of older records it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The engine that answered; tables of older programs do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Whether its pictures are photographs; otherwise they are rendered scenes.
    pub real: bool,
    /// Whether the gate looked first: a frame that it refused shows no mask, whatever is asked, and counts so.
    pub gate: bool,
    /// Hex SHA-256 of the table that the gate's bounds were of; none for the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_table: Option<String>,
    /// Hex SHA-256 of the records' file.
    pub sha256: String,
}

/// What one loss is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Share of a scene's questions that a mask answers: the risk is that of a question of a scene.
    #[default]
    Mean,
    /// 1 when a mask answers any of a scene's questions: the risk is that of a whole scene, and the greater one.
    Worst,
}

/// The stratum of a question that a mask must not answer; `None` where a mask may.
///
/// Photographs apart from scenes; a degraded view belongs to its family, whatever was asked.
pub fn stratum(record: &Record, real: bool) -> Option<String> {
    if !matches!(record.expected, Kind::Absent | Kind::Unseeable) {
        return None;
    }
    let kind = match (&record.degradation, record.stratum) {
        (Some((family, _)), _) => family.as_str(),
        (None, Stratum::AbsentCategory) => "absent category",
        (None, Stratum::AbsentColour) => "absent attribute",
        (None, Stratum::WrongRelation) => "wrong relation",
        (None, _) => "other",
    };
    Some(format!("{}: {kind}", if real { "real" } else { "scenes" }))
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) record: &'a Record,
    /// Index of its scene.
    pub(crate) scene: usize,
    /// Index of its stratum; `None` where a mask may answer.
    pub(crate) stratum: Option<usize>,
}

impl Question<'_> {
    /// Whether its target is there, clear and large enough that refusing it is a plain mistake.
    pub(crate) fn clear(&self) -> bool {
        self.record.present() && self.record.degradation.is_none() && self.record.target >= CLEAR_PIXELS
    }
}

/// All questions with their scenes and strata.
#[derive(Debug, Default)]
pub(crate) struct Questions<'a> {
    pub(crate) all: Vec<Question<'a>>,
    /// Names of the scenes: set and scene.
    pub(crate) scenes: Vec<String>,
    /// Names of the strata, in order.
    pub(crate) strata: Vec<String>,
}

impl<'a> Questions<'a> {
    /// Takes in what may set thresholds.
    ///
    /// # Errors
    /// When a set tests the model.
    pub(crate) fn of(batches: &'a [(Source, Vec<Record>)]) -> Result<Self, CalibrationError> {
        let (mut scenes, mut strata) = (BTreeMap::new(), BTreeMap::new());
        let mut found = Vec::new();
        for (source, records) in batches {
            for record in records {
                refuse_test(&record.set, source.seed)?;
                let scene = format!("{}/{}", record.set, record.scene);
                let stratum = stratum(record, source.real);
                scenes.entry(scene.clone()).or_insert(0);
                if let Some(name) = &stratum {
                    strata.entry(name.clone()).or_insert(0);
                }
                found.push((record, scene, stratum));
            }
        }
        // Numbers follow the names, so that the order of files changes nothing.
        scenes.values_mut().enumerate().for_each(|(number, place)| *place = number);
        strata.values_mut().enumerate().for_each(|(number, place)| *place = number);
        let all = found.into_iter().map(|(record, scene, stratum)| Question {
            record,
            scene: scenes.get(&scene).copied().unwrap_or_default(),
            stratum: stratum.and_then(|name| strata.get(&name).copied()),
        });
        let all = all.collect();
        Ok(Self { all, scenes: scenes.into_keys().collect(), strata: strata.into_keys().collect() })
    }

    /// Takes in what bounds the risk and what fits the presence.
    ///
    /// # Errors
    /// When a set tests the model or a scene serves both ends.
    pub(crate) fn both(
        batches: &'a [(Source, Vec<Record>)],
        fitting: &'a [(Source, Vec<Record>)],
    ) -> Result<(Self, Self), CalibrationError> {
        let (questions, others) = (Self::of(batches)?, Self::of(fitting)?);
        let shared = others.scenes.iter().find(|scene| questions.scenes.binary_search(scene).is_ok()).cloned();
        match shared {
            Some(scene) => Err(CalibrationError::SharedScene { scene }),
            None => Ok((questions, others)),
        }
    }
}

/// Sets that test are never tuned on. Another seed of the degraded scenes draws other scenes; photographs stay the same.
///
/// # Errors
/// Names the set, when it tests.
pub fn refuse_test(set: &str, seed: u64) -> Result<(), CalibrationError> {
    let frozen = set == "scenes-degraded" && seed.is_multiple_of(SEEDS);
    // The pictures of `nwpu-degraded` are those of `nwpu-test`, whatever the seed.
    let named = matches!(set, "scenes" | "desert" | "nwpu-degraded");
    if frozen || named || set.ends_with("-test") {
        return Err(CalibrationError::TestSet { set: set.to_owned() });
    }
    Ok(())
}

/// What decides about a mask beside the presence threshold.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    pub(crate) presence: Presence,
    pub(crate) doubt_threshold: f32,
    pub(crate) mask_threshold: f32,
}

impl Judge {
    /// One that doubts every word.
    pub(crate) fn silent() -> Self {
        Self { presence: Presence { weights: [0.0; 3], bias: 0.0 }, doubt_threshold: 0.0, mask_threshold: 0.5 }
    }

    /// The greatest presence threshold at which a mask answers, as the drone decides; −∞ where none ever does.
    pub(crate) fn score(&self, record: &Record) -> f32 {
        // A frame that the gate refused reached no network.
        let reached = record.features != [0.0; 3] && record.features.iter().all(|f| f.is_finite());
        let doubt = sigmoid(record.doubt);
        // Refused for its words although no word was doubted: the answer's likeliest token says so at any threshold.
        let senseless = record.given == Kind::NotUnderstood && doubt < 0.5;
        let mask = record.sweep.iter().find(|swept| swept.threshold == self.mask_threshold);
        let small = mask.is_some_and(|mask| mask.predicted < u64::from(MIN_AREA_PIXELS));
        if !reached || senseless || doubt >= self.doubt_threshold || small {
            return f32::NEG_INFINITY;
        }
        let presence = self.presence.probability(&record.features);
        if presence.is_nan() { f32::NEG_INFINITY } else { presence }
    }
}

/// The losses of a stratum at every threshold.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// Scenes, each one loss.
    pub(crate) scenes: usize,
    pub(crate) questions: usize,
    pub(crate) losses: Losses,
    /// Scores, falling.
    scores: Vec<f32>,
    /// Sum of the losses when the first `i` are shown.
    sums: Vec<f64>,
}

impl Curve {
    /// From the scores of each scene's questions.
    pub(crate) fn new<'s>(name: &str, scenes: impl Iterator<Item = &'s Vec<f32>>, unit: Unit) -> Self {
        let (mut events, mut count, mut questions, mut single) = (Vec::new(), 0, 0, true);
        for scores in scenes.filter(|scores| !scores.is_empty()) {
            count += 1;
            questions += scores.len();
            single &= scores.len() == 1;
            match unit {
                Unit::Mean => events.extend(scores.iter().map(|score| (*score, 1.0 / scores.len() as f64))),
                Unit::Worst => events.push((scores.iter().copied().fold(f32::NEG_INFINITY, f32::max), 1.0)),
            }
        }
        events.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut sum = 0.0;
        let add = |event: &(f32, f64)| {
            sum += event.1;
            sum
        };
        let sums = std::iter::once(0.0).chain(events.iter().map(add)).collect();
        // How many questions a scene has does not depend on the model, so the test may.
        let losses = if single || unit == Unit::Worst { Losses::Binary } else { Losses::Bounded };
        let scores = events.into_iter().map(|event| event.0).collect();
        Self { name: name.to_owned(), scenes: count, questions, losses, scores, sums }
    }

    /// Sum of the losses when what scores at least `threshold` is shown.
    pub(crate) fn sum_at(&self, threshold: f32) -> f64 {
        let shown = self.scores.partition_point(|score| *score >= threshold);
        self.sums[shown].min(self.scenes as f64)
    }
}
