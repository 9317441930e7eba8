//! The same parameters at another input than they were learnt at.
//!
//! Positions are fractions of the picture ([`super::positions`]) and all image tokens share one rotary position, so that these
//! mean the same at any size, and attention over the picture alone is a mean that any grid gives alike. Two things do not come
//! along. Convolutions see a thing that fills twice the pixels as one that fills twice the share of the view, which its size is
//! told in. And words that look at four image tokens in the place of one would look at the picture four times as much as at
//! themselves. Both are known factors, and are taken out here.

use kestrel_perception::proposals::{GEOMETRY, SPOT};

use super::Config;
use crate::error::Result;
use crate::ops::Ops;

impl Config {
    /// The same parameters at an input of `image` pixels a side.
    #[must_use]
    pub fn at(&self, image: usize) -> Self {
        let learnt = self.learnt_at.unwrap_or(self.image);
        Self { image, learnt_at: (image != learnt).then_some(learnt), ..self.clone() }
    }

    /// How many times as large the input is as that at which the parameters were learnt; `None` where it is the same.
    fn growth(&self) -> Option<f32> {
        let learnt = self.learnt_at.filter(|learnt| *learnt != self.image && *learnt > 0)?;
        Some(self.image as f32 / learnt as f32)
    }
}

/// Spots `[N, (S/8)², SPOT]` with the logarithms of width and height in shares of this input's view.
pub(super) fn sized<O: Ops>(ops: &mut O, config: &Config, spots: O::T) -> Result<O::T> {
    let Some(growth) = config.growth() else { return Ok(spots) };
    let mut smaller = [0.0; SPOT];
    smaller[GEOMETRY - 2..GEOMETRY].fill(-growth.ln());
    let smaller = ops.constant(&smaller, &[1, 1, SPOT])?;
    ops.add(&spots, &smaller)
}

/// An additive mask `[B or 1, T, L]` under which words look at the picture as much as they have learnt to, however many image
/// tokens it has now: the logarithm of their number's growth is taken from each. The picture's tokens are the first of the L
/// columns; `first` is the place among them that the first of the T rows has.
pub(super) fn balanced<O: Ops>(ops: &mut O, config: &Config, mask: &O::T, first: usize) -> Result<O::T> {
    let Some(growth) = config.growth() else { return Ok(mask.clone()) };
    let (picture, shape) = (config.token_side().pow(2), ops.shape(mask));
    let (rows, columns) = (shape[1], shape[2]);
    let mut less = vec![0.0; rows * columns];
    for (row, less) in less.chunks_exact_mut(columns).enumerate() {
        if row + first >= picture {
            less[..picture.min(columns)].fill(-2.0 * growth.ln());
        }
    }
    let less = ops.constant(&less, &[1, rows, columns])?;
    ops.add(mask, &less)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use candle_core::{Device, Tensor};

    use super::super::pack::pack;
    use super::super::{language, vision};
    use super::*;
    use crate::candle::{Candle, Params};

    fn host(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn an_input_that_was_learnt_at_changes_nothing() {
        let tiny = Config::tiny();
        assert_eq!(tiny.at(tiny.image), tiny);
        let larger = tiny.at(128);
        assert_eq!((larger.image, larger.learnt_at), (128, Some(64)));
        assert_eq!(larger.at(256).learnt_at, Some(64));
        assert_eq!(larger.at(64), tiny);
        let text = serde_json::to_string(&tiny).unwrap();
        assert!(!text.contains("learnt_at"), "models of before are written as before: {text}");
    }

    /// What would break: every box of a larger input as many times too large.
    #[test]
    fn sizes_are_told_in_shares_of_the_view() {
        let params = Params::new(&Device::Cpu, 3);
        let picture: Vec<f32> = (0..128 * 128 * 3).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let picture = Tensor::from_vec(picture, (1, 128, 128, 3), &Device::Cpu).unwrap();
        let spots = |config: &Config| host(&vision(&mut Candle::evaluating(&params), config, &picture).unwrap().spots);
        let plain = spots(&Config { image: 128, ..Config::tiny() });
        for (at, (was, is)) in plain.iter().zip(spots(&Config::tiny().at(128))).enumerate() {
            let smaller = if [3, 4].contains(&(at % SPOT)) { 2f32.ln() } else { 0.0 };
            assert!((was - is - smaller).abs() < 1e-4, "{at}: {was} {is}");
        }
    }

    /// What would break: answers that depend on how finely a picture is cut into tokens.
    #[test]
    fn tokens_that_stand_four_times_are_looked_at_as_once() {
        // In one layer, words read image tokens as they come.
        let config = Config { language_layers: 1, ..Config::tiny() };
        let params = Params::new(&Device::Cpu, 3);
        let width = config.language_width;
        let token = |at: usize| (0..width).map(move |i| (((at * width + i) * 31) % 17) as f32 / 8.0 - 1.0);
        let said = |config: &Config, times: usize| {
            let count = config.token_side().pow(2);
            let values: Vec<f32> = (0..count).flat_map(|at| token(at / times)).collect();
            let tokens = Tensor::from_vec(values, (1, count, width), &Device::Cpu).unwrap();
            let packed = pack(&[vec![vec![40, 41, 1, 2]]], count, 0, None);
            let packed = packed.tensors(width / config.heads, &Device::Cpu).unwrap();
            host(&language(&mut Candle::evaluating(&params), config, &tokens, &packed).unwrap().seg)
        };
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let once = said(&config, 1);
        let balanced = apart(&once, &said(&config.at(128), 4));
        let unbalanced = apart(&once, &said(&Config { image: 128, ..config.clone() }, 4));
        assert!(balanced < 1e-4 && unbalanced > 10.0 * balanced.max(1e-5), "{balanced} {unbalanced}");
    }
}
