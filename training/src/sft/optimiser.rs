//! AdamW over plain arrays, with clipping by the whole gradient's norm and an average of the parameters.

use candle_core::{Tensor, Var};
use kestrel_models::candle::Params;

use super::Result;
use super::recipe::Optimiser;

const EPSILON: f32 = 1e-8;
/// Root mean square of a fresh layer's weights, roughly: what the learning rate is meant for.
const FRESH_SIZE: f32 = 0.1;
/// Bounds of a pretrained layer's size beside a fresh one's.
const LEAST_SIZE: f32 = 0.01;
const MOST_SIZE: f32 = 3.0;

/// A parameter with its optimiser state.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Full name.
    pub name: String,
    /// The parameter as the model sees it.
    pub var: Var,
    /// Its values.
    pub value: Vec<f32>,
    /// Mean of the gradient.
    pub mean: Vec<f32>,
    /// Mean of the gradient's square.
    pub square: Vec<f32>,
    /// Average of the values over steps.
    pub average: Vec<f32>,
    /// How often it was updated: a thawed parameter starts its bias correction then.
    pub updates: u32,
}

impl Slot {
    fn new(name: String, var: Var) -> Result<Self> {
        let value = var.as_tensor().flatten_all()?.to_vec1::<f32>()?;
        let zeros = vec![0.0; value.len()];
        Ok(Self { name, var, mean: zeros.clone(), square: zeros, average: value.clone(), value, updates: 0 })
    }

    /// Vectors (biases, norms) and learned tokens are not pulled to zero.
    fn decays(&self) -> bool {
        self.var.dims().len() > 1 && self.name.ends_with(".weight")
    }

    /// Share of the learning rate. A pretrained layer with batch norm folded in has weights of a size of its own, often
    /// a fifth of a fresh layer's: a step of one size for all would rewrite the small ones within a hundred steps. Its
    /// steps are relative to its size (Shazeer & Stern, Adafactor, arXiv 1804.04235).
    fn share(&self, settings: &Optimiser) -> f32 {
        if !self.name.starts_with("trunk.") {
            return 1.0;
        }
        let squares: f64 = norm_square(&self.value);
        let size = (squares / self.value.len().max(1) as f64).sqrt() as f32;
        settings.trunk_share * (size / FRESH_SIZE).clamp(LEAST_SIZE, MOST_SIZE)
    }

    /// Gives the model the values.
    pub(super) fn publish(&self) -> Result<()> {
        let tensor = Tensor::from_slice(&self.value, self.var.dims(), self.var.device())?;
        Ok(self.var.set(&tensor)?)
    }
}

/// The state of AdamW.
#[derive(Debug)]
pub struct AdamW {
    /// The parameters that may move, sorted by name.
    pub slots: Vec<Slot>,
    settings: Optimiser,
    /// Steps done.
    pub steps: u32,
}

impl AdamW {
    /// A fresh state for all parameters that are not frozen.
    ///
    /// # Errors
    /// When candle cannot read a parameter.
    pub fn new(params: &Params, settings: &Optimiser) -> Result<Self> {
        let slots = params.vars().into_iter().map(|(name, var)| Slot::new(name, var)).collect::<Result<_>>()?;
        Ok(Self { slots, settings: settings.clone(), steps: 0 })
    }

    /// Empty sums, one array for each slot that `frozen` does not name.
    pub fn sums(&self, frozen: &[String]) -> Vec<Vec<f32>> {
        let moves = |slot: &Slot| !frozen.iter().any(|prefix| slot.name.starts_with(prefix.as_str()));
        self.slots.iter().map(|s| if moves(s) { vec![0.0; s.value.len()] } else { Vec::new() }).collect()
    }

    /// The averages of all parameters.
    pub fn averages(&self) -> Vec<super::checkpoint::Parameter> {
        self.slots.iter().map(|s| (s.name.clone(), s.var.dims().to_vec(), s.average.clone())).collect()
    }

    /// One step along `sums · scale`; an empty array leaves its parameter alone. Gives the norm before clipping.
    ///
    /// # Errors
    /// When candle cannot set a parameter.
    pub fn step(&mut self, sums: &[Vec<f32>], scale: f32, rate: f32) -> Result<f32> {
        let squares: f64 = sums.iter().map(|sum| norm_square(sum)).sum();
        let norm = squares.sqrt() as f32 * scale;
        if !norm.is_finite() {
            return Ok(norm);
        }
        let clip = scale * (self.settings.clip_norm / norm.max(1e-12)).min(1.0);
        self.steps += 1;
        let settings = &self.settings;
        let average = settings.average_decay.min((1.0 + self.steps as f32) / (10.0 + self.steps as f32));
        for (slot, sum) in self.slots.iter_mut().zip(sums).filter(|(_, sum)| !sum.is_empty()) {
            slot.updates += 1;
            let rate = rate * slot.share(settings);
            let updates = slot.updates as i32;
            let update = Update {
                clip,
                beta1: settings.beta1,
                beta2: settings.beta2,
                rate: rate / (1.0 - settings.beta1.powi(updates)),
                correct: 1.0 / (1.0 - settings.beta2.powi(updates)),
                keep: 1.0 - if slot.decays() { rate * settings.weight_decay } else { 0.0 },
                average,
            };
            update.apply(slot, sum);
            slot.publish()?;
        }
        Ok(norm)
    }
}

fn norm_square(values: &[f32]) -> f64 {
    values.chunks(4096).map(|chunk| f64::from(chunk.iter().map(|x| x * x).sum::<f32>())).sum()
}

struct Update {
    clip: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    correct: f32,
    keep: f32,
    average: f32,
}

impl Update {
    fn apply(&self, slot: &mut Slot, sum: &[f32]) {
        let moments = slot.mean.iter_mut().zip(&mut slot.square);
        let values = slot.value.iter_mut().zip(&mut slot.average);
        for (((mean, square), (value, average)), gradient) in moments.zip(values).zip(sum) {
            let gradient = gradient * self.clip;
            *mean = self.beta1 * *mean + (1.0 - self.beta1) * gradient;
            *square = self.beta2 * *square + (1.0 - self.beta2) * gradient * gradient;
            *value = *value * self.keep - self.rate * *mean / ((*square * self.correct).sqrt() + EPSILON);
            *average = self.average * *average + (1.0 - self.average) * *value;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn params() -> Params {
        let params = Params::new(&Device::Cpu, 1);
        params.insert("a.weight", &Tensor::new(&[[1f32, -2.0], [3.0, 0.5]], &Device::Cpu).unwrap()).unwrap();
        params.insert("trunk.b.bias", &Tensor::new(&[1f32], &Device::Cpu).unwrap()).unwrap();
        params
    }

    #[test]
    fn the_first_step_is_the_rate_along_the_sign_and_decay_is_decoupled() {
        let params = params();
        let settings = Optimiser { weight_decay: 0.1, trunk_share: 0.5, clip_norm: 1e9, ..Optimiser::default() };
        let mut adam = AdamW::new(&params, &settings).unwrap();
        let norm = adam.step(&[vec![6.0, -6.0, 0.0, 2.0], vec![4.0]], 0.5, 0.01).unwrap();
        assert!((norm - (9.0f32 + 9.0 + 1.0 + 4.0).sqrt()).abs() < 1e-5);
        let a = &adam.slots[0].value;
        let expected = [0.999 - 0.01, -1.998 + 0.01, 2.997, 0.4995 - 0.01];
        assert!(a.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-5), "{a:?}");
        let expected = 1.0 - 0.5 * MOST_SIZE * 0.01;
        assert!((adam.slots[1].value[0] - expected).abs() < 1e-6, "relative to its size, no decay for a trunk's bias");
        let seen = params.tensors()["a.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(&seen, a, "the model sees the new values");
    }

    #[test]
    fn clipping_bounds_the_gradient_and_frozen_slots_do_not_move() {
        let mut adam = AdamW::new(&params(), &Optimiser { clip_norm: 1.0, ..Optimiser::default() }).unwrap();
        let mut sums = adam.sums(&["trunk.".to_owned()]);
        assert!(sums[1].is_empty());
        sums[0] = vec![300.0, 400.0, 0.0, 0.0];
        assert!((adam.step(&sums, 1.0, 0.01).unwrap() - 500.0).abs() < 1e-3);
        assert!((adam.slots[0].mean[0] - 0.1 * 0.6).abs() < 1e-5);
        assert_eq!((adam.slots[1].value[0], adam.slots[1].updates), (1.0, 0));
    }

    #[test]
    fn a_broken_gradient_changes_nothing() {
        let mut adam = AdamW::new(&params(), &Optimiser::default()).unwrap();
        let before = adam.slots[0].value.clone();
        assert!(!adam.step(&[vec![f32::NAN; 4], vec![0.0]], 1.0, 0.01).unwrap().is_finite());
        assert_eq!(adam.slots[0].value, before);
    }
}
