//! Scales of fresh layers, measured on real pictures.
//!
//! A pretrained trunk's maps have deviations far from 1, and a feature pyramid adds them up: without this the first
//! logits are in the tens and the first thousand steps only shrink them.
//! In the spirit of layer-sequential unit variance (Mishkin & Matas, arXiv 1511.06422), in two sweeps.

use candle_core::Tensor;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::{Config, trunk::trunk, vision};

use super::Result;
use super::pass::{host, image};

/// Outputs that begin near zero, so that no question starts with a strong opinion.
const TIMID: [&str; 3] = ["mask.kernel.out.weight", "mask.object.out.weight", "mask.iou.out.weight"];
const TIMID_SHARE: f64 = 0.1;

/// Scales the fresh layers around the trunk so that what the heads see has about unit variance on `pictures`
/// (normalised pixels `[side, side, 3]` at the size of `config`).
///
/// # Errors
/// When the model fails.
pub(super) fn settle(params: &Params, config: &Config, pictures: &[Vec<f32>]) -> Result<()> {
    if pictures.is_empty() {
        return Ok(());
    }
    let input = |pixels: &Vec<f32>| image(pixels, config.image, params.device());
    let stages = spread(pictures, |pixels| {
        let stages = trunk(&mut Candle::evaluating(params), &input(pixels)?)?;
        Ok([stages.s4, stages.s8, stages.s16, stages.s32])
    })?;
    for (stride, deviation) in [4, 8, 16, 32].into_iter().zip(stages) {
        scale(params, &format!("neck.lateral{stride}.weight"), 1.0 / deviation)?;
    }
    let [embed, fine] = spread(pictures, |pixels| {
        let seen = vision(&mut Candle::evaluating(params), config, &input(pixels)?)?;
        Ok([seen.embed, seen.fine])
    })?;
    scale(params, "neck.embed.weight", 1.0 / embed)?;
    scale(params, "neck.mix4.weight", 1.0 / fine)?;
    TIMID.iter().try_for_each(|name| scale(params, name, TIMID_SHARE))
}

/// Root mean square of each output over all pictures.
fn spread<const N: usize>(
    pictures: &[Vec<f32>],
    outputs: impl Fn(&Vec<f32>) -> Result<[Tensor; N]>,
) -> Result<[f64; N]> {
    let mut squares = [0.0; N];
    for pixels in pictures {
        for (sum, output) in squares.iter_mut().zip(outputs(pixels)?) {
            let values = host(&output)?;
            *sum += values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len().max(1) as f64;
        }
    }
    Ok(squares.map(|sum| (sum / pictures.len() as f64).sqrt().max(1e-3)))
}

fn scale(params: &Params, name: &str, factor: f64) -> Result<()> {
    if let Some(tensor) = params.tensors().get(name) {
        params.insert(name, &(tensor * factor)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    #[test]
    fn what_the_heads_see_has_unit_variance() {
        let config = Config { auxiliary: 32, ..Config::tiny() };
        let params = Params::new(&Device::Cpu, 5);
        let pictures: Vec<Vec<f32>> = (0..2)
            .map(|k| (0..64 * 64 * 3).map(|i| (((i * 31 + k * 7) % 97) as f32 - 48.0) * 0.05).collect())
            .collect();
        let seen = |pixels: &Vec<f32>| {
            vision(&mut Candle::evaluating(&params), &config, &image(pixels, 64, &Device::Cpu).unwrap()).unwrap()
        };
        seen(&pictures[0]);
        settle(&params, &config, &pictures).unwrap();
        let [embed, fine] = spread(&pictures, |p| Ok([seen(p).embed, seen(p).fine])).unwrap();
        assert!((embed - 1.0).abs() < 0.05 && (fine - 1.0).abs() < 0.05, "{embed}, {fine}");
    }
}
