//! `thresholds.json`: what calibration found for one set of graphs.

use crate::error::LinkError;
use crate::hash::is_sha256_hex;
use serde::{Deserialize, Serialize};

/// Longest `thresholds.json`, in bytes.
pub const MAX_THRESHOLDS_BYTES: usize = 16 * 1024;

/// When to answer and when to stay silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Hex SHA-256 over vision.onnx, language.onnx and mask.onnx, in this order: thresholds fit these graphs only.
    pub model_hash: String,
    /// How the presence probability is made.
    pub presence: Presence,
    /// Least presence probability that is answered with a mask, 0..=1.
    pub presence_threshold: f32,
    /// Least probability of a mask's pixel, in 0..1.
    pub mask_threshold: f32,
    /// Least probability of doubt at which a word counts as not understood, 0..=1.
    pub doubt_threshold: f32,
    /// Fewest set pixels of a mask, in pixels of the 512-pixel view.
    pub min_area_pixels: u32,
    /// What the thresholds were set on.
    pub data: String,
    /// Seed of that data.
    pub seed: u64,
    /// Day of the calibration.
    pub date: String,
}

/// `p = sigmoid(weights · [z_none, z_object, z_iou] + bias)`.
///
/// `z_none` is the log-sum-exp of the four `<none:…>` logits less the `[SEG]` logit,
/// `z_object` and `z_iou` are the mask decoder's logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// For `z_none`, `z_object`, `z_iou`.
    pub weights: [f32; 3],
    /// Added.
    pub bias: f32,
}

impl Presence {
    /// The probability, in single precision as the drone computes it.
    #[must_use]
    pub fn probability(&self, features: &[f32; 3]) -> f32 {
        let weighted = features.iter().zip(&self.weights).map(|(feature, weight)| feature * *weight);
        1.0 / (1.0 + (-(weighted.sum::<f32>() + self.bias)).exp())
    }
}

impl Thresholds {
    /// Reads and checks `thresholds.json`.
    ///
    /// # Errors
    /// When it is too long, not this JSON, or out of range.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LinkError> {
        let thresholds: Self = crate::manifest::json("thresholds", bytes, MAX_THRESHOLDS_BYTES)?;
        thresholds.validate()?;
        Ok(thresholds)
    }

    /// Checks that every number is finite and in range.
    ///
    /// # Errors
    /// Names the field, the range and what was there.
    pub fn validate(&self) -> Result<(), LinkError> {
        if !is_sha256_hex(&self.model_hash) {
            return Err(LinkError::field("thresholds.model_hash", "64 lower-case hex digits", &self.model_hash));
        }
        for value in self.presence.weights.iter().chain([&self.presence.bias]) {
            if !value.is_finite() {
                return Err(LinkError::field("thresholds.presence", "finite numbers", value));
            }
        }
        for (field, value) in [
            ("thresholds.presence_threshold", self.presence_threshold),
            ("thresholds.mask_threshold", self.mask_threshold),
            ("thresholds.doubt_threshold", self.doubt_threshold),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(LinkError::field(field, "a probability in 0..=1", value));
            }
        }
        // At 0 or 1 no logit could decide a pixel.
        if self.mask_threshold == 0.0 || self.mask_threshold == 1.0 {
            return Err(LinkError::field("thresholds.mask_threshold", "strictly between 0 and 1", self.mask_threshold));
        }
        Ok(())
    }

    /// The model's hash from its three graphs' bytes.
    #[must_use]
    pub fn hash_graphs(vision: &[u8], language: &[u8], mask: &[u8]) -> String {
        let mut hasher = crate::Hasher::default();
        for graph in [vision, language, mask] {
            hasher.update(graph);
        }
        hasher.finish()
    }
}
