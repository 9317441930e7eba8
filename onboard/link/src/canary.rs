//! Canary frames: questions with known answers that travel in a bundle.

use crate::error::LinkError;
use crate::mask::Mask;
use crate::query::Query;
use serde::{Deserialize, Serialize};

/// Longest `canary/NN.json`, in bytes.
pub const MAX_CANARY_BYTES: usize = 256 * 1024;

/// What `canary/NN.json` says of the picture `canary/NN.png` beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanarySpec {
    /// What is asked of the picture.
    pub query: Query,
    /// The mask this model gave when it was bundled, in pixels of the picture; `None` when it must refuse.
    #[serde(default)]
    pub expected: Option<Mask>,
    /// Least IoU with `expected` that a trial accepts, in 0..=1.
    pub min_iou: f32,
}

impl CanarySpec {
    /// Reads and checks `canary/NN.json`.
    ///
    /// # Errors
    /// When it is too long, not this JSON, or out of range.
    pub fn from_json(bytes: &[u8]) -> Result<Self, LinkError> {
        let spec: Self = crate::manifest::json("canary", bytes, MAX_CANARY_BYTES)?;
        spec.query.validate()?;
        if let Some(mask) = &spec.expected {
            mask.validate()?;
        }
        if !(0.0..=1.0).contains(&spec.min_iou) {
            return Err(LinkError::field("canary.min_iou", "0..=1", spec.min_iou));
        }
        Ok(spec)
    }
}
