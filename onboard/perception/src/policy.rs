//! The refusal policy: from what the model said to a mask or a reason why not.

use crate::error::Error;
use crate::tokens::WordDoubt;
use kestrel_link::{AnswerTokens, Refusal, Segment, Thresholds, Verdict};

/// How far below the presence threshold, as a share of it, the model still counts as merely unsure.
const UNSURE_BAND: f32 = 0.5;

/// Next-token logits at `<answer>` of the five answers a drone can give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerLogits {
    /// A mask.
    pub seg: f32,
    /// Nothing fits.
    pub absent: f32,
    /// Several things fit.
    pub ambiguous: f32,
    /// The words make no sense.
    pub not_understood: f32,
    /// The view is too degraded to tell.
    pub unseeable: f32,
}

impl AnswerLogits {
    /// Picks the five answers from the logits over the whole vocabulary.
    pub fn read(logits: &[f32], ids: &AnswerTokens) -> Result<Self, Error> {
        let at = |id: u32| {
            logits.get(id as usize).copied().ok_or_else(|| Error::Shape {
                operation: "read answer logits",
                expected: format!("more than {id} logits"),
                got: logits.len().to_string(),
            })
        };
        Ok(Self {
            seg: at(ids.seg)?,
            absent: at(ids.absent)?,
            ambiguous: at(ids.ambiguous)?,
            not_understood: at(ids.not_understood)?,
            unseeable: at(ids.unseeable)?,
        })
    }

    /// `logsumexp` of the four refusals minus the logit of a mask: how strongly the words alone speak for silence.
    #[must_use]
    pub fn silence(&self) -> f32 {
        let refusals = [self.absent, self.ambiguous, self.not_understood, self.unseeable];
        let most = refusals.into_iter().fold(f32::NEG_INFINITY, f32::max);
        most + refusals.iter().map(|logit| (logit - most).exp()).sum::<f32>().ln() - self.seg
    }

    /// Index of the likeliest answer: 0 a mask, then absent, ambiguous, not understood, unseeable.
    #[must_use]
    pub fn likeliest(&self) -> usize {
        let all = [self.seg, self.absent, self.ambiguous, self.not_understood, self.unseeable];
        (0..all.len()).max_by(|&a, &b| all[a].total_cmp(&all[b])).unwrap_or_default()
    }

    fn largest(&self) -> f32 {
        [self.seg, self.absent, self.ambiguous, self.not_understood, self.unseeable]
            .into_iter()
            .fold(f32::NEG_INFINITY, f32::max)
    }
}

/// What the model said of one query and one view.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The answers.
    pub answers: AnswerLogits,
    /// The mask decoder's object logit.
    pub object: f32,
    /// The mask decoder's logit of the predicted IoU.
    pub iou: f32,
    /// The doubt about each word, see [`crate::word_doubts`].
    pub doubts: Vec<WordDoubt>,
    /// Area of the mask in pixels of the model's input, see [`crate::Letterbox::area_to_model`].
    pub area_pixels: f32,
    /// Pieces of the mask, best first, to name when the query is ambiguous.
    pub candidates: Vec<Segment>,
}

/// What the policy says. Exactly one of both for every observation.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Show the mask.
    Segment {
        /// Calibrated probability that the target is there, 0..=1.
        presence: f32,
        /// The model's estimate of the mask's IoU, 0..=1.
        predicted_iou: f32,
    },
    /// Stay silent, and say why.
    Refuse(Refusal),
}

/// Probability that the target is there: a logistic of what the words, the object score and the predicted IoU say.
#[must_use]
pub fn presence(answers: &AnswerLogits, object: f32, iou: f32, thresholds: &Thresholds) -> f32 {
    thresholds.presence.probability(&presence_features(answers, object, iou))
}

/// The three features of [`presence`], for those who fit its weights: silence of the answers, object logit, IoU logit.
#[must_use]
pub fn presence_features(answers: &AnswerLogits, object: f32, iou: f32) -> [f32; 3] {
    [answers.silence(), object, iou]
}

/// Decides on one observation.
///
/// Numbers that are not finite refuse as [`Verdict::EngineDegraded`]: whatever they came from is broken.
#[must_use]
pub fn decide(observation: &Observation, thresholds: &Thresholds) -> Decision {
    let presence = presence(&observation.answers, observation.object, observation.iou, thresholds);
    let doubt = most_doubted(&observation.doubts);
    let named = evidence(observation, thresholds, presence);
    let of_word =
        doubt.map(|doubt| [("word_doubt", sigmoid(doubt.logit)), ("doubt_threshold", thresholds.doubt_threshold)]);
    let numbers = || named.iter().chain(of_word.iter().flatten());
    let broken = numbers().filter(|(_, value)| !value.is_finite()).count()
        + observation.doubts.iter().filter(|doubt| !doubt.logit.is_finite()).count();
    if broken > 0 {
        return refuse(Verdict::EngineDegraded, vec![("numbers_not_finite".into(), broken as f32)]);
    }
    // Only a refusal shows its numbers, so only a refusal pays for them.
    let refuse = |verdict| refuse(verdict, numbers().map(|&(name, value)| (name.to_owned(), value)).collect());
    let answers = &observation.answers;
    let least_area = thresholds.min_area_pixels as f32;
    let doubted = doubt.filter(|doubt| sigmoid(doubt.logit) >= thresholds.doubt_threshold);
    if doubted.is_some() || answers.not_understood >= answers.largest() {
        let word = doubted.or(doubt.filter(|doubt| doubt.logit > 0.0)).map(|doubt| doubt.word.clone());
        return refuse(Verdict::QueryNotUnderstood { word });
    }
    if presence >= thresholds.presence_threshold {
        if observation.area_pixels >= least_area && observation.area_pixels > 0.0 {
            return Decision::Segment { presence, predicted_iou: sigmoid(observation.iou) };
        }
        return refuse(Verdict::TargetTooSmall);
    }
    let unsure = presence >= thresholds.presence_threshold * UNSURE_BAND && shows_something(observation);
    if unsure && answers.seg >= answers.largest() {
        return refuse(Verdict::LowConfidence);
    }
    refuse(most_likely_refusal(observation))
}

/// Whether a single pixel was found. "Something may be there" and "several things fit" are said of something: where the
/// words alone say so and the picture shows nothing, it is not there.
fn shows_something(observation: &Observation) -> bool {
    observation.area_pixels > 0.0
}

/// The best of the reasons that the model knows, the query being understood.
fn most_likely_refusal(observation: &Observation) -> Verdict {
    let answers = &observation.answers;
    let several = answers.ambiguous > answers.absent && shows_something(observation);
    if !several && answers.absent >= answers.unseeable {
        Verdict::TargetAbsent
    } else if several && answers.ambiguous >= answers.unseeable {
        let candidates = observation.candidates.iter().take(crate::postprocess::MOST_CANDIDATES).cloned().collect();
        Verdict::TargetAmbiguous { candidates }
    } else {
        Verdict::TargetUnseeable
    }
}

fn most_doubted(doubts: &[WordDoubt]) -> Option<&WordDoubt> {
    doubts.iter().max_by(|one, two| one.logit.total_cmp(&two.logit))
}

fn evidence(observation: &Observation, thresholds: &Thresholds, presence: f32) -> [(&'static str, f32); 10] {
    let answers = &observation.answers;
    let largest = answers.largest();
    let logits = [
        ("p_mask", answers.seg),
        ("p_absent", answers.absent),
        ("p_ambiguous", answers.ambiguous),
        ("p_not_understood", answers.not_understood),
        ("p_unseeable", answers.unseeable),
    ];
    let total: f32 = logits.iter().map(|(_, logit)| (logit - largest).exp()).sum();
    // A softmax hides one infinite logit among finite ones as a plain 0 or 1, so those are handed on as they are.
    let [mask, absent, ambiguous, not_understood, unseeable] =
        logits.map(|(name, logit)| (name, if logit.is_finite() { (logit - largest).exp() / total } else { logit }));
    [
        ("presence", presence),
        ("presence_threshold", thresholds.presence_threshold),
        ("object_logit", observation.object),
        ("iou_logit", observation.iou),
        ("area_pixels", observation.area_pixels),
        mask,
        absent,
        ambiguous,
        not_understood,
        unseeable,
    ]
}

fn refuse(verdict: Verdict, evidence: Vec<(String, f32)>) -> Decision {
    let advice = advice(&verdict);
    Decision::Refuse(Refusal { verdict, evidence, advice })
}

/// One line for the operator about a verdict: what to try.
#[must_use]
pub fn advice(verdict: &Verdict) -> String {
    let text = match verdict {
        Verdict::TooDark => "Too little light: wait for daylight, lengthen the exposure or switch on a light.",
        Verdict::Overexposed => "Highlights are clipped: shorten the exposure or turn away from the sun.",
        Verdict::Blurred => "No sharp edge is left: hold still, check the focus and clean the lens.",
        Verdict::Noisy => "Noise drowns the picture: lower the gain, add light or check the video link.",
        Verdict::Hazy => "Contrast is lost to haze: fly lower or closer, or clean the lens.",
        Verdict::Frozen => "The camera repeats the same picture: check the camera and its cable.",
        Verdict::Truncated => "The picture is torn or incomplete: check the camera's link and its bandwidth.",
        Verdict::WrongModality => "This is not a colour photograph: switch the camera to its visible-light channel.",
        Verdict::TargetAbsent => "Nothing here fits these words: look elsewhere or describe it otherwise.",
        Verdict::TargetAmbiguous { .. } => {
            "Several things fit: add a colour, a place or a point, or ask for all of them."
        }
        Verdict::TargetTooSmall => "The target is too few pixels: fly lower or zoom in.",
        Verdict::TargetUnseeable => {
            "This view is too degraded for the target: move closer or wait for a clearer frame."
        }
        Verdict::QueryNotUnderstood { word: Some(word) } => {
            return format!("The word “{word}” was not understood: check the spelling or use a plainer one.");
        }
        Verdict::QueryNotUnderstood { word: None } => {
            "The words were not understood: name a thing that a camera can see."
        }
        Verdict::LowConfidence => "Something may be there, but not surely enough: move closer or point at it.",
        Verdict::DeadlineMissed => "The answer came too late: ask for fewer things at once or switch tiling off.",
        Verdict::EngineDegraded => "The engine gave no usable answer: run the doctor on the drone and restart it.",
        Verdict::ModelSwitching => "A new model is being switched in: ask again in a moment.",
        _ => "No further advice for this reason.",
    };
    text.to_owned()
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
