//! Activations, and the pass behind a matrix product or convolution that adds the bias and activates.

use super::simd::{erf, exp, sigmoid, simd};
use super::storage::{Floats, slice, tensor};
use crate::ops::Act;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::borrow::Cow;

/// Values one task handles at a time: 64 KiB, so that a pass stays in the second-level cache.
const BLOCK: usize = 16 * 1024;

/// Whether the derivative follows from the output alone, so that bias and activation fuse into one pass.
pub(super) fn fuses(act: Act) -> bool {
    matches!(act, Act::None | Act::Relu | Act::Relu6 | Act::Sigmoid)
}

/// Element-wise activation with backward.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activation(pub(super) Act);

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
            y.copy_from_slice(x);
            activate(self.0, y);
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_values, y, g) = (Floats::of(x)?, Floats::of(y)?, Floats::of(&grad)?);
        let (x_values, y, g) = (x_values.slice(), y.slice(), g.slice());
        let mut dx = vec![0.0; g.len()];
        dx.par_chunks_mut(BLOCK).enumerate().for_each(|(i, dx)| {
            let range = i * BLOCK..i * BLOCK + dx.len();
            derive(self.0, &x_values[range.clone()], &y[range.clone()], &g[range], dx);
        });
        Ok(Some(tensor(dx, x)?))
    }
}

/// Adds `bias` to each row of `y` and activates, in place.
pub(super) fn finish(y: &mut [f32], bias: Option<&[f32]>, channels: usize, act: Act) {
    if (bias.is_none() && act == Act::None) || channels == 0 {
        return;
    }
    y.par_chunks_mut(block_rows(channels) * channels).for_each(|block| {
        if let Some(bias) = bias {
            add_bias(block, bias);
        }
        activate(act, block);
    });
}

/// Backward of [`finish`]: the gradient before the activation (borrowed when there was none) and, if asked for, its
/// column sums, which are the bias's gradient. `act` is one that [`fuses`].
pub(super) fn unfinish<'a>(
    y: &[f32],
    grad: &'a [f32],
    channels: usize,
    act: Act,
    bias: bool,
) -> (Cow<'a, [f32]>, Option<Vec<f32>>) {
    let size = block_rows(channels) * channels;
    let before: Cow<'a, [f32]> = if act == Act::None {
        Cow::Borrowed(grad)
    } else {
        let mut before = vec![0.0; grad.len()];
        before.par_chunks_mut(size).enumerate().for_each(|(i, before)| {
            let range = i * size..i * size + before.len();
            // The input is not needed: `fuses` holds.
            derive(act, &y[range.clone()], &y[range.clone()], &grad[range], before);
        });
        Cow::Owned(before)
    };
    let sums = bias.then(|| {
        // Summing block by block keeps rounding errors small, and the order does not depend on the threads.
        let partial: Vec<Vec<f32>> = before.par_chunks(size).map(|block| columns(block, channels)).collect();
        let mut total = vec![0.0; channels];
        for partial in &partial {
            for (total, partial) in total.iter_mut().zip(partial) {
                *total += partial;
            }
        }
        total
    });
    (before, sums)
}

fn block_rows(channels: usize) -> usize {
    (BLOCK / channels.max(1)).max(1)
}

fn columns(block: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0; channels];
    for row in block.chunks_exact(channels) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums
}

fn add_bias(block: &mut [f32], bias: &[f32]) {
    for row in block.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

simd! {
    /// Activates in place.
    fn activate(act: Act, values: &mut [f32]) = activate_body
}

#[inline(always)]
fn activate_body<const FMA: bool>(act: Act, values: &mut [f32]) {
    match act {
        Act::None => {}
        Act::Relu => map(values, |x| if x < 0.0 { 0.0 } else { x }),
        Act::Relu6 => map(values, |x| x.clamp(0.0, 6.0)),
        Act::Gelu => map(values, |x| 0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))),
        Act::Silu => map(values, |x| x * sigmoid::<FMA>(x)),
        Act::Sigmoid => map(values, sigmoid::<FMA>),
    }
}

#[inline(always)]
fn map(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in values {
        *value = f(*value);
    }
}

simd! {
    /// `dx = grad · act'(x)`, where `y = act(x)`.
    fn derive(act: Act, x: &[f32], y: &[f32], grad: &[f32], dx: &mut [f32]) = derive_body
}

#[inline(always)]
fn derive_body<const FMA: bool>(act: Act, x: &[f32], y: &[f32], grad: &[f32], dx: &mut [f32]) {
    /// `1 / sqrt(2π)`.
    const DENSITY: f32 = 0.398_942_3;
    match act {
        Act::None => dx.copy_from_slice(grad),
        Act::Relu => slope(y, grad, dx, |y| if y > 0.0 { 1.0 } else { 0.0 }),
        Act::Relu6 => slope(y, grad, dx, |y| if y > 0.0 && y < 6.0 { 1.0 } else { 0.0 }),
        Act::Sigmoid => slope(y, grad, dx, |y| y * (1.0 - y)),
        Act::Silu => slope(x, grad, dx, |x| {
            let s = sigmoid::<FMA>(x);
            s * (1.0 + x * (1.0 - s))
        }),
        Act::Gelu => slope(x, grad, dx, |x| {
            let below = 0.5 * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
            below + x * DENSITY * exp::<FMA>(-0.5 * x * x)
        }),
    }
}

#[inline(always)]
fn slope(at: &[f32], grad: &[f32], dx: &mut [f32], f: impl Fn(f32) -> f32) {
    for ((dx, &grad), &at) in dx.iter_mut().zip(grad).zip(at) {
        *dx = grad * f(at);
    }
}
