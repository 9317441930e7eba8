//! What a quantised graph rounds and how far that moves its answers: ranges on a calibration set, and a sweep.
//!
//! Everything here runs in candle on the drone's own preprocessing, tokens and proposals; [`kestrel_models::quantise`]
//! says where is rounded. [`observe`] fills an [`Observer`], by fast answers and by those with [`Reasons`], a [`Bench`]
//! measures a scheme against the whole model, and [`sweep()`] finds the layers that cost too much. [`Apart`] holds two
//! readings of one model against each other.

mod apart;
mod bench;
mod error;
mod frames;
mod reasons;
mod sweep;

pub use apart::{Apart, Reading};
pub use bench::{Bench, Bounds, Reply, Shift, say, see, shift};
pub use error::RangesError;
pub use frames::{Prepared, Preparer};
pub use reasons::{Reasons, thoughts};
pub use sweep::{Part, Sweep, group, sweep};

use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::Config;
use kestrel_models::quantise::Observer;
use kestrel_models::weights::Weights;
use reasons::Watch;

/// Fewest frames that give ranges. Fewer leave out what a tensor does on other ground, in other light.
pub const FEWEST_FRAMES: usize = 8;

/// Result of this module.
pub type Result<T> = std::result::Result<T, RangesError>;

/// The weights as parameters that candle runs, on the processor.
///
/// # Errors
/// When there is no room for them.
pub fn parameters(weights: &Weights) -> Result<Params> {
    Ok(weights.to_params(&candle_core::Device::Cpu)?)
}

/// Watches a pass over every frame and its questions, of which some are answered with `reasons` too where those are given:
/// for a model whose graph that decodes is rounded as well. `told` hears how many frames are done.
///
/// # Errors
/// When there are too few frames, the model fails, or an activation is not finite.
pub fn observe(
    params: &Params,
    config: &Config,
    frames: &[Prepared],
    pad: u32,
    reasons: Option<&Reasons>,
    told: &mut dyn FnMut(usize),
) -> Result<Observer> {
    if frames.len() < FEWEST_FRAMES {
        let (expected, got) = (FEWEST_FRAMES, frames.len());
        return Err(RangesError::TooFew { expected, got, missing: expected - got });
    }
    let observer = Observer::default();
    for (done, frame) in frames.iter().enumerate() {
        let ops = Candle::evaluating(params).with_places(&observer);
        let seen = bench::see(ops.clone(), config, frame)?;
        bench::say(ops, config, pad, frame, &seen)?;
        if let Some(reasons) = reasons {
            Watch { observer: &observer, params, config, reasons }.answers(done, frame, &seen)?;
        }
        told(done + 1);
    }
    Ok(observer)
}
