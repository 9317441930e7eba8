//! What can be made of a frame before the engine is free for it: the gate's statistics and the model's input.
//!
//! Both are functions of the frame alone; which frame came before it and which model will look at it are not asked. So it
//! does not matter when they are made, or whether they are made ahead at all: answers are the same, bit for bit.

use std::time::Duration;

use image::RgbImage;
use kestrel_perception::gate::{self, GateScratch, Measured};
use kestrel_perception::{GateHistory, GateThresholds, MODEL_SIZE, Scratch, View, preprocess};
use ndarray::Array4;

use super::timings::timed;
use super::{SegmenterOptions, check_frame};

/// What was made of one frame ahead of the engine; its memory is used again for another frame.
pub struct Prepared {
    /// What the gate read; `None` when it is off or the frame cannot be looked at.
    pub(super) measured: Option<Measured>,
    /// The whole frame as the model takes it, when it `holds_input`.
    input: Array4<f32>,
    holds_input: bool,
    /// Time that the gate's statistics took.
    pub(super) gate: Duration,
    /// Time that the input took.
    preprocess: Duration,
}

impl Default for Prepared {
    fn default() -> Self {
        let input = Array4::zeros((0, 0, 0, 0));
        Self { measured: None, input, holds_input: false, gate: Duration::ZERO, preprocess: Duration::ZERO }
    }
}

impl Prepared {
    /// Puts the input in place of `buffer`, which is kept for another frame; gives the time that the input took, or `None`
    /// where there is none of this shape.
    pub(super) fn give_input(&mut self, buffer: &mut Array4<f32>) -> Option<Duration> {
        let fits = self.holds_input && self.input.dim() == buffer.dim();
        self.holds_input = false;
        if !fits {
            return None;
        }
        std::mem::swap(&mut self.input, buffer);
        Some(self.preprocess)
    }

    /// Time that was spent ahead.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.gate + self.preprocess
    }
}

/// Prepares frames, one after the other, beside whoever runs the engine.
pub struct Preparer {
    thresholds: Option<GateThresholds>,
    gate: GateScratch,
    preprocess: Scratch,
}

impl Preparer {
    /// Prepares for a [`Segmenter`](super::Segmenter) with these options.
    #[must_use]
    pub fn new(options: &SegmenterOptions) -> Self {
        Self { thresholds: options.gate, gate: GateScratch::default(), preprocess: Scratch::default() }
    }

    /// Reads a frame for the gate, and makes the model's input of it where that is wanted and the gate will not refuse the
    /// frame for itself.
    ///
    /// What cannot be made is left out: [`Segmenter::look_prepared`](super::Segmenter::look_prepared) then does it, and says
    /// why it cannot be done.
    pub fn prepare(&mut self, frame: &RgbImage, with_input: bool, prepared: &mut Prepared) {
        let Self { thresholds, gate: gate_scratch, preprocess: scratch } = self;
        let Prepared { measured, input, holds_input, gate: gate_time, preprocess: preprocess_time } = prepared;
        (*measured, *holds_input) = (None, false);
        (*gate_time, *preprocess_time) = (Duration::ZERO, Duration::ZERO);
        if check_frame(frame).is_err() {
            return;
        }
        let mut refused = false;
        if let Some(thresholds) = thresholds {
            let read = timed(gate_time, || gate::measure(frame, gate_scratch));
            // Whether a frame repeats the one before it is all that this leaves open.
            refused = read.judge(thresholds, &GateHistory::default()).verdict.is_some();
            *measured = Some(read);
        }
        if !with_input || refused {
            return;
        }
        let side = MODEL_SIZE as usize;
        let shape = (1, 3, side, side);
        if input.dim() != shape {
            *input = Array4::zeros(shape);
        }
        let view = View::whole(frame.width(), frame.height());
        *holds_input = timed(preprocess_time, || preprocess(frame, &view, input, scratch)).is_ok();
    }
}
