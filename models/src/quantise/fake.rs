//! Rounds in candle as the quantised graph will.

use std::borrow::Borrow;
use std::fmt::Debug;

use candle_core::Tensor;

use super::Scheme;
use crate::candle::{Places, round_activation, round_kernel};
use crate::error::{Error, Result};

/// Rounds kernels and activations at the places of a scheme; the gradient goes straight through (zero where an activation
/// is beyond its range), so that fine-tuning learns weights that bear the rounding.
#[derive(Debug, Clone)]
pub struct FakeQuant<S>(
    /// Where and how: a [`Scheme`], or a reference to one.
    pub S,
);

impl<S: Borrow<Scheme> + Debug + Sync> Places for FakeQuant<S> {
    fn activation(&self, place: &str, x: &Tensor) -> Result<Tensor> {
        match Borrow::<Scheme>::borrow(&self.0).at(place) {
            Some(rounding) => Ok(round_activation(x, rounding)?),
            None => Ok(x.clone()),
        }
    }

    fn kernel(&self, layer: &str, weight: &Tensor, axis: usize) -> Result<Tensor> {
        let scheme = Borrow::<Scheme>::borrow(&self.0);
        if !scheme.layers.contains_key(layer) {
            return Ok(weight.clone());
        }
        round_kernel(weight, axis, scheme.target.kernel_levels()).map_err(|error| Error::Format {
            path: format!("{layer}.weight"),
            expected: "finite values to quantise".into(),
            got: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::BTreeSet;

    use candle_core::Device;

    use super::*;
    use crate::candle::{Candle, Params};
    use crate::ops::{Act, Conv, Ops};
    use crate::quantise::{Method, Observer, Target, kernel};

    fn input() -> Tensor {
        let values: Vec<f32> = (0..2 * 16 * 16 * 16).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * 1.7).collect();
        Tensor::from_vec(values, (2, 16, 16, 16), &Device::Cpu).unwrap()
    }

    fn block(ops: &mut impl Ops<T = Tensor>, x: &Tensor) -> Tensor {
        let y = ops.linear(x, "expand", 32, true, Act::Relu6).unwrap();
        let y = ops.depthwise(&y, "depthwise", Conv { kernel: 3, stride: 1, act: Act::Relu6 }).unwrap();
        let y = ops.linear(&y, "project", 16, true, Act::None).unwrap();
        ops.residual(&y, x, "project").unwrap()
    }

    fn scheme(params: &Params, target: Target) -> Scheme {
        let observer = Observer::default();
        block(&mut Candle::evaluating(params).with_places(&observer), &input());
        Scheme::of(&observer, target, Method::MinMax, &BTreeSet::new()).unwrap()
    }

    fn largest(x: &Tensor) -> f32 {
        x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn rounding_moves_the_result_a_little_and_not_at_all_where_nothing_is_rounded() {
        let params = Params::new(&Device::Cpu, 5);
        let whole = block(&mut Candle::evaluating(&params), &input());
        for target in [Target::TensorRt, Target::Cpu] {
            let scheme = scheme(&params, target);
            let places = FakeQuant(&scheme);
            let rounded = block(&mut Candle::evaluating(&params).with_places(&places), &input());
            let apart = largest(&(&rounded - &whole).unwrap()) / largest(&whole);
            assert!(apart > 1e-5 && apart < 0.08, "{target:?}: {apart}");
            let none = scheme.only(&BTreeSet::new());
            let places = FakeQuant(&none);
            let plain = block(&mut Candle::evaluating(&params).with_places(&places), &input());
            assert_eq!(largest(&(&plain - &whole).unwrap()), 0.0);
        }
    }

    #[test]
    fn kernels_are_those_that_the_graph_stores() {
        for (shape, axis, inner) in [([4, 3, 3, 5], 0, 45), ([3, 3, 4, 5], 3, 1)] {
            let values: Vec<f32> =
                (0..shape.iter().product::<usize>()).map(|i| ((i * 29 % 83) as f32 - 41.0) * 0.01).collect();
            let weight = Tensor::from_slice(&values, &shape, &Device::Cpu).unwrap();
            let rounded = round_kernel(&weight, axis, 127).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let stored = kernel("w", &values, shape[axis], inner, 127).unwrap();
            for (i, (a, code)) in rounded.iter().zip(&stored.codes).enumerate() {
                assert_eq!(*a, f32::from(*code) * stored.scales[i / inner % shape[axis]]);
            }
        }
    }

    #[test]
    fn gradients_go_through_and_stop_beyond_the_range() {
        let params = Params::new(&Device::Cpu, 5);
        let scheme = scheme(&params, Target::TensorRt);
        let places = FakeQuant(&scheme);
        let y = block(&mut Candle::new(&params).with_places(&places), &input());
        let grads = y.sqr().unwrap().mean_all().unwrap().backward().unwrap();
        for (name, var) in params.vars() {
            let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{name} gets no gradient"));
            let most = largest(grad);
            assert!(most.is_finite() && most > 0.0, "{name}: {most}");
        }
        let rounding = crate::quantise::Rounding { scale: 0.01, unsigned: false };
        let x = candle_core::Var::new(&[-5.0f32, -1.0, 0.004, 1.0, 5.0], &Device::Cpu).unwrap();
        let y = round_activation(x.as_tensor(), rounding).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap()[2], 0.0);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(x.as_tensor()).unwrap().to_vec1::<f32>().unwrap(), [0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    /// What would break: fine-tuning that learns for the whole model while it says that it learns for the rounded one.
    #[test]
    fn parameters_carry_the_rounding_into_every_pass() {
        let mut params = Params::new(&Device::Cpu, 5);
        let scheme = scheme(&params, Target::TensorRt);
        let places = FakeQuant(&scheme);
        let rounded = block(&mut Candle::evaluating(&params).with_places(&places), &input());
        let mut others = Params::from_tensors(params.tensors()).unwrap();
        params.set_places(FakeQuant(scheme.clone()));
        others.set_places_of(&params);
        for params in [&params, &others] {
            let again = block(&mut Candle::new(params), &input());
            assert_eq!(largest(&(&again - &rounded).unwrap()), 0.0);
        }
    }

    #[test]
    fn a_weight_that_is_no_number_is_named() {
        let params = Params::new(&Device::Cpu, 5);
        let scheme = scheme(&params, Target::TensorRt);
        params.insert("expand.weight", &Tensor::full(f32::NAN, (32, 16), &Device::Cpu).unwrap()).unwrap();
        let places = FakeQuant(&scheme);
        let x = input();
        let mut ops = Candle::evaluating(&params).with_places(&places);
        let error = ops.linear(&x, "expand", 32, true, Act::None).unwrap_err().to_string();
        assert!(error.contains("expand.weight"), "{error}");
    }
}
