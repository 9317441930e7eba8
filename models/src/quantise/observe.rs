//! Notes the range of every tensor that a quantised graph would round.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use super::Histogram;
use crate::candle::Places;
use crate::error::Result;

/// What was observed at each place.
pub type Observed = BTreeMap<String, Histogram>;

/// Watches passes of [`crate::candle::Candle`]; several threads may share one, and what it holds in the end does not
/// depend on which of them came first.
#[derive(Debug, Default)]
pub struct Observer {
    seen: Mutex<Observed>,
    kernels: Mutex<BTreeMap<String, Vec<usize>>>,
}

impl Observer {
    /// What was seen so far.
    pub fn seen(&self) -> Observed {
        locked(&self.seen).clone()
    }

    /// Shapes of the kernels of the layers that were passed, as candle has them.
    pub fn kernels(&self) -> BTreeMap<String, Vec<usize>> {
        locked(&self.kernels).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places for Observer {
    fn activation(&self, place: &str, x: &Tensor) -> Result<Tensor> {
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        locked(&self.seen).entry(place.to_owned()).or_default().add(place, &values)?;
        Ok(x.clone())
    }

    fn kernel(&self, layer: &str, weight: &Tensor, _: usize) -> Result<Tensor> {
        locked(&self.kernels).entry(layer.to_owned()).or_insert_with(|| weight.dims().to_vec());
        Ok(weight.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::candle::{Candle, Params};
    use crate::ops::{Act, Conv, Ops};

    fn numbers(from: f32, count: usize, shape: (usize, usize, usize, usize)) -> Tensor {
        Tensor::from_vec((0..count).map(|i| from + i as f32).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn ranges_are_those_of_the_tensors_that_layers_read() {
        let (params, observer) = (Params::new(&Device::Cpu, 3), Observer::default());
        let conv = Conv { kernel: 3, stride: 1, act: Act::Relu6 };
        let plain = |x: &Tensor, ops: &mut Candle<'_>| ops.conv(x, "first", 4, conv).unwrap();
        for from in [-7.0, 2.0] {
            let x = numbers(from, 32, (1, 4, 4, 2));
            let mut ops = Candle::evaluating(&params).with_places(&observer);
            let y = plain(&x, &mut ops);
            // Watching changes nothing.
            let alone = plain(&x, &mut Candle::evaluating(&params));
            let apart = (&y - &alone).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert_eq!(apart, 0.0);
            let z = ops.depthwise(&y, "second", conv).unwrap();
            ops.residual(&z, &y, "second").unwrap();
        }
        let seen = observer.seen();
        let first = &seen["first"];
        assert_eq!((first.min, first.max, first.values), (-7.0, 33.0, 64));
        let second = &seen["second"];
        assert!(second.is_never_negative() && second.max <= 6.0 && second.values == 128);
        assert_eq!(seen["second/residual"], *second);
        assert_eq!(observer.kernels()["first"], [4, 3, 3, 2]);
        assert_eq!(observer.kernels()["second"], [3, 3, 4]);
    }

    #[test]
    fn a_broken_activation_names_its_place() {
        let (params, observer) = (Params::new(&Device::Cpu, 3), Observer::default());
        let x = Tensor::new(&[[[1.0f32, f32::NAN]]], &Device::Cpu).unwrap();
        let mut ops = Candle::evaluating(&params).with_places(&observer);
        let error = ops.linear(&x, "language.head", 2, false, Act::None).unwrap_err().to_string();
        assert!(error.contains("language.head") && error.contains("finite"), "{error}");
    }
}
