//! How far rounding moves the model's answers.

use std::collections::BTreeSet;

use candle_core::Tensor;
use kestrel_link::AnswerTokens;
use kestrel_models::candle::{Candle, Params};
use kestrel_models::kestrel::pack::pack;
use kestrel_models::kestrel::{Config, Masks, Said, Seen, language, mask, vision};
use kestrel_models::quantise::{FakeQuant, Scheme};
use kestrel_perception::AnswerLogits;
use kestrel_perception::policy::presence_features;
use kestrel_training::sft::propose;
use serde::Serialize;

use super::{Prepared, RangesError, Result};

/// Cells of a mask below which its IoU says little.
pub(super) const SMALLEST_MASK: usize = 16;
/// Layers of the vision graph, by the first parts of their names.
const VISION: [&str; 4] = ["trunk.", "neck.", "projector.", "proposals."];

/// What the model says to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What the presence logit is made of: silence of the answers, object logit, IoU logit.
    pub features: [f32; 3],
    /// Mask logits at stride 4, row-major.
    pub mask: Vec<f32>,
}

/// How far answers moved, over the questions of all frames.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shift {
    /// Mean change of the presence logit, irrespective of its sign.
    pub presence: f64,
    /// Mean change of the presence logit: below zero the model grows quiet.
    pub presence_bias: f64,
    /// Largest change of the presence logit.
    pub presence_most: f64,
    /// One less the mean IoU of the masks with those of the whole model, over masks of 16 cells or more.
    pub mask: f64,
    /// Questions.
    pub questions: usize,
}

/// How far answers may move.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    /// For [`Shift::presence`], in logits.
    pub presence: f64,
    /// For [`Shift::mask`].
    pub mask: f64,
}

impl Bounds {
    /// The larger part of a bound that a shift uses up: 1 is the bound itself.
    pub fn used(&self, shift: &Shift) -> f64 {
        (shift.presence / self.presence).max(shift.mask / self.mask)
    }
}

/// The whole model's answers, against which schemes are measured.
pub struct Bench<'a> {
    params: &'a Params,
    config: &'a Config,
    frames: &'a [Prepared],
    answers: AnswerTokens,
    /// Weights of the presence logit.
    presence: [f32; 3],
    seen: Vec<Seen<Tensor>>,
    whole: Vec<Reply>,
}

impl<'a> Bench<'a> {
    /// Asks the whole model.
    ///
    /// # Errors
    /// When it fails or says what is no number.
    pub fn new(
        params: &'a Params,
        config: &'a Config,
        frames: &'a [Prepared],
        answers: AnswerTokens,
        presence: [f32; 3],
    ) -> Result<Self> {
        let mut bench = Self { params, config, frames, answers, presence, seen: Vec::new(), whole: Vec::new() };
        for frame in frames {
            let seen = see(Candle::evaluating(params), config, frame)?;
            let replies = bench.replies(Candle::evaluating(params), frame, &seen)?;
            bench.whole.extend(replies);
            bench.seen.push(seen);
        }
        Ok(bench)
    }

    /// Measures a scheme with only `layers` rounded.
    ///
    /// # Errors
    /// When the model fails or says what is no number.
    pub fn measure(&self, scheme: &Scheme, layers: &BTreeSet<String>) -> Result<Shift> {
        let scheme = scheme.only(layers);
        let places = FakeQuant(&scheme);
        let ops = || Candle::evaluating(self.params).with_places(&places);
        // Where nothing in the vision graph is rounded, what the whole model saw stands.
        let looks = layers.iter().any(|layer| VISION.iter().any(|part| layer.starts_with(part)));
        let mut rounded = Vec::with_capacity(self.whole.len());
        for (frame, seen) in self.frames.iter().zip(&self.seen) {
            let replies = match looks {
                true => self.replies(ops(), frame, &see(ops(), self.config, frame)?)?,
                false => self.replies(ops(), frame, seen)?,
            };
            rounded.extend(replies);
        }
        Ok(shift(&self.whole, &rounded, &self.presence))
    }

    fn replies(&self, ops: Candle<'_>, frame: &Prepared, seen: &Seen<Tensor>) -> Result<Vec<Reply>> {
        let (said, shown) = say(ops, self.config, self.answers.pad, frame, seen)?;
        let count = frame.questions.len();
        let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        let (logits, pixels) = (numbers(&said.logits)?, numbers(&shown.mask)?);
        let (objects, ious) = (numbers(&shown.object)?, numbers(&shown.iou)?);
        let (row, cells) = (logits.len() / count, pixels.len() / count);
        let mut replies = Vec::with_capacity(count);
        for i in 0..count {
            let answers = AnswerLogits::read(&logits[i * row..(i + 1) * row], &self.answers)?;
            let features = presence_features(&answers, objects[i], ious[i]);
            let mask = pixels[i * cells..(i + 1) * cells].to_vec();
            if let Some(&got) = features.iter().chain(&mask).find(|value| !value.is_finite()) {
                return Err(RangesError::NotFinite { what: "the model's answers", got });
            }
            replies.push(Reply { features, mask });
        }
        Ok(replies)
    }
}

/// The vision graph's part of a pass.
///
/// # Errors
/// When the model fails.
pub fn see(mut ops: Candle<'_>, config: &Config, frame: &Prepared) -> Result<Seen<Tensor>> {
    Ok(vision(&mut ops, config, &frame.image)?)
}

/// The rest of a pass: all questions about what was seen, with the proposals that the drone would pick.
///
/// # Errors
/// When the model fails or saw what is no number.
pub fn say(
    mut ops: Candle<'_>,
    config: &Config,
    pad: u32,
    frame: &Prepared,
    seen: &Seen<Tensor>,
) -> Result<(Said<Tensor>, Masks<Tensor>)> {
    let count = frame.questions.len();
    let packed = pack(std::slice::from_ref(&frame.questions), config.token_side().pow(2), pad, None);
    let packed = packed.tensors(config.language_width / config.heads, frame.image.device())?;
    let said = language(&mut ops, config, &seen.tokens, &packed)?;
    let seg = said.seg.reshape((count, 1, config.mask_width))?;
    let proposals = propose::tensors(&mut ops, config, seen, &propose::found(seen, config)?)?;
    let shown = mask(&mut ops, config, seen, &proposals, &seg, count)?;
    Ok((said, shown))
}

/// How far replies moved from those of the whole model, for presence logits of these weights.
pub fn shift(whole: &[Reply], rounded: &[Reply], presence: &[f32; 3]) -> Shift {
    let logit = |reply: &Reply| -> f64 {
        reply.features.iter().zip(presence).map(|(feature, weight)| f64::from(feature * weight)).sum()
    };
    let (mut sum, mut bias, mut most, mut overlaps, mut masks) = (0.0, 0.0, 0.0_f64, 0.0, 0usize);
    for (a, b) in whole.iter().zip(rounded) {
        let moved = logit(b) - logit(a);
        sum += moved.abs();
        bias += moved;
        most = most.max(moved.abs());
        if a.mask.iter().filter(|z| **z > 0.0).count() >= SMALLEST_MASK {
            overlaps += iou(&a.mask, &b.mask);
            masks += 1;
        }
    }
    let questions = whole.len().min(rounded.len());
    let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
    Shift {
        presence: mean(sum, questions),
        presence_bias: mean(bias, questions),
        presence_most: most,
        mask: if masks == 0 { 0.0 } else { 1.0 - mean(overlaps, masks) },
        questions,
    }
}

/// IoU of the cells above zero; empty against empty is 1.
pub(super) fn iou(a: &[f32], b: &[f32]) -> f64 {
    let (mut both, mut either) = (0usize, 0usize);
    for (a, b) in a.iter().zip(b) {
        both += usize::from(*a > 0.0 && *b > 0.0);
        either += usize::from(*a > 0.0 || *b > 0.0);
    }
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;
    use kestrel_models::quantise::{Method, Target};

    use super::*;
    use crate::ranges::{FEWEST_FRAMES, observe};

    fn reply(presence: f32, on: usize) -> Reply {
        Reply { features: [-presence, 0.0, 0.0], mask: (0..64).map(|i| if i < on { 1.0 } else { -1.0 }).collect() }
    }

    #[test]
    fn shifts_are_those_of_presence_and_masks() {
        let whole = [reply(1.0, 32), reply(-2.0, 4)];
        let rounded = [reply(0.5, 24), reply(-2.0, 0)];
        let found = shift(&whole, &rounded, &[-1.0, 1.0, 0.0]);
        assert_eq!((found.presence, found.presence_bias, found.presence_most), (0.25, -0.25, 0.5));
        // The second mask is too small to count.
        assert!((found.mask - 0.25).abs() < 1e-9);
        let bounds = Bounds { presence: 0.5, mask: 0.125 };
        assert!((bounds.used(&found) - 2.0).abs() < 1e-9);
        let same = shift(&whole, &whole, &[-1.0, 1.0, 0.0]);
        assert_eq!((same.presence, same.mask, same.questions), (0.0, 0.0, 2));
        assert_eq!(shift(&[], &[], &[0.0; 3]).questions, 0);
    }

    fn frames(config: &Config, count: usize) -> Vec<Prepared> {
        let pixels = |frame: usize| {
            (0..config.image * config.image * 3).map(move |i| ((i * 7 + frame * 13) % 41) as f32 / 20.0 - 1.0)
        };
        let image = |frame| {
            let values: Vec<f32> = pixels(frame).collect();
            Tensor::from_vec(values, (1, config.image, config.image, 3), &Device::Cpu).unwrap()
        };
        let questions = vec![vec![40, 41, 300, 1, 2], vec![50, 1, 2]];
        (0..count).map(|frame| Prepared { image: image(frame), questions: questions.clone() }).collect()
    }

    const ANSWERS: AnswerTokens =
        AnswerTokens { seg: 2, absent: 3, ambiguous: 4, not_understood: 5, unseeable: 6, answer: 1, pad: 0 };

    #[test]
    fn one_frame_is_too_few_and_says_how_many_are_missing() {
        let (config, params) = (Config::tiny(), Params::new(&Device::Cpu, 3));
        let error = observe(&params, &config, &frames(&config, 1), 0, None, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("at least 8 frames, got 1") && error.contains("7 more"), "{error}");
    }

    #[test]
    fn rounding_nothing_moves_nothing_and_parts_move_less_than_all() {
        let (config, params) = (Config::tiny(), Params::new(&Device::Cpu, 3));
        let frames = frames(&config, FEWEST_FRAMES);
        let mut done = 0;
        let observer = observe(&params, &config, &frames, 0, None, &mut |count| done = count).unwrap();
        assert_eq!(done, FEWEST_FRAMES);
        let scheme = Scheme::of(&observer, Target::TensorRt, Method::LeastError(99.99), &BTreeSet::new()).unwrap();
        let bench = Bench::new(&params, &config, &frames[..2], ANSWERS, [-1.0, 1.0, 0.0]).unwrap();
        let none = bench.measure(&scheme, &BTreeSet::new()).unwrap();
        assert_eq!((none.presence, none.mask, none.questions), (0.0, 0.0, 4));
        let all = bench.measure(&scheme, &scheme.layers.keys().cloned().collect()).unwrap();
        assert!(all.presence > 0.0 && all.presence_most.is_finite(), "{all:?}");
        let words = scheme.layers.keys().filter(|layer| layer.starts_with("seg.")).cloned().collect();
        let part = bench.measure(&scheme, &words).unwrap();
        assert!(part.presence > 0.0, "{part:?}");
    }
}
