//! Judges answers: one [`Record`] per question, every figure with a bootstrap interval resampled by scene.

mod explained;
mod figure;
mod performed;
pub mod published;
mod report;
mod tiled;
mod tracking;

pub use explained::{Explained, Reasoned, reasoned};
pub use figure::{Figure, RESAMPLES, mean, resampled, scene_sums, sums};
pub use performed::{Performance, Performed, performance};
pub use report::{CLEAR_PIXELS, Masks, Report, presence_correlation, report, risk_coverage};
pub use tiled::{Found, Tiled, TiledReport, Wanted, tiled};
pub use tracking::{Tracked, Tracking, tracking};

use serde::{Deserialize, Serialize};

use crate::sample::{Stratum, Target};

/// What kind of answer a question has or got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A mask.
    Mask,
    /// Refused: nothing fits.
    Absent,
    /// Refused: several things fit.
    Ambiguous,
    /// Refused: the words make no sense.
    NotUnderstood,
    /// Refused: it cannot be seen in this view.
    Unseeable,
    /// Refused for another reason: the gate, low confidence, too small.
    Other,
}

impl Kind {
    /// The answers that a model can give, in the order of their tokens: `[SEG]`, then the four `<none:…>`.
    pub const ANSWERS: [Self; 5] = [Self::Mask, Self::Absent, Self::Ambiguous, Self::NotUnderstood, Self::Unseeable];
}

impl From<&Target> for Kind {
    fn from(target: &Target) -> Self {
        match target {
            Target::Masks(_) | Target::Boxes(_) => Self::Mask,
            Target::Absent => Self::Absent,
            Target::Ambiguous(_) => Self::Ambiguous,
            Target::NotUnderstood => Self::NotUnderstood,
            Target::Unseeable => Self::Unseeable,
        }
    }
}

/// The mask at one probability threshold, whether or not it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Swept {
    /// Probability above which a pixel belongs to the mask.
    pub threshold: f32,
    /// Its pixels.
    pub predicted: u64,
    /// Those of them on the target.
    pub intersection: u64,
}

/// Doubt of a question without words: finite, so that a record can be written and read.
pub const NO_DOUBT: f32 = -30.0;

/// One question, what should have been answered, and what was. Pixels are those of the 512-px view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The set it belongs to.
    pub set: String,
    /// The unit of resampling: scene, strip, sequence or cluster.
    pub scene: String,
    /// File or frame.
    pub frame: String,
    /// The words.
    pub text: String,
    /// Its stratum.
    pub stratum: Stratum,
    /// The right answer.
    pub expected: Kind,
    /// Whether the target is a weak box: such a record says nothing about masks.
    pub weak: bool,
    /// Pixels of the target; 0 where there is none.
    pub target: u64,
    /// Whether phrasing or slips come from the held-out list.
    pub held_out_phrasing: bool,
    /// Whether typing or speech-recognition slips were put in.
    pub slipped: bool,
    /// Degradation family and severity.
    pub degradation: Option<(String, f32)>,
    /// The answer.
    pub given: Kind,
    /// Pixels of the mask that was shown; 0 for a refusal.
    pub predicted: u64,
    /// Those of them on the target.
    pub intersection: u64,
    /// Calibrated probability that the target is there to be shown.
    pub presence: f32,
    /// Its features: none margin, object logit, predicted-IoU logit.
    pub features: [f32; 3],
    /// Greatest doubt logit of a word.
    pub doubt: f32,
    /// The mask at several thresholds, for fitting one.
    #[serde(default)]
    pub sweep: Vec<Swept>,
}

impl Record {
    /// Whether a mask was the right answer.
    pub fn present(&self) -> bool {
        self.expected == Kind::Mask
    }

    /// Whether it asked for something that is not there.
    pub fn hard_negative(&self) -> bool {
        self.expected == Kind::Absent
    }

    /// Intersection over union of what was shown; empty against empty is 1.
    pub fn iou(&self) -> f64 {
        iou(self.predicted, self.intersection, self.target)
    }

    /// Whether any pixel was shown.
    pub fn shown(&self) -> bool {
        self.predicted > 0
    }
}

/// Intersection over union from pixel counts; empty against empty is 1.
pub fn iou(predicted: u64, intersection: u64, target: u64) -> f64 {
    let union = predicted + target - intersection.min(predicted + target);
    if union == 0 { 1.0 } else { intersection as f64 / union as f64 }
}

/// Size of a target by the side of a square of its area, at the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Under 16².
    Tiny,
    /// Under 32².
    Small,
    /// Under 96².
    Medium,
    /// The rest.
    Large,
}

impl Size {
    /// Size of a target of so many pixels.
    pub fn of(pixels: u64) -> Self {
        match pixels {
            0..256 => Self::Tiny,
            256..1024 => Self::Small,
            1024..9216 => Self::Medium,
            _ => Self::Large,
        }
    }
}

#[cfg(test)]
pub(crate) fn example(scene: usize, expected: Kind, target: u64, predicted: u64, intersection: u64) -> Record {
    Record {
        set: "test".into(),
        scene: format!("scene {scene}"),
        frame: "0".into(),
        text: "the red car".into(),
        stratum: if expected == Kind::Mask { Stratum::Colour } else { Stratum::AbsentColour },
        expected,
        weak: false,
        target,
        held_out_phrasing: false,
        slipped: false,
        degradation: None,
        given: if predicted > 0 { Kind::Mask } else { Kind::Absent },
        predicted,
        intersection,
        presence: if predicted > 0 { 0.9 } else { 0.1 },
        features: [0.0; 3],
        doubt: -5.0,
        sweep: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_against_empty_is_right_and_a_hallucination_is_wrong() {
        assert_eq!(iou(0, 0, 0), 1.0);
        assert_eq!(iou(5, 0, 0), 0.0);
        assert_eq!(iou(0, 0, 5), 0.0);
        assert_eq!(iou(10, 5, 5), 0.5);
    }

    #[test]
    fn sizes_follow_the_area_at_the_models_input() {
        let sizes = [255, 256, 1023, 1024, 9215, 9216].map(Size::of);
        assert_eq!(sizes, [Size::Tiny, Size::Small, Size::Small, Size::Medium, Size::Medium, Size::Large]);
    }
}
