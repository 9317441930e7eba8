//! Counts what a model costs: the interpreter of [`Ops`] that computes nothing but shapes.
//!
//! What a pass multiplies, what it keeps for its backward pass and how many parameters it reads are known before the
//! first byte is allocated.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Init, Ops};

/// A tensor here: its logical shape.
pub type Extents = Vec<usize>;

/// Counts of everything that was interpreted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Elements of every parameter that was read, by its full name.
    pub parameters: BTreeMap<String, u64>,
    /// Multiplications with an addition: of convolutions, affine maps, attention and products of matrices.
    pub macs: u64,
    /// Elements of all results. A backward pass reads them, so training keeps them all.
    pub results: u64,
    /// Elements inside operations: patches of dense convolutions, scores of attention.
    pub inner: u64,
}

impl Cost {
    /// Elements of all parameters that were read.
    pub fn parameters(&self) -> u64 {
        self.parameters.values().sum()
    }

    fn gives(&mut self, shape: Extents) -> Extents {
        self.results += elements(&shape);
        shape
    }

    fn read(&mut self, name: &str, shape: &[usize]) {
        self.parameters.insert(name.to_owned(), elements(shape));
    }

    /// The result of a convolution, and how many numbers each of its elements is made of.
    fn convolved(&mut self, operation: &'static str, x: &[usize], conv: Conv, out: usize) -> Result<Extents> {
        let [n, h, w, _] = four(operation, x)?;
        Ok(self.gives(vec![n, h.div_ceil(conv.stride.max(1)), w.div_ceil(conv.stride.max(1)), out]))
    }

    fn broadcast(&mut self, operation: &'static str, a: &[usize], b: &[usize]) -> Result<Extents> {
        let fits = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || *a == 1 || *b == 1);
        if !fits {
            return Err(wrong(operation, &format!("a shape that broadcasts with {a:?}"), b));
        }
        Ok(self.gives(a.iter().zip(b).map(|(a, b)| *a.max(b)).collect()))
    }
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|side| *side as u64).product()
}

fn wrong(operation: &'static str, expected: &str, got: &[usize]) -> Error {
    Error::Shape { operation, name: String::new(), expected: expected.to_owned(), got: got.to_vec() }
}

fn four(operation: &'static str, x: &[usize]) -> Result<[usize; 4]> {
    x.try_into().map_err(|_| wrong(operation, "a map [N, H, W, C]", x))
}

fn three(operation: &'static str, x: &[usize]) -> Result<[usize; 3]> {
    x.try_into().map_err(|_| wrong(operation, "rows [N, L, D]", x))
}

fn last(x: &[usize]) -> usize {
    x.last().copied().unwrap_or(1)
}

impl Ops for Cost {
    type T = Extents;

    fn shape(&self, x: &Extents) -> Vec<usize> {
        x.clone()
    }

    fn parameter(&mut self, name: &str, shape: &[usize], _: Init) -> Result<Extents> {
        self.read(name, shape);
        Ok(shape.to_vec())
    }

    fn constant(&mut self, _: &[f32], shape: &[usize]) -> Result<Extents> {
        Ok(self.gives(shape.to_vec()))
    }

    fn conv(&mut self, x: &Extents, name: &str, out: usize, conv: Conv) -> Result<Extents> {
        let (y, channels) = (self.convolved("conv", x, conv, out)?, last(x));
        self.read(&format!("{name}.weight"), &[out, conv.kernel, conv.kernel, channels]);
        self.read(&format!("{name}.bias"), &[out]);
        let patch = (conv.kernel * conv.kernel * channels) as u64;
        self.macs += elements(&y) * patch;
        self.inner += elements(&y[..3]) * patch;
        Ok(y)
    }

    fn depthwise(&mut self, x: &Extents, name: &str, conv: Conv) -> Result<Extents> {
        let channels = last(x);
        let y = self.convolved("depthwise", x, conv, channels)?;
        self.read(&format!("{name}.weight"), &[conv.kernel, conv.kernel, channels]);
        self.read(&format!("{name}.bias"), &[channels]);
        self.macs += elements(&y) * (conv.kernel * conv.kernel) as u64;
        Ok(y)
    }

    fn linear(&mut self, x: &Extents, name: &str, out: usize, bias: bool, _: Act) -> Result<Extents> {
        self.read(&format!("{name}.weight"), &[out, last(x)]);
        if bias {
            self.read(&format!("{name}.bias"), &[out]);
        }
        self.macs += elements(x) * out as u64;
        let mut shape = x.clone();
        if let Some(side) = shape.last_mut() {
            *side = out;
        }
        Ok(self.gives(shape))
    }

    fn upsample_nearest(&mut self, x: &Extents, factor: usize) -> Result<Extents> {
        let [n, h, w, c] = four("upsample_nearest", x)?;
        Ok(self.gives(vec![n, h * factor, w * factor, c]))
    }

    fn to_rows(&mut self, x: &Extents) -> Result<Extents> {
        let [n, h, w, c] = four("to_rows", x)?;
        Ok(vec![n, h * w, c])
    }

    fn to_map(&mut self, x: &Extents, height: usize, width: usize) -> Result<Extents> {
        let [n, length, d] = three("to_map", x)?;
        if length != height * width {
            return Err(wrong("to_map", &format!("{height} × {width} rows"), x));
        }
        Ok(vec![n, height, width, d])
    }

    fn embedding(&mut self, ids: &Extents, name: &str, vocabulary: usize, dim: usize) -> Result<Extents> {
        self.read(&format!("{name}.weight"), &[vocabulary, dim]);
        Ok(self.gives([&ids[..], &[dim]].concat()))
    }

    fn select(&mut self, x: &Extents, index: &Extents) -> Result<Extents> {
        let [n, _, d] = three("select", x)?;
        Ok(self.gives(vec![n, last(index), d]))
    }

    fn rms_norm(&mut self, x: &Extents, name: &str, _: f32) -> Result<Extents> {
        self.read(&format!("{name}.weight"), &[last(x)]);
        Ok(self.gives(x.clone()))
    }

    fn layer_norm(&mut self, x: &Extents, name: &str, eps: f32) -> Result<Extents> {
        self.read(&format!("{name}.bias"), &[last(x)]);
        self.rms_norm(x, name, eps)
    }

    fn rope(&mut self, x: &Extents, _: usize, _: &Extents, _: &Extents) -> Result<Extents> {
        Ok(self.gives(x.clone()))
    }

    fn attention(
        &mut self,
        q: &Extents,
        k: &Extents,
        _: &Extents,
        heads: usize,
        _: usize,
        _: Option<&Extents>,
    ) -> Result<Extents> {
        let ([n, asked, width], [_, seen, _]) = (three("attention", q)?, three("attention", k)?);
        let pairs = (n * asked * seen) as u64;
        self.macs += 2 * pairs * width as u64;
        self.inner += pairs * heads as u64;
        Ok(self.gives(q.clone()))
    }

    fn softmax(&mut self, x: &Extents) -> Result<Extents> {
        Ok(self.gives(x.clone()))
    }

    fn activate(&mut self, x: &Extents, act: Act) -> Result<Extents> {
        Ok(if act == Act::None { x.clone() } else { self.gives(x.clone()) })
    }

    fn add(&mut self, a: &Extents, b: &Extents) -> Result<Extents> {
        self.broadcast("add", a, b)
    }

    fn mul(&mut self, a: &Extents, b: &Extents) -> Result<Extents> {
        self.broadcast("mul", a, b)
    }

    fn scale(&mut self, x: &Extents, _: f32) -> Result<Extents> {
        Ok(self.gives(x.clone()))
    }

    fn matmul_t(&mut self, a: &Extents, b: &Extents) -> Result<Extents> {
        let ([n, l, d], [_, m, other]) = (three("matmul_t", a)?, three("matmul_t", b)?);
        if d != other {
            return Err(wrong("matmul_t", &format!("rows of {d}"), b));
        }
        self.macs += (n * l * m * d) as u64;
        Ok(self.gives(vec![n, l, m]))
    }

    fn concat(&mut self, xs: &[Extents], axis: usize) -> Result<Extents> {
        let mut shape = xs.first().cloned().unwrap_or_default();
        let sum = xs.iter().map(|x| x.get(axis).copied().unwrap_or(0)).sum();
        match shape.get_mut(axis) {
            Some(side) => *side = sum,
            None => return Err(wrong("concat", &format!("shapes with an axis {axis}"), &shape)),
        }
        Ok(self.gives(shape))
    }

    fn narrow(&mut self, x: &Extents, axis: usize, start: usize, len: usize) -> Result<Extents> {
        let mut shape = x.clone();
        match shape.get_mut(axis) {
            Some(side) if start + len <= *side => *side = len,
            _ => return Err(wrong("narrow", &format!("{len} from {start} along axis {axis}"), x)),
        }
        Ok(shape)
    }

    fn reshape(&mut self, x: &Extents, shape: &[usize]) -> Result<Extents> {
        if elements(x) != elements(shape) {
            return Err(wrong("reshape", &format!("as many elements as {shape:?}"), x));
        }
        Ok(shape.to_vec())
    }

    fn repeat_batch(&mut self, x: &Extents, times: usize) -> Result<Extents> {
        let mut shape = x.clone();
        if let Some(side) = shape.first_mut() {
            *side *= times;
        }
        Ok(if times == 1 { shape } else { self.gives(shape) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::candle::{Candle, Params};
    use crate::kestrel::{Config, trunk::trunk, vision};

    #[test]
    fn efficientnet_lite0_costs_what_is_published() {
        let mut cost = Cost::default();
        trunk(&mut cost, &vec![1, 224, 224, 3]).unwrap();
        // Published: 407 million for the whole classifier (TensorFlow's EfficientNet-Lite README); its head of 320 to 1,280
        // channels on 7 × 7 (20 million) and to 1,000 classes (1 million) is not part of the trunk.
        let millions = cost.macs as f64 / 1e6;
        assert!((350.0..407.0).contains(&millions), "{millions} million");
    }

    #[test]
    fn shapes_and_parameters_are_those_that_candle_computes() {
        let config = Config::tiny();
        let params = Params::new(&Device::Cpu, 1);
        let image = Tensor::zeros((1, config.image, config.image, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let seen = vision(&mut Candle::evaluating(&params), &config, &image).unwrap();
        let mut cost = Cost::default();
        let counted = vision(&mut cost, &config, &vec![1, config.image, config.image, 3]).unwrap();
        for (is, counted) in
            [(&seen.tokens, &counted.tokens), (&seen.fine, &counted.fine), (&seen.spots, &counted.spots)]
        {
            assert_eq!(is.dims(), &counted[..]);
        }
        let is: BTreeMap<String, u64> =
            params.tensors().into_iter().map(|(name, t)| (name, t.elem_count() as u64)).collect();
        assert_eq!(is, cost.parameters);
        assert!(cost.results > 0 && cost.inner > 0);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut cost = Cost::default();
        assert!(cost.add(&vec![1, 2, 3], &vec![1, 2, 4]).is_err());
        assert!(cost.matmul_t(&vec![1, 2, 3], &vec![1, 2, 4]).is_err());
        assert!(cost.narrow(&vec![1, 2, 3], 1, 1, 2).is_err());
        assert!(cost.reshape(&vec![1, 2, 3], &[1, 7, 1]).is_err());
        assert!(cost.concat(&[], 0).is_err());
        assert!(cost.conv(&vec![1, 2, 3], "x", 4, Conv { kernel: 3, stride: 1, act: Act::None }).is_err());
    }
}
