//! Frames and questions as the model takes them.

use candle_core::{Device, Tensor};
use kestrel_models::kestrel::Config;
use kestrel_models::tokenizer::QueryTokenizer;
use kestrel_perception::{Letterbox, Scratch, SpecialIds, View, layout};
use kestrel_training::sample::Sample;
use kestrel_training::sft::example::{normalised, special};
use ndarray::Array4;

use super::{RangesError, Result};

/// A frame and what is asked about it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Normalised pixels, `[1, S, S, 3]`.
    pub image: Tensor,
    /// Token ids of each question, up to `[SEG]`.
    pub questions: Vec<Vec<u32>>,
}

/// Prepares frames by the functions that fly.
#[derive(Debug)]
pub struct Preparer<'a> {
    config: &'a Config,
    tokenizer: &'a QueryTokenizer,
    special: SpecialIds,
    buffer: Array4<f32>,
    scratch: Scratch,
}

impl<'a> Preparer<'a> {
    /// For one model.
    pub fn new(config: &'a Config, tokenizer: &'a QueryTokenizer) -> Self {
        let buffer = Array4::zeros((1, 3, config.image, config.image));
        Self { config, tokenizer, special: special(tokenizer), buffer, scratch: Scratch::default() }
    }

    /// One frame with all its questions.
    ///
    /// # Errors
    /// When the picture cannot be resized, a text not be encoded, or nothing is asked.
    pub fn prepare(&mut self, sample: &Sample) -> Result<Prepared> {
        let (side, picture) = (self.config.image, &sample.picture);
        let pixels = normalised(side, picture, &mut self.buffer, &mut self.scratch)?;
        let (width, height) = picture.image.dimensions();
        let letterbox = Letterbox::new(View::whole(width, height), side as u32);
        let mut questions = Vec::with_capacity(sample.asks.len());
        for ask in &sample.asks {
            let words: Vec<u32> = self.tokenizer.encode(ask.text.trim())?.into_iter().map(|(id, _)| id).collect();
            let hint = ask.hint.as_ref().and_then(|hint| letterbox.hint(hint, width, height));
            let laid = layout(&words, hint.as_ref(), &self.special, self.config.max_tokens);
            questions.push(laid.ids[..laid.used()].iter().map(|&id| id as u32).collect());
        }
        if questions.is_empty() {
            return Err(RangesError::NoQuestion { frame: picture.origin.frame.clone() });
        }
        let image = Tensor::from_vec(pixels, (1, side, side, 3), &Device::Cpu)?;
        Ok(Prepared { image, questions })
    }
}
