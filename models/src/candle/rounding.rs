//! Values rounded to integers' multiples, with a straight-through gradient (Bengio et al., arXiv 1308.3432).

use super::binary;
use super::storage::{Floats, slice, tensor};
use crate::quantise::{Rounding, kernel};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Values one task handles at a time.
const BLOCK: usize = 16 * 1024;
/// Added and taken away again, it leaves the nearest integer, ties to even, of magnitudes below 2²².
const TO_INTEGER: f64 = 12_582_912.0;

/// An activation as the quantised graph will have it.
pub(crate) fn round_activation(x: &Tensor, rounding: Rounding) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Activations(rounding));
    }
    let (low, high) = rounding.codes();
    let within = x.clamp(low * rounding.scale, high * rounding.scale)?;
    let codes = ((within.detach() * (1.0 / f64::from(rounding.scale)))? + TO_INTEGER)?;
    let rounded = ((codes - TO_INTEGER)?.clamp(low, high)? * f64::from(rounding.scale))?;
    // The gradient of what lies within; its value is taken away again.
    binary::add(&within, &(rounded - within.detach())?)
}

/// A kernel with channels along `axis` as the quantised graph stores it.
pub(crate) fn round_kernel(weight: &Tensor, axis: usize, levels: i8) -> Result<Tensor> {
    if weight.device().is_cpu() {
        return weight.contiguous()?.apply_op1(Channels { axis, levels });
    }
    let fixed = weight.detach();
    let mut largest = fixed.abs()?;
    for other in (0..weight.rank()).filter(|other| *other != axis) {
        largest = largest.max_keepdim(other)?;
    }
    let scale = ((largest / f64::from(levels))? + 1e-30)?;
    let codes = ((fixed.broadcast_div(&scale)? + TO_INTEGER)? - TO_INTEGER)?;
    let rounded = codes.broadcast_mul(&scale)?;
    binary::add(weight, &(rounded - &fixed)?)
}

/// Rounds all values alike.
struct Activations(Rounding);

impl CustomOp1 for Activations {
    fn name(&self) -> &'static str {
        "round_activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = self.0.round(*x);
            }
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (values, g) = (Floats::of(x)?, Floats::of(&grad)?);
        let pass = |(x, g): (&f32, &f32)| if self.0.reaches(*x) { *g } else { 0.0 };
        let dx = values.slice().iter().zip(g.slice()).map(pass).collect();
        Ok(Some(tensor(dx, x)?))
    }
}

/// Rounds each channel by a scale of its own.
struct Channels {
    axis: usize,
    levels: i8,
}

impl CustomOp1 for Channels {
    fn name(&self) -> &'static str {
        "round_kernel"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = slice(storage, layout)?;
        let dims = layout.dims();
        let Some(&channels) = dims.get(self.axis) else {
            bail!("round_kernel: expected an axis {}, got {dims:?}", self.axis)
        };
        let inner: usize = dims[self.axis + 1..].iter().product();
        let rounded = kernel("kernel", values, channels, inner, self.levels)
            .map_err(|error| candle_core::Error::Msg(error.to_string()))?;
        let value = |(i, code): (usize, &i8)| f32::from(*code) * rounded.scales[i / inner.max(1) % channels.max(1)];
        Ok((CpuStorage::F32(rounded.codes.iter().enumerate().map(value).collect()), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}
