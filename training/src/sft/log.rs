//! What a step of supervised fine-tuning puts into its log.

use serde::Serialize;

use super::evaluate::Evaluation;
use super::measured::{Times, Values};
use crate::curves::Panels;

/// What one step did.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Steps done with this one.
    pub step: usize,
    /// Steps of the run.
    pub steps: usize,
    /// Name of the phase.
    pub phase: String,
    /// Learning rate.
    pub rate: f32,
    /// Norm of the gradient before clipping.
    pub norm: f32,
    /// Means over the step's pictures.
    pub values: Values,
    /// Milliseconds of one thread a picture.
    pub times: Times,
    /// Milliseconds of the optimiser.
    pub optimiser_millis: f32,
    /// Wall seconds of the step.
    pub seconds: f32,
    /// Of these, in which no worker computed on the device: pictures were prepared, gradients added up.
    pub waited: f32,
    /// The same as a share of `seconds`.
    pub waiting: f32,
    /// An evaluation after this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
}

/// What is drawn of a run.
pub(super) const CURVES: Panels = Panels {
    shares: &[
        ("loss", "#444444", &["values", "total"]),
        ("answer right", "#1f77b4", &["values", "right"]),
        ("mask IoU", "#2ca02c", &["values", "overlap"]),
        ("tune: specific gIoU", "#d62728", &["evaluation", "specific", "value"]),
        ("tune: general gIoU", "#9467bd", &["evaluation", "general", "value"]),
        ("tune: pass rate", "#ff7f0e", &["evaluation", "pass_rate", "value"]),
        ("tune: false refusals", "#8c564b", &["evaluation", "false_refusals", "value"]),
    ],
    values: &[],
};
