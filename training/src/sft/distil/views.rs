//! The same pictures clear and degraded: a view drawn anew for every lesson.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cache::finish;
use crate::expressions::Options;
use crate::sample::Sample;
use crate::sft::Result;
use crate::views::View;

/// Sets the draw of a view apart from what else is drawn with the same seed.
const STREAM: u64 = 0x7669_6577;

/// A clear sample as it is or, for a `share` of seeds, through a view that training may use, with `count` questions whose right
/// answers hold there; and whether it was so changed. Later frames and what people wrote are of the clear picture: samples
/// with either stay.
///
/// # Errors
/// When a mask does not decode.
pub(in crate::sft) fn viewed(sample: Sample, share: f32, count: usize, seed: u64) -> Result<(Sample, bool)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
    let clear = sample.degradation.is_none() && sample.later.is_none() && sample.is_ours();
    if !clear || rng.random::<f32>() >= share {
        return Ok((sample, false));
    }
    let view = View::draw_training(&mut rng);
    let options = Options { count, ..Options::default() };
    Ok((finish(sample.picture, None, Vec::new(), &options, Some(view), &mut rng)?, true))
}
