//! What each loss of a run weighs.

use serde::{Deserialize, Serialize};

/// Weights of the losses, each of which is a mean over a sample's questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Cross-entropy of the answer.
    pub answer: f32,
    /// Focal loss of masks.
    pub focal: f32,
    /// Dice of masks.
    pub dice: f32,
    /// Projections of weak boxes.
    pub projection: f32,
    /// Emptiness of masks of what is not there.
    pub empty: f32,
    /// Likeness of `[SEG]` states with places; its focal and Dice parts weigh as those of masks.
    pub matching: f32,
    /// Object score.
    pub object: f32,
    /// Predicted IoU.
    pub iou: f32,
    /// Words without sense.
    pub doubt: f32,
    /// Auxiliary dense heads.
    pub auxiliary: f32,
    /// Where the thing is that words relate their target to.
    pub anchor: f32,
    /// What stands out: centres, boxes and names of proposals.
    pub proposals: f32,
    /// Which proposals are meant, and whether any.
    pub pointing: f32,
    /// What words say, without a picture.
    pub reading: f32,
    /// Share of the mask losses of a later frame answered with the first frame's `[SEG]`.
    pub later: f32,
    /// Chains of reasons, their tokens and what their `[SEG]` show; 0 where none are taught.
    #[serde(skip_serializing_if = "nothing")]
    pub chain: f32,
    /// What a location in a chain weighs beside its other tokens.
    #[serde(skip_serializing_if = "alike")]
    pub location: f32,
    /// Deviation, in locations, of the normal that a location's share of right is spread over its neighbours by; 0 where
    /// only the location itself is right.
    #[serde(skip_serializing_if = "nothing")]
    pub location_spread: f32,
    /// What it weighs, beside a chain's tokens, that a location is written by looking at the thing whose box it is part of;
    /// for models that are told of things.
    #[serde(skip_serializing_if = "nothing")]
    pub aim: f32,
    /// How much the `[SEG]` state of a reasoned answer that shows one thing must be that of the fast answer.
    #[serde(skip_serializing_if = "nothing")]
    pub agreement: f32,
}

fn alike(weight: &f32) -> bool {
    *weight == 1.0
}

/// A recipe without chains is written as it always was.
fn nothing(weight: &f32) -> bool {
    *weight == 0.0
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            answer: 1.0,
            focal: 2.0,
            dice: 1.0,
            projection: 0.5,
            empty: 0.1,
            matching: 1.0,
            object: 0.5,
            iou: 0.25,
            doubt: 0.5,
            auxiliary: 1.0,
            anchor: 0.5,
            proposals: 1.0,
            pointing: 1.0,
            reading: 1.0,
            later: 0.5,
            chain: 0.0,
            location: 1.0,
            location_spread: 0.0,
            aim: 0.0,
            agreement: 0.0,
        }
    }
}
