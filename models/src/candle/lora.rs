//! Low-rank adapters (Hu et al., LoRA, arXiv 2106.09685): `W + (α/r)·B·A`, with W frozen.
//!
//! The sum is made when the definition asks for the weight, so a definition does not know of adapters: for matrices of
//! our size making it costs little beside using it.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{Params, binary};
use crate::error::Result;
use crate::ops::Init;

const DOWN: &str = ".lora_a";
const UP: &str = ".lora_b";

/// The adapters of some matrices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lora {
    /// r: rows of A, columns of B.
    pub rank: usize,
    /// α: the sum is scaled by α/r.
    pub alpha: f32,
}

impl Lora {
    fn scale(self) -> f64 {
        f64::from(self.alpha) / self.rank.max(1) as f64
    }

    /// The matrix, which is frozen and gets no gradient, with its adapter.
    pub(super) fn applied(self, weight: &Tensor, down: &Tensor, up: &Tensor) -> candle_core::Result<Tensor> {
        binary::add(weight, &(binary::matmul(up, down)? * self.scale())?)
    }
}

/// Name of the parameter A of a matrix.
pub(super) fn down_name(matrix: &str) -> String {
    format!("{matrix}{DOWN}")
}

/// Name of the parameter B of a matrix.
pub(super) fn up_name(matrix: &str) -> String {
    format!("{matrix}{UP}")
}

impl Params {
    /// Gives adapters to all present matrices (`….weight`, two axes) for which `wanted` holds, and tells how many.
    ///
    /// A begins small and random, B as zero: the model first computes what it did.
    ///
    /// # Errors
    /// When a parameter cannot be made.
    pub fn adapt(&self, wanted: impl Fn(&str) -> bool, lora: Lora) -> Result<usize> {
        let matrices: Vec<(String, usize, usize)> = self
            .tensors()
            .iter()
            .filter(|(name, tensor)| name.ends_with(".weight") && tensor.rank() == 2 && wanted(name))
            .map(|(name, tensor)| (name.clone(), tensor.dims()[0], tensor.dims()[1]))
            .collect();
        for (name, out, inputs) in &matrices {
            let spread = Init::Normal(1.0 / (*inputs as f32).sqrt());
            self.make(&down_name(name), &[lora.rank, *inputs], spread)?;
            self.make(&up_name(name), &[*out, lora.rank], Init::Zeros)?;
            self.set_adapter(name, lora);
        }
        Ok(matrices.len())
    }
}

/// Plain parameters from those of an adapted model: every matrix with its adapter added, the adapters themselves gone.
///
/// # Errors
/// When shapes do not fit each other.
pub fn merge(mut tensors: HashMap<String, Tensor>, lora: Lora) -> Result<HashMap<String, Tensor>> {
    let matrices: Vec<String> = tensors.keys().filter_map(|name| name.strip_suffix(DOWN)).map(str::to_owned).collect();
    for name in matrices {
        let (down, up) = (tensors.remove(&down_name(&name)), tensors.remove(&up_name(&name)));
        if let (Some(down), Some(up), Some(weight)) = (down, up, tensors.get(&name)) {
            let merged = lora.applied(weight, &down, &up)?;
            tensors.insert(name, merged);
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    const LORA: Lora = Lora { rank: 2, alpha: 4.0 };

    fn adapted() -> Params {
        let params = Params::new(&Device::Cpu, 3);
        for (name, shape) in [("a.weight", vec![4, 3]), ("b.weight", vec![4, 3]), ("a.bias", vec![4])] {
            params.insert(name, &Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        }
        assert_eq!(params.adapt(|name| name.starts_with("a."), LORA).unwrap(), 1, "matrices only");
        params
    }

    fn weight(params: &Params) -> Tensor {
        params.get("a.weight", &[4, 3], Init::Zeros, false).unwrap()
    }

    #[test]
    fn it_begins_as_the_model_and_only_the_adapter_gets_a_gradient() {
        let params = adapted();
        let w = weight(&params);
        assert_eq!(w.to_vec2::<f32>().unwrap(), [[1.0; 3]; 4]);
        let grads = (&w * &w).unwrap().sum_all().unwrap().backward().unwrap();
        let vars: HashMap<String, _> = params.vars().into_iter().collect();
        // A matrix that an optimiser knew would be pulled to zero by its weight decay, gradient or not.
        assert!(!vars.contains_key("a.weight") && vars.contains_key("b.weight"), "the matrix is frozen");
        assert!(grads.get(vars["a.weight.lora_b"].as_tensor()).is_some());
    }

    #[test]
    fn merging_gives_what_the_adapted_model_computed() {
        let params = adapted();
        let up = Tensor::new(&[[1f32, 0.0], [0.0, 2.0], [1.0, 1.0], [0.5, 0.0]], &Device::Cpu).unwrap();
        params.insert("a.weight.lora_b", &up).unwrap();
        let merged = merge(params.tensors(), LORA).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&merged["a.weight"]), values(&weight(&params)));
        assert_eq!(merged.len(), 3);
        assert_ne!(values(&merged["a.weight"]), [1.0; 12]);
    }
}
