//! Trains and evaluates: the interpreter of [`Ops`] on candle's tensors.
//!
//! Maps lie channel-last in memory. On the CPU the heavy operations are our own, forward and backward; elsewhere they
//! are put together from candle's. The kernels use rayon's current pool: a caller who handles samples in parallel
//! installs a pool of one thread in each of his workers.

mod activation;
mod attention;
mod binary;
mod composed;
#[cfg(feature = "cuda")]
mod cuda;
mod depthwise;
mod linear;
pub mod lora;
mod norm;
pub mod overlap;
mod params;
mod rounding;
mod simd;
mod spatial;
mod storage;

pub use params::{Params, sum_grads};
pub(crate) use rounding::{round_activation, round_kernel};

use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Init, Ops};
use crate::quantise::residual;
use activation::{Activation, fuses};
use candle_core::{DType, Device, Tensor};

/// Bytes that are free on a GPU; none for any other device.
///
/// # Errors
/// When the driver does not say.
pub fn free_memory(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Ok(Some(cuda::free_memory(device)?)),
        _ => Ok(None),
    }
}

/// What happens to tensors at the places where a quantised graph rounds, see [`crate::quantise`].
pub trait Places: std::fmt::Debug + Sync {
    /// The tensor that is read at `place`, as the layer shall have it.
    ///
    /// # Errors
    /// When the tensor cannot be taken.
    fn activation(&self, place: &str, x: &Tensor) -> Result<Tensor>;

    /// The kernel of `layer`, whose output channels lie along `axis`, as the layer shall have it.
    ///
    /// # Errors
    /// When the kernel cannot be taken.
    fn kernel(&self, layer: &str, weight: &Tensor, axis: usize) -> Result<Tensor>;
}

/// An interpreter for one pass; cheap to make. Several may share the same [`Params`] from several threads.
#[derive(Debug, Clone)]
pub struct Candle<'a> {
    params: &'a Params,
    detach: bool,
    frozen_prefixes: Vec<String>,
    composed: bool,
    places: Option<&'a dyn Places>,
}

impl<'a> Candle<'a> {
    /// For training: results remember how they came about, as far as they depend on a parameter that is not frozen.
    pub fn new(params: &'a Params) -> Self {
        let composed = !params.device().is_cpu();
        Self { params, detach: false, frozen_prefixes: Vec::new(), composed, places: params.places() }
    }

    /// For evaluation: nothing is kept for a backward pass.
    pub fn evaluating(params: &'a Params) -> Self {
        Self { detach: true, ..Self::new(params) }
    }

    /// For training, by candle's own operations alone: the slow reference of the kernels.
    pub fn composed(params: &'a Params) -> Self {
        Self { composed: true, ..Self::new(params) }
    }

    /// Detaches the parameters whose names start so. Where all parameters of a stage are detached and its inputs are
    /// data, the stage leaves no graph and costs no backward pass.
    pub fn set_frozen_prefixes(&mut self, prefixes: Vec<String>) {
        self.frozen_prefixes = prefixes;
    }

    /// The same, watched or rounded where a quantised graph rounds; in the place of what the parameters say of it.
    #[must_use]
    pub fn with_places(self, places: &'a dyn Places) -> Self {
        Self { places: Some(places), ..self }
    }

    /// A tensor as it is read at a place.
    fn at(&self, place: &str, x: &Tensor) -> Result<Tensor> {
        self.places.map_or_else(|| Ok(x.clone()), |places| places.activation(place, x))
    }

    /// The kernel of a layer, with its output channels along `axis`.
    fn kernel(&self, layer: &str, shape: &[usize], axis: usize, init: Init) -> Result<Tensor> {
        let weight = self.weight(layer, shape, init)?;
        self.places.map_or_else(|| Ok(weight.clone()), |places| places.kernel(layer, &weight, axis))
    }

    fn get(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let detach = self.detach || self.frozen_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
        self.params.get(name, shape, init, detach)
    }

    fn weight(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.get(&format!("{name}.weight"), shape, init)
    }

    fn bias(&self, name: &str, out: usize) -> Result<Tensor> {
        self.get(&format!("{name}.bias"), &[out], Init::Zeros)
    }

    /// `act(x · weightᵀ + bias)`, in one operation as far as the activation allows.
    fn affine(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, act: Act) -> Result<Tensor> {
        if self.composed {
            return Ok(composed::linear(x, weight, bias, act)?);
        }
        let op = linear::Linear(if fuses(act) { act } else { Act::None });
        let x = x.contiguous()?;
        let y = match bias {
            Some(bias) => x.apply_op3(weight, bias, op)?,
            None => x.apply_op2(weight, op)?,
        };
        self.rest(y, act)
    }

    /// The activation, where it was not fused.
    fn rest(&self, y: Tensor, act: Act) -> Result<Tensor> {
        match fuses(act) {
            true => Ok(y),
            false => Ok(y.apply_op1(Activation(act))?),
        }
    }
}

/// Variance-preserving deviation for `fan_in` inputs (He et al. 2015 where half of the outputs is cut off).
fn deviation(fan_in: usize, act: Act) -> Init {
    let gain = match act {
        Act::None | Act::Sigmoid => 1.0,
        Act::Relu | Act::Relu6 | Act::Gelu | Act::Silu => 2.0,
    };
    Init::Normal((gain / fan_in.max(1) as f32).sqrt())
}

fn expect_rank(operation: &'static str, name: &str, x: &Tensor, rank: usize) -> Result<()> {
    if x.rank() == rank {
        return Ok(());
    }
    let expected = if rank == 4 { "a map [N, H, W, C]" } else { "rows [N, L, D]" };
    Err(Error::Shape { operation, name: name.into(), expected: expected.into(), got: x.dims().to_vec() })
}

fn last(x: &Tensor) -> usize {
    x.dims().last().copied().unwrap_or(1)
}

impl Ops for Candle<'_> {
    type T = Tensor;

    fn shape(&self, x: &Tensor) -> Vec<usize> {
        x.dims().to_vec()
    }

    fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.get(name, shape, init)
    }

    fn constant(&mut self, data: &[f32], shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(data, shape, self.params.device())?)
    }

    fn conv(&mut self, x: &Tensor, name: &str, out: usize, conv: Conv) -> Result<Tensor> {
        expect_rank("conv", name, x, 4)?;
        let Conv { kernel, stride, act } = conv;
        let channels = last(x);
        let init = deviation(kernel * kernel * channels, act);
        let weight = self.kernel(name, &[out, kernel, kernel, channels], 0, init)?;
        let x = self.at(name, x)?;
        let bias = self.bias(name, out)?;
        let patches = match self.composed {
            true => composed::patches(&x, kernel, stride)?,
            false => x.contiguous()?.apply_op1(spatial::Patches { kernel, stride })?,
        };
        self.affine(&patches, &weight, Some(&bias), act)
    }

    fn depthwise(&mut self, x: &Tensor, name: &str, conv: Conv) -> Result<Tensor> {
        expect_rank("depthwise", name, x, 4)?;
        let Conv { kernel, act, .. } = conv;
        let channels = last(x);
        let weight = self.kernel(name, &[kernel, kernel, channels], 2, deviation(kernel * kernel, act))?;
        let x = self.at(name, x)?;
        let bias = self.bias(name, channels)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let op = cuda::Depthwise { kernel, stride: conv.stride };
            let y = x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?;
            return Ok(composed::activate(&y, act)?);
        }
        if self.composed {
            return Ok(composed::depthwise(&x, &weight, &bias, conv)?);
        }
        let fused = Conv { act: if fuses(act) { act } else { Act::None }, ..conv };
        let y = x.contiguous()?.apply_op3(&weight, &bias, depthwise::Depthwise(fused))?;
        self.rest(y, act)
    }

    fn linear(&mut self, x: &Tensor, name: &str, out: usize, bias: bool, act: Act) -> Result<Tensor> {
        let inner = last(x);
        let weight = self.kernel(name, &[out, inner], 0, deviation(inner, act))?;
        let bias = if bias { Some(self.bias(name, out)?) } else { None };
        self.affine(&self.at(name, x)?, &weight, bias.as_ref(), act)
    }

    fn upsample_nearest(&mut self, x: &Tensor, factor: usize) -> Result<Tensor> {
        expect_rank("upsample_nearest", "", x, 4)?;
        match self.composed {
            true => Ok(composed::upsample_nearest(x, factor)?),
            false => Ok(x.contiguous()?.apply_op1(spatial::Upsample(factor))?),
        }
    }

    fn to_rows(&mut self, x: &Tensor) -> Result<Tensor> {
        expect_rank("to_rows", "", x, 4)?;
        Ok(x.flatten(1, 2)?)
    }

    fn to_map(&mut self, x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        expect_rank("to_map", "", x, 3)?;
        Ok(x.reshape((x.dim(0)?, height, width, last(x)))?)
    }

    fn embedding(&mut self, ids: &Tensor, name: &str, vocabulary: usize, dim: usize) -> Result<Tensor> {
        let weight = self.kernel(name, &[vocabulary, dim], 0, Init::Normal(0.02))?;
        let (n, length) = ids.dims2()?;
        Ok(weight.index_select(&ids.flatten_all()?, 0)?.reshape((n, length, dim))?)
    }

    fn select(&mut self, x: &Tensor, index: &Tensor) -> Result<Tensor> {
        expect_rank("select", "", x, 3)?;
        let (n, k) = index.dims2()?;
        let index = index.unsqueeze(2)?.broadcast_as((n, k, last(x)))?.contiguous()?;
        Ok(x.contiguous()?.gather(&index, 1)?)
    }

    fn rms_norm(&mut self, x: &Tensor, name: &str, eps: f32) -> Result<Tensor> {
        let weight = self.weight(name, &[last(x)], Init::Ones)?;
        match self.composed {
            true => Ok(composed::rms_norm(x, &weight, eps)?),
            false => Ok(x.contiguous()?.apply_op2(&weight, norm::RmsNorm(eps))?),
        }
    }

    fn layer_norm(&mut self, x: &Tensor, name: &str, eps: f32) -> Result<Tensor> {
        let (weight, bias) = (self.weight(name, &[last(x)], Init::Ones)?, self.bias(name, last(x))?);
        match self.composed {
            true => Ok(composed::layer_norm(x, &weight, &bias, eps)?),
            false => Ok(x.contiguous()?.apply_op3(&weight, &bias, norm::LayerNorm(eps))?),
        }
    }

    fn rope(&mut self, x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        if self.composed {
            return Ok(composed::rope(x, heads, cos, sin)?);
        }
        let op = attention::Rope { heads };
        Ok(x.contiguous()?.apply_op3(&cos.contiguous()?, &sin.contiguous()?, op)?)
    }

    fn attention(
        &mut self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: usize,
        kv_heads: usize,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        if self.composed {
            return Ok(composed::attention((q, k, v), heads, kv_heads, mask)?);
        }
        let mask = mask.map(|mask| mask.detach().to_dtype(DType::F32)?.contiguous()).transpose()?;
        let op = attention::Attention { heads, kv_heads, mask };
        Ok(q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)?)
    }

    fn softmax(&mut self, x: &Tensor) -> Result<Tensor> {
        expect_rank("softmax", "", x, 3)?;
        Ok(composed::softmax(x)?)
    }

    fn activate(&mut self, x: &Tensor, act: Act) -> Result<Tensor> {
        match (self.composed, act) {
            (true, _) | (_, Act::None) => Ok(composed::activate(x, act)?),
            (false, _) => Ok(x.contiguous()?.apply_op1(Activation(act))?),
        }
    }

    fn add(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(binary::add(a, b)?)
    }

    fn residual(&mut self, branch: &Tensor, identity: &Tensor, name: &str) -> Result<Tensor> {
        let identity = match self.places {
            Some(places) => places.activation(&residual(name), identity)?,
            None => identity.clone(),
        };
        self.add(branch, &identity)
    }

    fn mul(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(binary::mul(a, b)?)
    }

    fn scale(&mut self, x: &Tensor, factor: f32) -> Result<Tensor> {
        Ok(x.affine(f64::from(factor), 0.0)?)
    }

    fn matmul_t(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(binary::matmul(&a.contiguous()?, &b.contiguous()?.t()?)?)
    }

    fn concat(&mut self, xs: &[Tensor], axis: usize) -> Result<Tensor> {
        Ok(Tensor::cat(xs, axis)?)
    }

    fn narrow(&mut self, x: &Tensor, axis: usize, start: usize, len: usize) -> Result<Tensor> {
        Ok(x.narrow(axis, start, len)?)
    }

    fn reshape(&mut self, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        expect_rank("reshape", "", x, 3)?;
        Ok(x.contiguous()?.reshape(shape)?)
    }

    fn repeat_batch(&mut self, x: &Tensor, times: usize) -> Result<Tensor> {
        match (times, self.composed) {
            (1, _) => Ok(x.clone()),
            (_, true) => Ok(composed::repeat_batch(x, times)?),
            (_, false) => Ok(x.contiguous()?.apply_op1(spatial::Repeat(times))?),
        }
    }
}
